from dataclasses import replace

import numpy as np
import pytest
import torch
from dyncity_models.anchored.checkpoint import load_model
from dyncity_models.backends.anchored.backend import EVIDENCE_RADIUS_CELLS, AnchoredBackend
from dyncity_models.backends.anchored.pipeline import BF16, AnchoredPipeline
from dyncity_models.config import FORESEEN, REMEMBERED
from dyncity_models.data.clips import UNOBSERVED, Clip
from dyncity_models.data.views import mover_columns
from dyncity_models.diffusion.sampling import make_sampler
from dyncity_models.drive.memory import DriveMemory
from dyncity_models.drive.packing import pack, unpack
from dyncity_models.drive.road_users import road_users_of
from dyncity_models.execution import Execution

from dyncity_sim.domain.agreement import static_agreement
from dyncity_sim.domain.conditions import Command, Conditions, Continuation, EgoPlan, SamplingOptions, VehicleLayout
from dyncity_sim.domain.frames import inverse, planar_from_poses
from dyncity_sim.domain.grid import CARLASC_GRID, EGO_UPPER_M
from dyncity_sim.domain.taxonomy import CARLASC, CARLASC_RAW
from dyncity_sim.engine.backend import load_backend
from dyncity_sim.errors import CheckpointError, ConfigError, InvalidInputError, UnsupportedConditionError

GRID = CARLASC_GRID


@pytest.fixture
def generate(backend):
    def run(conditions, seed=0, checkpoint=lambda step: None, **options):
        return backend.generate(conditions, SamplingOptions(seed=seed, **options), checkpoint)

    return run


@pytest.fixture(scope="module")
def known_street(backend, build_street):
    """A continuation of a drive that has seen a whole street, and the street."""
    street = build_street(16, 6.0, curvature_per_m=0.02)
    planar = planar_from_poses(street.poses_world_from_ego)
    heights_m = street.poses_world_from_ego[:, 2, 3]
    memory = DriveMemory.empty(planar[0], float(heights_m[0]), GRID).learn(street.labels, planar, heights_m, GRID)
    return Continuation(backend.info.model_id, pack(memory)), street


def refused(call, field):
    with pytest.raises(InvalidInputError) as caught:
        call()
    assert caught.value.field == field


def test_it_is_found_by_its_name_and_says_what_it_can_do(weights, backend, tiny):
    info = load_backend("torch", weights).info
    assert info == backend.info
    assert info.model_id == load_model(weights).model_id
    assert info.conditions == ("known_region", "continuation", "plan", "command")
    assert info.samplers == ("euler", "heun", "dpm++2m", "unipc")
    assert (info.frames_per_chunk, info.rate_hz, info.default_steps) == (16, 10.0, 2)
    assert info.taxonomy == CARLASC
    assert isinstance(hash(info.conditions), int)


def test_weights_that_are_not_there_are_refused(tmp_path):
    with pytest.raises(CheckpointError):
        load_backend("torch", tmp_path)


def test_options_say_how_networks_run_and_change_rounding_alone(weights, build_street):
    plain, single = load_backend("torch", weights), load_backend("torch", weights, ["precision=fp32", "attention=sdpa"])
    assert plain.pipeline.execution == BF16
    assert single.pipeline.execution == Execution("fp32", channels_last=True, attention="sdpa")
    street = build_street(16, 6.0)
    tokens, poses = torch.from_numpy(street.labels)[None], torch.zeros(1, 16, 3)
    half, whole = (backend.pipeline.posterior(tokens, poses)[0].xy.float() for backend in (plain, single))
    assert 0 < (half - whole).abs().max() < 0.05 * whole.abs().max()


