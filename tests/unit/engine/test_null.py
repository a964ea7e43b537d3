import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dyncity_sim.domain.agreement import agreement_between_frames
from dyncity_sim.domain.conditions import Command, Conditions, EgoPlan, SamplingOptions
from dyncity_sim.domain.frames import poses_from_planar
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.engine.backend import load_backend
from dyncity_sim.engine.null import VEHICLE_CLEARANCE_M, NullBackend, _pushed_apart, load
from dyncity_sim.errors import ConfigError, InvalidInputError

BACKEND = NullBackend()


def generate(conditions, seed=0, steps=None):
    return BACKEND.generate(conditions, SamplingOptions(seed=seed, steps=steps), lambda _: None)


def test_it_is_registered_and_has_no_weights():
    assert load_backend("null", None).info == BACKEND.info
    with pytest.raises(InvalidInputError, match="weights"):
        load(Path("somewhere"))


def test_an_unknown_backend_is_refused_with_those_there_are():
    with pytest.raises(InvalidInputError, match=r"one of null, torch"):
        load_backend("magic", None)


def test_the_null_backend_has_no_options():
    with pytest.raises(ConfigError, match="none with the null backend"):
        load_backend("null", None, ["precision=bf16"])


@settings(max_examples=3)
@given(st.integers(0, 2**63 - 1), st.sampled_from(Command))
def test_the_same_seed_gives_the_same_bytes(seed, command):
    first, again = (generate(Conditions(command=command), seed) for _ in range(2))
    assert first.occupancy.labels.tobytes() == again.occupancy.labels.tobytes()
    assert first.continuation == again.continuation


def test_another_seed_gives_other_vehicles_on_the_same_road():
    first, other = (generate(Conditions(), seed).occupancy.labels for seed in (1, 2))
    road = CARLASC.index("road")
    assert not np.array_equal(first, other)
    assert np.array_equal(first == road, other == road)


@pytest.mark.parametrize("command", Command)
def test_a_command_drives_the_ego_the_way_it_says(command):
    occupancy = generate(Conditions(command=command)).occupancy
    assert EgoPlan(occupancy.poses_world_from_ego, occupancy.times_us).command is command


def test_a_continued_chunk_goes_on_where_and_when_the_one_before_ended():
    first = generate(Conditions(command=Command.LEFT))
    second = generate(Conditions(command=Command.FORWARD, continuation=first.continuation), seed=99)
    assert second.occupancy.times_us[0] == first.occupancy.times_us[-1] + 100_000
    poses = np.concatenate([first.occupancy.poses_world_from_ego[-2:], second.occupancy.poses_world_from_ego[:2]])
    steps_m = np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1)
    assert np.allclose(steps_m, 0.8, atol=1e-9)


def test_vehicles_go_on_smoothly_over_the_seam():
    first = generate(Conditions(), seed=4)
    second = generate(Conditions(continuation=first.continuation), seed=5)
    vehicle = CARLASC.index("vehicle")
    last, next_ = first.occupancy.labels[-1] == vehicle, second.occupancy.labels[0] == vehicle
    assert last.any()
    assert (last & next_).sum() > 0.5 * last.sum()


def test_static_geometry_stays_in_place_while_the_ego_drives_straight():
    occupancy = generate(Conditions(command=Command.FORWARD)).occupancy
    assert agreement_between_frames(occupancy, 0, 15) > 0.9


@given(st.integers(0, 2**32))
def test_a_step_brings_vehicles_nearer_to_standing_clear_of_each_other(seed):
    rng = np.random.default_rng(seed)
    crowded = np.column_stack([rng.uniform(0, 30, 6), rng.choice([0.0, 3.2], 6), np.zeros(6), np.zeros(6)])
    relaxed = crowded
    for _ in range(60):
        relaxed = _pushed_apart(relaxed)
    assert missing_clearance_m(relaxed) < 0.2 * missing_clearance_m(crowded) + 0.1
    assert np.array_equal(relaxed[:, 1:], crowded[:, 1:])


def missing_clearance_m(vehicles):
    distance = np.linalg.norm(vehicles[:, None, :2] - vehicles[None, :, :2], axis=-1)
    return np.clip(VEHICLE_CLEARANCE_M - distance[np.triu_indices(len(vehicles), 1)], 0, None).sum()


def test_steps_have_an_effect():
    first, other = (generate(Conditions(), seed=2, steps=steps).occupancy.labels for steps in (1, 50))
    assert not np.array_equal(first, other)


def test_the_checkpoint_is_called_between_steps_and_may_stop_the_work():
    steps = []
    BACKEND.generate(Conditions(), SamplingOptions(seed=0, steps=5), steps.append)
    assert steps == [0, 1, 2, 3, 4]

    def stop(step):
        raise TimeoutError

    with pytest.raises(TimeoutError):
        BACKEND.generate(Conditions(), SamplingOptions(seed=0), stop)


def test_every_plan_is_followed_exactly():
    planar = np.column_stack([np.linspace(100, 110, 16), np.linspace(-50, -45, 16), np.linspace(2.0, 2.3, 16)])
    plan = EgoPlan(poses_from_planar(planar, z_m=30.0), 7 + np.arange(16) * 100_000)
    occupancy = generate(Conditions(plan=plan)).occupancy
    assert np.array_equal(occupancy.poses_world_from_ego, plan.poses_world_from_ego)
    centre = occupancy.labels[:, 63:65, 63:65, 0]
    assert (centre == CARLASC.index("road")).all()


def test_encoding_finds_the_vehicles_that_were_seen():
    chunk = generate(Conditions(), seed=4)
    continued = generate(Conditions(continuation=BACKEND.encode(chunk.occupancy))).occupancy.labels[0]
    vehicle = CARLASC.index("vehicle")
    seen = chunk.occupancy.labels[-1] == vehicle
    assert (continued == vehicle)[seen].mean() > 0.9
    assert (continued == vehicle).sum() < 1.3 * seen.sum()

    unseen = dataclasses.replace(chunk.occupancy, observed=np.zeros(chunk.occupancy.labels.shape, dtype=np.bool_))
    continued = generate(Conditions(continuation=BACKEND.encode(unseen))).occupancy.labels
    assert not (continued == vehicle).any()


def test_a_damaged_continuation_is_refused():
    continuation = generate(Conditions()).continuation
    for position in range(len(continuation.payload)):
        damaged = bytearray(continuation.payload)
        damaged[position] ^= 1
        with pytest.raises(InvalidInputError) as caught:
            generate(Conditions(continuation=dataclasses.replace(continuation, payload=bytes(damaged))))
        assert caught.value.field == "continuation.payload"
