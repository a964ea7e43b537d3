import numpy as np
import pytest
from dyncity_models.drive.borders import IS_SURFACE
from dyncity_models.drive.classes import FREE
from dyncity_models.drive.ground import BEYOND_M, STEP_M, Ground
from dyncity_models.drive.memory import DriveMemory

from dyncity_sim.domain.conditions import EgoPlan
from dyncity_sim.domain.frames import planar_from_poses, poses_from_planar
from dyncity_sim.domain.grid import CARLASC_GRID as GRID
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.taxonomy import CARLASC

ROAD, BUILDING = CARLASC.index("road"), CARLASC.index("building")
LAYER_M = GRID.voxel_size_m[2]
SLOPES = [-0.08, -0.005, 0.0, 0.03, 0.1]


def plan_over(slope, begins_at_m=0.0, step_m=0.9, height_m=1.8):
    """A plan straight along x, up or down a hill that begins at the origin."""
    planar = np.zeros((16, 3))
    planar[:, 0] = begins_at_m + step_m * np.arange(16)
    poses = poses_from_planar(planar, z_m=0.0)
    poses[:, 2, 3] = height_m + slope * planar[:, 0]
    return EgoPlan(poses, np.arange(16, dtype=np.int64) * 100_000)


def hill(slope, frames=16):
    """Frames on a plain of road that rises or falls along x, as an ego 1.8 m above it sees them."""
    labels = np.zeros((frames, *GRID.shape), dtype=np.uint8)
    layers = np.floor((slope * GRID.centres(0) + 0.2) / LAYER_M).astype(int)
    for x in np.flatnonzero((layers >= 0) & (layers < GRID.shape[2])):
        labels[:, x, :, layers[x]] = ROAD
    return labels


def learnt(labels, plan):
    planar, heights_m = planar_from_poses(plan.poses_world_from_ego), plan.poses_world_from_ego[:, 2, 3]
    memory = DriveMemory.empty(planar[0], float(heights_m[0]), GRID).centred_on(planar[8, :2], heights_m[8], GRID)
    return memory.learn(labels, planar, heights_m, GRID)


def going_on(memory, plan):
    """A memory centred on a plan, and the ground there."""
    planar, heights_m = planar_from_poses(plan.poses_world_from_ego), plan.poses_world_from_ego[:, 2, 3]
    memory = memory.centred_on(planar[8, :2], float(heights_m[8]), GRID)
    return memory, Ground.under(plan, memory, GRID)


def seen(memory, plan):
    return memory.seen_from(planar_from_poses(plan.poses_world_from_ego), plan.poses_world_from_ego[:, 2, 3], GRID)


def test_on_level_ground_nothing_changes():
    plan = plan_over(0.0)
    memory, ground = going_on(learnt(hill(0.0), plan), plan_over(0.0, 14.4))
    assert ground.taken_out(memory) is memory
    assert ground.put_into(memory) is memory
    chunk = OccupancySequence(hill(0.0), plan.poses_world_from_ego, plan.times_us, GRID, CARLASC)
    assert ground.seen(chunk, plan).labels is chunk.labels


@pytest.mark.parametrize("slope", SLOPES)
def test_a_hill_that_was_seen_is_level_when_it_is_taken_out(slope):
    memory, ground = going_on(learnt(hill(slope), plan_over(slope)), plan_over(slope, 14.4))
    view = seen(ground.taken_out(memory), ground.level(plan_over(slope, 14.4)))[8]
    road = (view == ROAD).any(axis=-1)
    assert road.any()
    assert (view[road][:, 0] == ROAD).mean() > 0.95
    assert road[64:100].all() or slope < -0.01, "steeply downhill the road was under all that was seen"


def test_what_is_free_over_no_ground_is_not_known_of_a_hill_that_is_taken_out_and_what_stands_there_is():
    labels = hill(-0.08, frames=1)
    labels[:, 110:115, 70:75, 3:6] = BUILDING
    memory, ground = going_on(learnt(labels, plan_over(-0.08)), plan_over(-0.08, 3.0))
    level = ground.taken_out(memory).labels
    bottomless = ~IS_SURFACE[level].any(axis=-1)
    assert (memory.labels[bottomless] == FREE).any()
    assert not (level[bottomless] == FREE).any()
    assert (level == BUILDING).sum() == (memory.labels == BUILDING).sum() > 0


@pytest.mark.parametrize("yaw_rad", [0.0, 2.0, -1.2])
def test_a_street_goes_on_straight_before_and_after_a_plan_wherever_it_leads(yaw_rad):
    ahead = np.array([np.cos(yaw_rad), np.sin(yaw_rad)])
    planar = np.column_stack([0.9 * np.arange(16)[:, None] * ahead, np.full(16, yaw_rad)])
    plan = EgoPlan(poses_from_planar(planar, z_m=1.8), np.arange(16, dtype=np.int64) * 100_000)
    places = Ground.under(plan, DriveMemory.empty(planar[0], 1.8, GRID), GRID).places
    steps_m = np.diff(places[:, :2], axis=0)
    np.testing.assert_allclose(steps_m, np.broadcast_to(STEP_M * ahead, steps_m.shape), atol=1e-9)
    assert len(places) * STEP_M > 2 * BEYOND_M + 13.0