def test_options_of_sampling_stand_in_for_those_of_the_weights_under_another_model_id(weights, plan_along):
    shipped, same, other = (
        load_backend("torch", weights, options)
        for options in ([], ["sampling.steps=2"], ["sampling.steps=3", "sampling.sampler=unipc"])
    )
    assert same.info == shipped.info
    assert (other.info.default_steps, other.info.samplers[0]) == (3, "unipc")
    assert other.info.model_id != shipped.info.model_id
    asked = []
    other.generate(Conditions(plan_along()), SamplingOptions(seed=0), asked.append)
    assert asked == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("speed=9", "speed"),
        ("precision=fp8", "fp32, bf16, fp16"),
        ("cuda_graphs=true", "execution.cuda_graphs"),
        ("sampling.speed=9", r"sampling\.speed"),
        ("sampling.steps=many", "steps"),
        ("sampling.autoguidance=2", "without a guide"),
        ("sampling.steps=0", r"sampling\.steps: got 0, expected an integer in \[1, 1000\]"),
        ("sampling.sampler=ddpm", r"sampling\.sampler: got 'ddpm', expected one of euler"),
        ("sampling.guidance_scale=nan", r"sampling\.guidance_scale: got nan"),
        ("sampling.resamples=0", r"sampling\.resamples: got 0"),
        ("sampling.shift=inf", r"sampling\.shift: got inf, expected a number above 0"),
        ("sampling.shift=-1", r"sampling\.shift: got -1"),
        ("sampling.candidates=0", r"sampling\.candidates: got 0, expected a number of at least 1"),
        ("sampling.candidates=-2", r"sampling\.candidates: got -2"),
        ("sampling.autoguidance=nan", r"sampling\.autoguidance: got nan, expected from 0 to 20"),
        ("sampling.autoguidance_time=-inf", r"sampling\.autoguidance_time: got -inf"),
    ],
)
def test_an_option_that_is_unknown_or_cannot_be_run_is_refused(weights, option, message):
    with pytest.raises(ConfigError, match=message):
        load_backend("torch", weights, [option])


def test_a_chunk_is_known_everywhere_and_lies_on_its_plan(generate, plan_along):
    plan = plan_along(7.0, 0.1, (100.0, -40.0, 2.0))
    chunk = generate(Conditions(plan, Command.LEFT), seed=5)
    assert chunk.occupancy.labels.shape == (16, *GRID.shape)
    assert chunk.occupancy.labels.max() < UNOBSERVED
    assert chunk.occupancy.observed is None
    assert np.array_equal(chunk.occupancy.poses_world_from_ego, plan.poses_world_from_ego)
    assert np.array_equal(chunk.occupancy.times_us, plan.times_us)
    assert chunk.seed == 5
    assert chunk.timings.sampling_s > 0
    assert chunk.timings.decoding_s > 0


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(generate, plan_along):
    conditions = Conditions(plan_along())
    first, again, other = (generate(conditions, seed) for seed in (1, 1, 2))
    assert first.occupancy.labels.tobytes() == again.occupancy.labels.tobytes()
    assert first.continuation == again.continuation
    assert not np.array_equal(first.occupancy.labels, other.occupancy.labels)


@pytest.mark.parametrize(
    "change",
    [
        {"steps": 3},
        {"sampler": "heun", "steps": 3},
        {"sampler": "dpm++2m", "steps": 3},
        {"sampler": "unipc", "steps": 3},
        {"guidance_scale": 4.0},
        {"guidance_scales": {"command": 4.0}},
    ],
    ids=str,
)
def test_options_have_an_effect(generate, plan_along, change):
    conditions = Conditions(plan_along(), Command.FORWARD)
    default, euler3 = generate(conditions), generate(conditions, steps=3)
    against = euler3 if "sampler" in change else default
    assert not np.array_equal(generate(conditions, **change).occupancy.labels, against.occupancy.labels)


def test_the_command_has_an_effect(generate, plan_along):
    first, other = (generate(Conditions(plan_along(), command)).occupancy.labels for command in (None, Command.LEFT))
    assert not np.array_equal(first, other)


def test_where_in_the_world_a_drive_begins_makes_no_difference(generate, plan_along):
    """Up to rounding: almost all cells are the same."""
    here = generate(Conditions(plan_along(6.0, 0.2))).occupancy.labels
    there = generate(Conditions(plan_along(6.0, 0.2, (5e4, -3e4, 2.5)))).occupancy.labels
    assert (here == there).mean() > 0.99


