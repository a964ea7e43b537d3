from dataclasses import replace

import numpy as np
import pytest
from dyncity_models.data.clips import UNOBSERVED
from dyncity_models.forecast import MOST_BRAKING_MPS2, onward, waiting
from dyncity_models.memory import DriveMemory
from dyncity_models.region import seconds_since, vehicles_to_come
from dyncity_models.vehicles import moving_vehicles

from dyncity_sim.domain.conditions import Conditions, Continuation, EgoPlan, VehicleLayout
from dyncity_sim.domain.frames import planar_from_poses
from dyncity_sim.domain.grid import CARLASC_GRID
from dyncity_sim.domain.taxonomy import CARLASC

GRID = CARLASC_GRID
VEHICLE = CARLASC.index("vehicle")


def remembered(chunk):
    """What a drive knows after a chunk that it was shown whole."""
    planar, heights_m = planar_from_poses(chunk.poses_world_from_ego), chunk.poses_world_from_ego[:, 2, 3]
    vehicles, motion = moving_vehicles(chunk)
    memory = DriveMemory.empty(planar[0], float(heights_m[0]), GRID).learn(chunk.labels, planar, heights_m, GRID)
    columns = (chunk.labels[[15, 10, 15, 10]] == VEHICLE).any(axis=-1)
    where = planar[[15, 10, 15, 10]]
    return replace(memory, movers=columns, movers_planar=where, vehicles=vehicles, motion=motion)


def continued(street):
    """How vehicles drive on in the second of a street's two chunks, and where they do in truth."""
    planar, heights_m = planar_from_poses(street.poses_world_from_ego)[16:], street.poses_world_from_ego[16:, 2, 3]
    coming = onward(remembered(street[:16]), planar, heights_m, GRID)
    seen = coming.seen_from(planar, seconds_since(street.times_us[16:], coming.frame))
    return coming, seen, street.labels[16:] == VEHICLE


def middle_m(cells):
    return (np.argwhere(cells.any(axis=-1)).mean(axis=0) + 0.5) * 0.4 - 25.6


def test_vehicles_are_numbered_cell_for_cell_with_the_speeds_they_had(build_street, street_actor):
    street = build_street(16, 6.0, [street_actor(14.0, 4.3), street_actor(6.0, -1.0, 0.0, 9.0)])
    numbers, motion = moving_vehicles(street)
    assert np.array_equal(numbers > 0, street.labels[15] == VEHICLE)
    assert set(np.unique(numbers)) == {0, 1, 2}
    assert sorted(motion[:, 5]) == pytest.approx([0.0, 9.0], abs=0.5)
    for number, (x_m, y_m, *_) in enumerate(motion, start=1):
        assert middle_m(numbers == number) == pytest.approx([x_m, y_m], abs=0.3)


def test_what_left_before_the_last_frame_and_who_walks_is_no_moving_vehicle(build_street, street_actor):
    gone = street_actor(8.0, -1.0, absent=frozenset(range(14, 16)))
    walker = replace(street_actor(9.0, 3.0), size_m=(0.6, 0.6, 1.7), label=CARLASC.index("pedestrian"))
    numbers, motion = moving_vehicles(build_street(16, 2.0, [gone, walker]))
    assert not numbers.any()
    assert motion.shape == (0, 6)


@pytest.mark.parametrize("speed_mps", [3.0, 6.0, 10.0])
def test_a_vehicle_drives_on_in_the_next_chunk_as_fast_as_it_was(build_street, street_actor, speed_mps):
    coming, seen, true = continued(build_street(32, 6.0, [street_actor(4.0, -1.0, 0.0, speed_mps)]))
    assert coming.speeds_mps == pytest.approx([speed_mps], abs=0.4)
    for frame in range(0, 16, 5):
        assert middle_m(seen[frame]) == pytest.approx(middle_m(true[frame]), abs=0.7)


def test_an_oncoming_vehicle_comes_nearer(build_street, street_actor):
    coming, seen, true = continued(build_street(32, 1.0, [street_actor(22.0, 2.4, np.pi, 7.0)]))
    assert coming.speeds_mps == pytest.approx([7.0], abs=0.4)
    assert middle_m(seen[8]) == pytest.approx(middle_m(true[8]), abs=0.7)


def test_a_vehicle_that_stood_stands(build_street, street_actor):
    coming, seen, true = continued(build_street(32, 4.0, [street_actor(16.0, 2.4, np.pi)]))
    assert coming.speeds_mps.tolist() == [0.0]
    assert all(middle_m(seen[frame]) == pytest.approx(middle_m(true[frame]), abs=0.3) for frame in range(16))