@pytest.mark.parametrize("slope", SLOPES)
def test_what_is_drawn_level_rises_and_falls_as_the_plan_does(slope):
    plan = plan_over(slope, 5.0)
    _, ground = going_on(learnt(hill(slope), plan_over(slope)), plan)
    level = ground.level(plan)
    labels = hill(0.0)
    labels[:, 90:100, 80:90, 1:4] = BUILDING
    chunk = ground.seen(OccupancySequence(labels, level.poses_world_from_ego, plan.times_us, GRID, CARLASC), plan)
    assert np.array_equal(chunk.poses_world_from_ego, plan.poses_world_from_ego)
    assert (chunk.labels[:, 63:65, 63:65, 0] == ROAD).mean() > 0.95, "under the ego"
    true = hill(slope, 1)[0].argmax(axis=-1)
    there = (hill(slope, 1)[0] == ROAD).any(axis=-1)
    for labels in chunk.labels[::5]:
        shown = (labels == ROAD).any(axis=-1)
        assert shown[there].mean() > 0.95
        assert np.abs(labels.argmax(axis=-1)[there & shown] - true[there & shown]).mean() < 0.5
    if abs(slope) < 0.04:
        assert ((chunk.labels == BUILDING).sum(axis=(1, 2, 3)) == 300).all(), "what stands keeps its height"


@pytest.mark.parametrize("slope", SLOPES)
def test_a_level_memory_has_the_heights_of_the_plan_when_they_are_put_in(slope):
    plan = plan_over(slope)
    memory, ground = going_on(DriveMemory.empty(np.zeros(3), 1.8, GRID), plan)
    level = ground.level(plan)
    memory = memory.learn(
        hill(0.0), planar_from_poses(plan.poses_world_from_ego), level.poses_world_from_ego[:, 2, 3], GRID
    )
    raised = ground.put_into(memory)
    assert raised.height_m == pytest.approx(plan.poses_world_from_ego[-1, 2, 3], abs=LAYER_M)
    assert (seen(raised, plan)[:, 63:65, 63:65, 0] == ROAD).mean() > 0.9
    again, beyond = going_on(raised, plan_over(slope, 14.4))
    assert not beyond.remembered.any() or abs(slope) > 0.001
    assert (beyond.remembered == beyond.planned)[: beyond.end].mean() > 0.9
    view = seen(beyond.taken_out(again), beyond.level(plan_over(slope, 14.4)))
    assert (view[0, 60:80, 60:68, 0] == ROAD).mean() > 0.9


def test_a_world_that_was_drawn_level_before_the_plan_fell_lies_under_its_wheels():
    memory, ground = going_on(learnt(hill(0.0), plan_over(0.0, step_m=0.1)), plan_over(-0.05, step_m=1.2))
    view = seen(ground.taken_out(memory), ground.level(plan_over(-0.05, step_m=1.2)))
    assert (view[:, 63:65, 63:65, 0] == ROAD).all()


@pytest.mark.parametrize("step_m", [0.05, 0.3, 0.9, 2.0])
def test_a_vehicle_that_shakes_by_two_centimetres_is_on_level_ground(step_m):
    plan = plan_over(0.0, step_m=step_m)
    poses = plan.poses_world_from_ego.copy()
    poses[:, 2, 3] += np.random.default_rng(0).uniform(-0.02, 0.02, 16)
    _, ground = going_on(learnt(hill(0.0), plan), EgoPlan(poses, plan.times_us))
    assert not ground.planned.any()
    assert not ground.remembered.any()


@pytest.mark.parametrize("slope", [-0.08, -0.02, 0.03, 0.1])
def test_an_ego_that_reverses_goes_up_and_down_the_same_hill(slope):
    plan = plan_over(slope, step_m=-0.4)
    _, ground = going_on(DriveMemory.empty(np.zeros(3), 1.8, GRID), plan)
    chunk = OccupancySequence(hill(0.0), ground.level(plan).poses_world_from_ego, plan.times_us, GRID, CARLASC)
    shown = ground.seen(chunk, plan).labels
    at_x_m = GRID.centres(0) + plan.poses_world_from_ego[:, 0, 3, None]
    ego_layers = np.floor((slope * plan.poses_world_from_ego[:, 0, 3, None] + 0.2) / LAYER_M)
    expected = np.floor((slope * at_x_m + 0.2) / LAYER_M) - ego_layers
    for labels, layers in zip(shown, expected, strict=True):
        road = (labels[:, 64] == ROAD).any(axis=-1)
        assert road[layers >= 0].mean() > 0.95
        assert np.abs(labels[road, 64].argmax(axis=-1) - layers.clip(0)[road]).max() <= 1


def test_a_plan_that_stands_has_no_slope():
    plan = plan_over(0.0, step_m=0.0)
    _, ground = going_on(learnt(hill(0.0), plan), plan)
    assert len(ground.driven) == 1
    assert not ground.planned.any()
