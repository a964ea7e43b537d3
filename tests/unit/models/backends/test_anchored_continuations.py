"""What a drive of the family anchored knows of its world, from chunk to chunk and from what sensors saw."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from dyncity_models.backends.anchored.backend import EVIDENCE_RADIUS_CELLS, AnchoredBackend
from dyncity_models.backends.anchored.pipeline import AnchoredPipeline
from dyncity_models.config import FORESEEN, REMEMBERED
from dyncity_models.data.clips import UNOBSERVED, Clip
from dyncity_models.data.views import mover_columns
from dyncity_models.drive.memory import DriveMemory
from dyncity_models.drive.packing import pack, unpack
from dyncity_models.drive.road_users import road_users_of

from dyncity_sim.domain.conditions import Conditions, Continuation, EgoPlan, VehicleLayout
from dyncity_sim.domain.frames import planar_from_poses
from dyncity_sim.domain.grid import CARLASC_GRID
from dyncity_sim.domain.taxonomy import CARLASC, CARLASC_RAW
from dyncity_sim.errors import InvalidInputError

GRID = CARLASC_GRID


def test_a_continuation_of_another_model_or_a_damaged_one_is_refused(generate, plan_along, known_street):
    continuation, _ = known_street
    foreign = replace(continuation, model_id="anchored-0000")
    with pytest.raises(InvalidInputError, match=r"^continuation\.model_id: "):
        generate(Conditions(plan_along(), continuation=foreign))
    damaged = replace(continuation, payload=continuation.payload[:-1])
    with pytest.raises(InvalidInputError, match=r"^continuation\.payload: "):
        generate(Conditions(plan_along(), continuation=damaged))


def test_a_known_street_reappears_in_the_next_chunk(generate, known_street, onward, agreement):
    continuation, street = known_street
    plan = onward(street, 8.0)
    going_on, forgetful = (generate(Conditions(plan, continuation=c)).occupancy for c in (continuation, None))
    for frame in (0, 15):
        assert agreement(going_on, frame, street, -1) > 0.9
        assert agreement(forgetful, frame, street, -1) < 0.5


def test_what_was_generated_reappears_in_the_chunk_after(generate, known_street, onward):
    continuation, street = known_street
    first = generate(Conditions(onward(street, 8.0), continuation=continuation))
    plan = onward(first.occupancy, 4.0)
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


def test_known_free_space_holds_nothing_but_movers(generate, known_street, onward):
    continuation, street = known_street
    plan = onward(street, 8.0)
    chunk = generate(Conditions(plan, continuation=continuation))
    memory = unpack(continuation.payload, GRID)
    planar, heights_m = planar_from_poses(plan.poses_world_from_ego), plan.poses_world_from_ego[:, 2, 3]
    known = memory.seen_from(planar, heights_m, GRID, straight=True)
    inside = np.unique(chunk.occupancy.labels[known == 0])
    assert set(inside.tolist()) <= {0, *CARLASC.moving_labels}


def test_movers_of_the_last_frames_travel_in_the_continuation(generate, build_street, street_actor):
    street = build_street(16, 6.0, [street_actor(10.0, 4.0, 0.0, 5.0)])
    observed = np.zeros(street.labels.shape, dtype=bool)
    observed[:, :, 64:] = True
    plan = EgoPlan(street.poses_world_from_ego, street.times_us)
    chunk = generate(Conditions(plan, known_region=replace(street, observed=observed)))
    memory = unpack(chunk.continuation.payload, GRID)
    expected = mover_columns(torch.from_numpy(chunk.occupancy.labels[[15, 10]])[None])[0]
    assert expected.any()
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
    assert len(motion) == 2
    assert np.array_equal(memory.road_users, users)
    assert np.array_equal(memory.motion, motion)


def test_movers_that_are_imagined_where_nothing_was_seen_are_not_remembered(
    backend, build_street, street_actor, monkeypatch
):
    street = build_street(16, 4.0, [street_actor(14.0, -1.0, 0.0, 6.0), street_actor(-18.0, 2.0, 0.0, 0.0)])
    observed = np.ones_like(street.labels, dtype=np.bool_)
    observed[:, :62] = False
    imagined = torch.from_numpy(street.labels)[None]
    monkeypatch.setattr(AnchoredPipeline, "decode", lambda *_: imagined)
    memory = unpack(backend.encode(replace(street, observed=observed)).payload, GRID)
    ahead = np.arange(GRID.shape[0]) >= 62 - EVIDENCE_RADIUS_CELLS
    users, motion = road_users_of(replace(street, labels=np.where(ahead[:, None, None], street.labels, 0)))
    assert len(motion) == 1
    assert np.array_equal(memory.road_users, users)
    assert np.array_equal(memory.motion, motion)
    assert memory.movers[..., ahead, :].any()
    assert not memory.movers[..., ~ahead, :].any()


def test_encoding_nothing_leaves_a_drive_that_begins_anew(backend, generate, street_clip, occupancy_of, plan_along):
    unseen = Clip(street_clip.labels[:16], np.zeros((16, *GRID.shape), dtype=bool), street_clip.planar[[0] * 16])
    continuation = backend.encode(occupancy_of(unseen))
    assert (unpack(continuation.payload, GRID).labels == UNOBSERVED).all()
    # Two cells ahead of where the drive began, so that both chunks are remembered in the same cells.
    plan = plan_along(8.0)
    went_on, anew = (generate(Conditions(plan, continuation=c)).occupancy.labels for c in (continuation, None))
    assert np.array_equal(went_on, anew)


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
    with pytest.raises(InvalidInputError, match=f"^{field}: "):
        backend.encode(replace(occupancy, **change))


def test_encoding_another_number_of_frames_is_refused(backend, street_clip, occupancy_of):
    with pytest.raises(InvalidInputError, match=r"^occupancy\.poses_world_from_ego: "):
        backend.encode(occupancy_of(street_clip.frames(0, 15)))


@pytest.fixture
def on_its_way(with_layout, build_street, street_actor):
    """A plan, what follows it, and continuations of a drive whose vehicle drives on and of one where it stands."""
    street = build_street(32, 6.0, [street_actor(4.0, -1.0, 0.0, 6.0)])
    before, plan = street[:16], EgoPlan(street.poses_world_from_ego[16:], street.times_us[16:])
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


@pytest.fixture
def labels_of(generate_with):
    """A function that gives the labels of a chunk."""
    return lambda backend, plan, **given: generate_with(backend, Conditions(plan, **given), seed=1).occupancy.labels


def test_how_vehicles_were_moving_reaches_the_network_unless_a_layout_says_where_they_go(
    with_layout, on_its_way, labels_of
):
    plan, after, follows, stays = on_its_way
    once, again, other = (labels_of(with_layout, plan, continuation=c) for c in (follows, follows, stays))
    assert once.tobytes() == again.tobytes()
    assert not np.array_equal(once, other)
    layout = VehicleLayout.of(after)
    one, other = (labels_of(with_layout, plan, continuation=c, layout=layout) for c in (follows, stays))
    assert np.array_equal(one, other)


@pytest.mark.parametrize(("known_world", "hidden"), [(FORESEEN, True), (REMEMBERED, False)])
def test_weights_are_shown_holes_where_vehicles_will_be_only_if_they_learnt_from_such(
    with_layout, on_its_way, labels_of, known_world, hidden, monkeypatch
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