def test_a_vehicle_stops_short_of_one_that_stands_in_its_way(build_street, street_actor):
    cars = [street_actor(0.0, -1.0, 0.0, 6.0), street_actor(22.0, 0.0, np.pi / 2, size_m=(9.5, 2.4, 2.6))]
    coming, _, _ = continued(build_street(32, 1.0, cars))
    fast = int(coming.speeds_mps.argmax())
    assert coming.speeds_mps[1 - fast] == 0
    gap_m = (22.0 - 1.2) - (9.0 + 2.25)
    assert 4.0 < coming.rolled_m(np.array([1.6]))[fast, 0] < gap_m


def test_a_vehicle_brakes_as_hard_as_it_must_and_no_harder_than_it_can(build_street, street_actor):
    times_s = np.arange(17) * 0.1
    for across_m, hardest_mps2 in ((20.0, 6.0), (14.5, MOST_BRAKING_MPS2)):
        cars = [street_actor(0.0, -1.0, 0.0, 6.0), street_actor(across_m, 0.0, np.pi / 2, size_m=(9.5, 2.4, 2.6))]
        coming, _, _ = continued(build_street(32, 1.0, cars))
        fast = int(coming.speeds_mps.argmax())
        rolled_m = coming.rolled_m(times_s)[fast]
        speeds = np.diff(rolled_m) / 0.1
        assert speeds[0] == pytest.approx(6.0, abs=0.8)
        assert (np.diff(speeds) <= 1e-9).all()
        assert 1.0 < -np.diff(speeds).min() / 0.1 <= hardest_mps2 + 1e-6


def test_a_vehicle_drives_on_where_nothing_is_known(build_street, street_actor):
    street = build_street(32, 0.0, [street_actor(10.0, -1.0, 0.0, 6.0)])
    memory = remembered(street[:16])
    planar, heights_m = planar_from_poses(street.poses_world_from_ego)[16:], np.zeros(16)
    blank = replace(memory, labels=np.full_like(memory.labels, UNOBSERVED))
    coming = onward(blank, planar, heights_m, GRID)
    assert coming.brakings_mps2.tolist() == [0.0]
    assert coming.curvatures_per_m.tolist() == [0.0]


def test_who_waits_covers_what_was_covered_half_a_second_before(build_street, street_actor):
    cars = [street_actor(14.0, 4.3), street_actor(4.0, -1.0, 0.0, 6.0)]
    memory = remembered(build_street(16, 0.0, cars))
    there = waiting(memory, GRID).seen_from(memory.movers_planar[:1], np.zeros(1))[0]
    parked = memory.vehicles == 1 + int(memory.motion[:, 5].argmin())
    driving = (memory.vehicles > 0) & ~parked
    assert (there & parked).sum() > 0.95 * parked.sum()
    # Of 4.5 m it has left 3 m behind.
    assert (there & driving).sum() == pytest.approx(driving.sum() / 3, rel=0.35)


def test_the_last_frame_before_a_chunk_lies_one_frame_period_before_it():
    times_us = 5_000_000 + np.arange(16) * 100_000
    assert seconds_since(times_us, -1) == pytest.approx(np.arange(1, 17) * 0.1)
    assert seconds_since(times_us, 3) == pytest.approx(np.arange(-3, 13) * 0.1)


def test_a_layout_or_a_known_region_takes_the_place_of_how_vehicles_were_moving(build_street, street_actor):
    street = build_street(32, 6.0, [street_actor(4.0, -1.0, 0.0, 6.0)])
    memory, chunk = remembered(street[:16]), street[16:]
    planar, heights_m = planar_from_poses(chunk.poses_world_from_ego), chunk.poses_world_from_ego[:, 2, 3]
    plan = EgoPlan(chunk.poses_world_from_ego, chunk.times_us)
    plain = Conditions(plan, plan.command, Continuation("model", memory.to_bytes()))
    observed = np.zeros(chunk.labels.shape, dtype=np.bool_)
    observed[0] = True
    region = replace(chunk, observed=observed)

    def coming(conditions, memory=memory):
        return vehicles_to_come(conditions, memory, planar, heights_m, GRID, 0)

    assert coming(plain).frame == -1
    assert coming(replace(plain, layout=VehicleLayout.of(chunk))) is None
    assert coming(replace(plain, known_region=region)) is None
    assert coming(replace(plain, continuation=None, known_region=region)).frame == 0
    assert coming(plain, DriveMemory.empty(planar[0], float(heights_m[0]), GRID)) is None