def test_crossing_west_is_like_any_other_heading(generate, plan_along):
    """Headings are known up to a full turn; none of them may be seen as a whole turn within a chunk."""
    east = generate(Conditions(plan_along(6.0, 0.2, (0.0, 0.0, -0.15)))).occupancy.labels
    west = generate(Conditions(plan_along(6.0, 0.2, (0.0, 0.0, np.pi - 0.15)))).occupancy.labels
    assert (east == west).mean() > 0.99


def test_without_a_plan_or_with_another_length_it_is_refused(generate, plan_along):
    refused(lambda: generate(Conditions()), "conditions.plan")
    refused(lambda: generate(Conditions(plan_along(frames=15))), "plan.poses_world_from_ego")
    refused(lambda: generate(Conditions(plan_along(frames=17))), "plan.poses_world_from_ego")


def test_a_plan_at_another_rate_is_refused(generate, plan_along):
    plan = plan_along()
    refused(lambda: generate(Conditions(EgoPlan(plan.poses_world_from_ego, plan.times_us * 2))), "plan.times_us")


def test_a_plan_that_is_not_a_number_is_refused(plan_along):
    poses = plan_along().poses_world_from_ego.copy()
    poses[3, 0, 3] = np.nan
    refused(lambda: EgoPlan(poses, np.arange(16) * 100_000), "plan.poses_world_from_ego")


def test_an_unknown_sampler_is_refused(generate, plan_along):
    refused(lambda: generate(Conditions(plan_along()), sampler="magic"), "options.sampler")


def test_a_continuation_of_another_model_or_a_damaged_one_is_refused(generate, plan_along, known_street):
    continuation, _ = known_street
    foreign = replace(continuation, model_id="anchored-0000")
    refused(lambda: generate(Conditions(plan_along(), continuation=foreign)), "continuation.model_id")
    damaged = replace(continuation, payload=continuation.payload[:-1])
    refused(lambda: generate(Conditions(plan_along(), continuation=damaged)), "continuation.payload")


def test_a_checkpoint_that_raises_drops_the_work(generate, plan_along):
    steps = []

    def stop(step):
        steps.append(step)
        if step == 2:
            raise TimeoutError

    with pytest.raises(TimeoutError):
        generate(Conditions(plan_along()), steps=50, checkpoint=stop)
    assert steps == [0, 1, 2]


def agreement(first, first_pose, second, second_pose):
    return static_agreement(first, second, inverse(first_pose) @ second_pose, GRID, CARLASC)


def onward(street, speed_mps, plan_along):
    """A plan that goes on from the last frame of a street at another speed."""
    x, y, yaw = planar_from_poses(street.poses_world_from_ego)[-1]
    plan = plan_along(speed_mps, 0.1, (x, y, yaw))
    poses = plan.poses_world_from_ego.copy()
    poses[:, 2, 3] = street.poses_world_from_ego[-1, 2, 3]
    return EgoPlan(poses, plan.times_us)


def test_a_known_street_reappears_in_the_next_chunk(generate, known_street, plan_along):
    continuation, street = known_street
    plan = onward(street, 8.0, plan_along)
    chunk = generate(Conditions(plan, continuation=continuation))
    before, before_pose = street.labels[-1], street.poses_world_from_ego[-1]
    forgetful = generate(Conditions(plan))
    for frame in (0, 15):
        arguments = (chunk.occupancy.labels[frame], plan.poses_world_from_ego[frame], before, before_pose)
        assert agreement(*arguments) > 0.9
        assert agreement(forgetful.occupancy.labels[frame], *arguments[1:]) < 0.5


def test_what_was_generated_reappears_in_the_chunk_after(generate, known_street, plan_along):
    continuation, street = known_street
    first = generate(Conditions(onward(street, 8.0, plan_along), continuation=continuation))
    plan = onward(first.occupancy, 4.0, plan_along)
    second = generate(Conditions(plan, continuation=first.continuation), seed=9)
    memory = unpack(first.continuation.payload, GRID)
    planar, heights_m = planar_from_poses(plan.poses_world_from_ego), plan.poses_world_from_ego[:, 2, 3]
    known = memory.seen_from(planar, heights_m, GRID, straight=True)
    occupied = (known != UNOBSERVED) & (known != 0)
    assert occupied[0].mean() > 0.15
    assert np.array_equal(second.occupancy.labels[occupied], known[occupied])
    # new to the street that was known: the strip that the first chunk generated ahead of it
    learnt = unpack(continuation.payload, GRID)
    fresh = occupied & (learnt.seen_from(planar, heights_m, GRID) == UNOBSERVED)
    assert fresh[0].any()


def test_known_free_space_holds_nothing_but_movers(generate, known_street, plan_along):
    continuation, street = known_street
    plan = onward(street, 8.0, plan_along)
    chunk = generate(Conditions(plan, continuation=continuation))
    memory = unpack(continuation.payload, GRID)
    planar, heights_m = planar_from_poses(plan.poses_world_from_ego), plan.poses_world_from_ego[:, 2, 3]
    known = memory.seen_from(planar, heights_m, GRID, straight=True)
    inside = np.unique(chunk.occupancy.labels[known == 0])
    assert set(inside.tolist()) <= {0, *CARLASC.moving_labels}


def test_whatever_is_decoded_the_static_world_of_a_chunk_is_rigid(generate, plan_along):
    chunk = generate(Conditions(plan_along(8.0, 0.0))).occupancy
    pose = inverse(chunk.poses_world_from_ego[0]) @ chunk.poses_world_from_ego[-1]
    x, y = np.meshgrid(GRID.centres(0), GRID.centres(1), indexing="ij")
    beyond_ego = (np.hypot(x, y) > np.hypot(*EGO_UPPER_M[:2]))[..., None]
    static = ~np.isin(chunk.labels[0], CARLASC.moving_labels) & beyond_ego
    assert static_agreement(chunk.labels[0], chunk.labels[-1], pose, GRID, CARLASC, first_mask=static) == 1.0


def test_movers_of_the_last_frames_travel_in_the_continuation(generate, plan_along):
    chunk = generate(Conditions(plan_along()))
    memory = unpack(chunk.continuation.payload, GRID)
    expected = mover_columns(torch.from_numpy(chunk.occupancy.labels[[15, 10]])[None])[0]
    assert np.array_equal(memory.movers, expected.numpy())
    planar = planar_from_poses(chunk.occupancy.poses_world_from_ego)
    assert np.allclose(memory.movers_planar, planar[[15, 10, 15, 10]])
    users, motion = road_users_of(chunk.occupancy)
    assert np.array_equal(memory.road_users, users)
    assert np.array_equal(memory.motion, motion)


def test_encoding_keeps_only_what_there_is_evidence_for(backend, street_clip, occupancy_of):
    observed = np.zeros(street_clip.labels[:16].shape, dtype=bool)
    observed[:, 80:100, 30:60, 0] = True
    standing = Clip(street_clip.labels[[0] * 16], observed, street_clip.planar[[0] * 16])
    continuation = backend.encode(occupancy_of(standing))
    memory = unpack(continuation.payload, GRID)
    known = (memory.seen_from(standing.planar[:1], np.zeros(1), GRID)[0] != UNOBSERVED).any(axis=-1)
    reach = EVIDENCE_RADIUS_CELLS
    near = np.zeros_like(known)
    near[80 - reach : 100 + reach, 30 - reach : 60 + reach] = True
    assert not known[~near].any()
    assert known[near].mean() > 0.5


def test_movers_that_were_seen_are_handed_on_as_they_were_seen(backend, build_street, street_actor):
    walker = street_actor(12.0, 6.5, 0.0, 1.5, size_m=(0.8, 0.8, 1.7), label=CARLASC.index("pedestrian"))
    street = build_street(16, 4.0, [street_actor(14.0, -1.0, 0.0, 6.0), walker])
    memory = unpack(backend.encode(street).payload, GRID)
    users, motion = road_users_of(street)
    assert np.array_equal(memory.road_users, users)
    assert np.array_equal(memory.motion, motion)


def test_encoding_nothing_leaves_a_drive_that_begins_anew(backend, generate, street_clip, occupancy_of, plan_along):
    unseen = Clip(street_clip.labels[:16], np.zeros((16, *GRID.shape), dtype=bool), street_clip.planar[:16])
    memory = unpack(backend.encode(occupancy_of(unseen)).payload, GRID)
    assert (memory.labels == UNOBSERVED).all()


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"taxonomy": CARLASC_RAW}, "occupancy.taxonomy_id"),
        ({"grid": replace(GRID, lower_m=(-25.6, -25.6, -1.8))}, "occupancy.grid"),
    ],
    ids=["taxonomy", "grid"],
)
def test_encoding_another_grid_or_taxonomy_is_refused(backend, street_clip, occupancy_of, change, field):
    occupancy = occupancy_of(street_clip.frames(0, 16))
    refused(lambda: backend.encode(replace(occupancy, **change)), field)


def test_encoding_another_number_of_frames_is_refused(backend, street_clip, occupancy_of):
    refused(lambda: backend.encode(occupancy_of(street_clip.frames(0, 15))), "occupancy.poses_world_from_ego")


@pytest.fixture(scope="module")
def left_side(build_street, street_actor):
    """A street of which the left half is known: a car stands there, the ego drives."""
    street = build_street(16, 6.0, [street_actor(10.0, 4.0)])
    observed = np.zeros(street.labels.shape, dtype=bool)
    observed[:, :, 64:] = True
    return replace(street, observed=observed)


def plan_of(street):
    return EgoPlan(street.poses_world_from_ego, street.times_us)


def test_known_cells_come_back_as_they_are_and_the_rest_is_generated(generate, left_side):
    plan = plan_of(left_side)
    chunk = generate(Conditions(plan, known_region=left_side), seed=3).occupancy
    assert np.array_equal(chunk.labels[left_side.observed], left_side.labels[left_side.observed])
    assert chunk.observed is None
    alone = generate(Conditions(plan), seed=3).occupancy
    assert not np.array_equal(chunk.labels[:, :, :64], alone.labels[:, :, :64])
    other = generate(Conditions(plan, known_region=left_side), seed=4).occupancy
    assert not np.array_equal(chunk.labels[:, :, :64], other.labels[:, :, :64])


def test_walking_intervals_again_has_an_effect_only_where_something_is_known(generate, left_side):
    plan = plan_of(left_side)
    once, twice = (generate(Conditions(plan, known_region=left_side), resamples=n).occupancy for n in (1, 2))
    assert not np.array_equal(once.labels, twice.labels)
    once, twice = (generate(Conditions(plan), resamples=n).occupancy for n in (1, 2))
    assert once.labels.tobytes() == twice.labels.tobytes()


def test_settled_latents_are_sampled_as_they_are(backend, left_side):
    planar, heights_m = planar_from_poses(left_side.poses_world_from_ego), left_side.poses_world_from_ego[:, 2, 3]
    unknown = np.full(left_side.labels.shape, UNOBSERVED, np.uint8)
    known = backend.canvas.settled(left_side, unknown, planar, 2)
    memory = DriveMemory.empty(planar[0], float(heights_m[0]), GRID)
    conditions = backend.canvas.conditions(Conditions(), planar, heights_m, memory, unknown)
    planes = backend.pipeline.generate(
        conditions, torch.Generator().manual_seed(0), make_sampler("heun", "flow", 3), {}, known=known
    )
    assert 0.1 < float(known.mask.float().mean()) < 0.6
    assert torch.equal(planes.flat()[known.mask], known.values[known.mask])


def test_a_known_region_is_guided_with_a_scale_of_its_own(generate, left_side):
    conditions = Conditions(plan_of(left_side), known_region=left_side)
    plain, pushed, other = (
        generate(conditions, guidance_scales=scales).occupancy.labels
        for scales in ({}, {"known_region": 4.0}, {"plan": 4.0})
    )
    assert not np.array_equal(plain, pushed)
    assert not np.array_equal(pushed, other)


def test_a_known_region_and_a_continuation_are_guided_apart(generate, known_street, left_side):
    continuation, _ = known_street
    conditions = Conditions(plan_of(left_side), continuation=continuation, known_region=left_side)
    scales = ({}, {"known_region": 3.0}, {"continuation": 3.0}, {"known_region": 3.0, "continuation": 3.0})
    labels = [generate(conditions, guidance_scales=s).occupancy.labels for s in scales]
    for first in range(len(labels)):
        for second in range(first):
            assert not np.array_equal(labels[first], labels[second]), (scales[first], scales[second])


def test_a_hole_is_filled_and_all_around_it_stays(generate, build_street):
    street = build_street(16, 6.0)
    observed = np.ones(street.labels.shape, dtype=bool)
    observed[:, 40:70, 50:90] = False
    labels = np.where(observed, street.labels, CARLASC.index("pole")).astype(np.uint8)
    region = replace(street, labels=labels, observed=observed)
    chunk = generate(Conditions(plan_of(street), known_region=region)).occupancy
    assert np.array_equal(chunk.labels[observed], street.labels[observed])
    assert len(np.unique(chunk.labels[~observed])) > 1


def test_what_is_under_the_mask_of_a_region_makes_no_difference(generate, left_side):
    """Labels of unknown cells say nothing."""
    scrambled = replace(left_side, labels=np.where(left_side.observed, left_side.labels, 7).astype(np.uint8))
    first, second = (generate(Conditions(plan_of(r), known_region=r)) for r in (left_side, scrambled))
    assert first.occupancy.labels.tobytes() == second.occupancy.labels.tobytes()
    assert first.continuation == second.continuation


def test_one_frame_becomes_a_chunk_whose_static_world_is_that_of_the_frame(generate, build_street, street_actor):
    street = build_street(16, 6.0, [street_actor(10.0, 4.0)], curvature_per_m=0.02)
    observed = np.zeros(street.labels.shape, dtype=bool)
    observed[0] = True
    chunk = generate(Conditions(plan_of(street), known_region=replace(street, observed=observed))).occupancy
    assert np.array_equal(chunk.labels[0], street.labels[0])
    poses = street.poses_world_from_ego
    assert agreement(street.labels[0], poses[0], chunk.labels[15], poses[15]) > 0.9


def test_of_one_frame_the_seed_draws_where_vehicles_go_unless_a_layout_says_it(with_layout, build_street, street_actor):
    """What is drawn reaches the network as a layout, and through holes in the known world."""
    street = build_street(16, 6.0, [street_actor(12.0, -1.0, 0.0, 6.0)])
    observed = np.zeros(street.labels.shape, dtype=bool)
    observed[0] = True
    given = Conditions(plan_of(street), known_region=replace(street, observed=observed))
    standing = np.repeat(VehicleLayout.of(street).cells[:1], 16, axis=0)
    held = replace(given, layout=VehicleLayout(standing))
    drawn, again, still = (
        with_layout.generate(conditions, SamplingOptions(seed=1), lambda step: None).occupancy.labels
        for conditions in (given, given, held)
    )
    assert drawn.tobytes() == again.tobytes()
    assert not np.array_equal(drawn[1:], still[1:])
    assert np.array_equal(drawn[0], street.labels[0])
    assert np.array_equal(still[0], street.labels[0])


@pytest.fixture
def on_its_way(with_layout, build_street, street_actor):
    """A plan, what follows it, and continuations of a drive whose vehicle drives on and of one where it stands."""
    street = build_street(32, 6.0, [street_actor(4.0, -1.0, 0.0, 6.0)])
    before, plan = street[:16], plan_of(street[16:])
    planar, heights_m = planar_from_poses(before.poses_world_from_ego), before.poses_world_from_ego[:, 2, 3]
    users, motion = road_users_of(before)
    columns = (users > 0).any(axis=-1)
    memory = replace(
        DriveMemory.empty(planar[0], float(heights_m[0]), GRID).learn(before.labels, planar, heights_m, GRID),
        movers=np.stack([columns, columns, 0 * columns, 0 * columns]).astype(bool),
        movers_planar=planar[[15, 15, 15, 15]],
        road_users=users,
    )
    follows, stays = (
        Continuation(with_layout.info.model_id, pack(replace(memory, motion=speeds)))
        for speeds in (motion, motion * np.array([1, 1, 1, 1, 1, 0, 1]))
    )
    return plan, street[16:], follows, stays


def labels_of(backend, plan, **given):
    return backend.generate(Conditions(plan, **given), SamplingOptions(seed=1), lambda step: None).occupancy.labels


def test_how_vehicles_were_moving_reaches_the_network_unless_a_layout_says_where_they_go(with_layout, on_its_way):
    plan, after, follows, stays = on_its_way
    once, again, other = (labels_of(with_layout, plan, continuation=c) for c in (follows, follows, stays))
    assert once.tobytes() == again.tobytes()
    assert not np.array_equal(once, other)
    layout = VehicleLayout.of(after)
    one, other = (labels_of(with_layout, plan, continuation=c, layout=layout) for c in (follows, stays))
    assert np.array_equal(one, other)


@pytest.mark.parametrize(("known_world", "hidden"), [(FORESEEN, True), (REMEMBERED, False)])
def test_weights_are_shown_holes_where_vehicles_will_be_only_if_they_learnt_from_such(
    with_layout, on_its_way, known_world, hidden, monkeypatch
):
    plan, after, follows, _ = on_its_way
    model = with_layout.pipeline.model
    config = replace(model.config, known_world=known_world)
    backend = AnchoredBackend(AnchoredPipeline(replace(model, config=config), torch.device("cpu")))
    shown, conditions = [], backend.canvas.conditions

    def seen(*arguments):
        shown.append(arguments[-1])
        return conditions(*arguments)

    monkeypatch.setattr(backend.canvas, "conditions", seen)
    labels_of(backend, plan, continuation=follows)
    (known,) = shown
    vehicle = after.labels[8] == CARLASC.index("vehicle")
    assert vehicle.any()
    assert ((known[8][vehicle] == UNOBSERVED).mean() > 0.5) == hidden


def test_a_known_region_is_believed_over_the_drive_and_taught_to_it(generate, known_street, plan_along):
    continuation, street = known_street
    plan = onward(street, 6.0, plan_along)
    before = generate(Conditions(plan, continuation=continuation)).occupancy
    road, sidewalk = CARLASC.index("road"), CARLASC.index("sidewalk")
    observed = np.zeros(before.labels.shape, dtype=bool)
    observed[0, :, 64:, 0] = True
    paved = np.where(before.labels == road, sidewalk, before.labels).astype(np.uint8)
    region = replace(before, labels=paved, observed=observed)
    chunk = generate(Conditions(plan, continuation=continuation, known_region=region))
    was_road = before.labels == road
    assert (chunk.occupancy.labels[observed & was_road] == sidewalk).all()
    # what one frame taught holds in the others and in the next chunk, what it did not stays as the drive knew it
    later = chunk.occupancy.labels[5]
    assert (later[20:100, 70:90, 0][was_road[5, 20:100, 70:90, 0]] == sidewalk).mean() > 0.95
    assert (later[20:50, 30:55, 0][was_road[5, 20:50, 30:55, 0]] == road).mean() > 0.95
    # So slow that it does not drive over the sidewalk, which would be forgotten.
    after = generate(Conditions(onward(chunk.occupancy, 0.5, plan_along), continuation=chunk.continuation))
    poses = plan.poses_world_from_ego[-1], after.occupancy.poses_world_from_ego[0]
    assert agreement(chunk.occupancy.labels[-1], poses[0], after.occupancy.labels[0], poses[1]) > 0.9


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"taxonomy": CARLASC_RAW}, "known_region.taxonomy_id"),
        ({"grid": replace(GRID, lower_m=(-25.6, -25.6, -1.8))}, "known_region.grid"),
    ],
    ids=["taxonomy", "grid"],
)
def test_a_region_of_another_grid_or_taxonomy_is_refused(generate, left_side, change, field):
    region = replace(left_side, **change)
    refused(lambda: generate(Conditions(plan_of(left_side), known_region=region)), field)


def test_a_layout_is_refused_by_weights_that_were_not_trained_with_one(generate, plan_along):
    layout = VehicleLayout(np.zeros((16, 32, 32), dtype=bool))
    with pytest.raises(UnsupportedConditionError, match="layout"):
        generate(Conditions(plan_along(), layout=layout))


@pytest.fixture(scope="module")
def with_layout(layout_weights):
    """The backend with random weights that take a layout."""
    return AnchoredBackend(AnchoredPipeline(load_model(layout_weights), torch.device("cpu")))


def test_the_same_layout_gives_the_same_bytes_and_another_others(with_layout, plan_along):
    assert with_layout.info.conditions == ("known_region", "continuation", "plan", "layout", "command")
    empty = np.zeros((16, 32, 32), dtype=bool)
    one = empty.copy()
    one[:, 20, 14] = True
    given = [None, *(VehicleLayout(cells) for cells in (empty, one, one))]
    labels = [
        with_layout.generate(Conditions(plan_along(), layout=layout), SamplingOptions(seed=1), lambda step: None)
        for layout in given
    ]
    chunks = [chunk.occupancy.labels.tobytes() for chunk in labels]
    assert chunks[2] == chunks[3]
    assert len(set(chunks)) == 3


@pytest.mark.parametrize("scales", [{"layout": 4.0}, {"layout": 0.0}, {"layout": 2.0, "plan": 3.0, "command": 0.5}])
def test_a_layout_is_guided_with_a_scale_of_its_own(with_layout, plan_along, scales):
    cells = np.zeros((16, 32, 32), dtype=bool)
    cells[:, 20, 14] = True
    conditions = Conditions(plan_along(), Command.FORWARD, layout=VehicleLayout(cells))
    plain, pushed = (
        with_layout.generate(conditions, SamplingOptions(seed=1, guidance_scales=s), lambda step: None)
        for s in ({}, scales)
    )
    assert not np.array_equal(plain.occupancy.labels, pushed.occupancy.labels)


def test_a_layout_of_another_shape_is_refused(with_layout, plan_along):
    layout = VehicleLayout(np.zeros((16, 32, 31), dtype=bool))
    refused(
        lambda: with_layout.generate(
            Conditions(plan_along(), layout=layout), SamplingOptions(seed=1), lambda step: None
        ),
        "layout.shape",
    )


def test_of_several_candidates_the_one_with_most_road_under_the_path_is_kept(weights, plan_along):
    model = load_model(weights)
    config = replace(model.config, sampling=replace(model.config.sampling, candidates=3))
    pipeline = AnchoredPipeline(replace(model, config=config), torch.device("cpu"))
    shares = []
    score = pipeline._road_under_path

    def recorded(planes, canvas_from_ego):
        shares.append((planes, score(planes, canvas_from_ego)))
        return torch.tensor([0.1, 0.2, 0.9])

    pipeline._road_under_path = recorded
    backend = AnchoredBackend(pipeline)
    conditions = backend.canvas.conditions(
        Conditions(),
        np.zeros((16, 3)),
        np.zeros(16),
        DriveMemory.empty(np.zeros(3), 0.0, GRID),
        np.full((16, *GRID.shape), UNOBSERVED, np.uint8),
    )
    kept = pipeline.generate(conditions, torch.Generator().manual_seed(0), make_sampler("euler", "flow", 2), {})
    ((candidates, measured),) = shares
    assert len(candidates) == 3
    assert ((measured >= 0) & (measured <= 1)).all()
    assert torch.equal(kept.xy[0], candidates.xy[2])
    assert not torch.equal(kept.xy[0], candidates.xy[0])
