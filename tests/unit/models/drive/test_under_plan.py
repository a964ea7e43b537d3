import numpy as np
import pytest
from dyncity_models.data.clips import UNOBSERVED
from dyncity_models.drive.memory import DriveMemory
from dyncity_models.drive.under_plan import remembered_under

from dyncity_sim.domain.frames import planar_from_poses
from dyncity_sim.domain.grid import CARLASC_GRID as GRID
from dyncity_sim.domain.taxonomy import CARLASC

ROAD = CARLASC.index("road")
LAYER_M = GRID.voxel_size_m[2]


def hill(slope, planar):
    """Frames on a plain of road that rises or falls along x, as an ego 1.8 m above it sees them."""
    frames = np.zeros((len(planar), *GRID.shape), dtype=np.uint8)
    layers = np.floor((slope * GRID.centres(0) + 0.2) / LAYER_M).astype(int)
    for x in np.flatnonzero((layers >= 0) & (layers < GRID.shape[2])):
        frames[:, x, :, layers[x]] = ROAD
    return frames


@pytest.mark.parametrize("slope", [-0.08, -0.005, 0.0, 0.03, 0.1])
def test_on_a_long_hill_the_road_that_was_seen_is_under_the_wheels(slope):
    memory, far_m = DriveMemory.empty(np.zeros(3), 0.0, GRID), np.arange(160) * 0.9
    for frames in np.split(np.arange(160), 10):
        planar, heights_m = np.zeros((16, 3)), slope * far_m[frames]
        planar[:, 0] = far_m[frames]
        memory = memory.centred_on(planar[8, :2], heights_m[8], GRID)
        if frames[0]:
            memory = remembered_under(memory, planar, heights_m, GRID)
            under = memory.seen_from(planar, heights_m, GRID)[:, 63:65, 63:65]
            there = (under == ROAD).any(axis=-1)
            # Steeply downhill the road a few metres ahead is under all that is seen.
            assert there.mean() > (0.9 if slope > -0.01 else 0.05)
            assert (under[there][:, 0] == ROAD).mean() > (0.9 if slope > -0.01 else 0.7)
        memory = memory.learn(hill(slope, planar), planar, heights_m, GRID)
    assert memory.height_m == pytest.approx(slope * far_m[-8], abs=LAYER_M)


def test_a_world_that_was_drawn_flat_takes_the_heights_of_the_plan():
    flat, planar = hill(0.0, np.zeros((1, 3))), np.zeros((16, 3))
    planar[:, 0] = np.arange(16) * 1.2
    heights_m = -0.1 * planar[:, 0]
    memory = DriveMemory.empty(np.zeros(3), 0.0, GRID).learn(flat, planar[:1], np.zeros(1), GRID)
    memory = memory.centred_on(planar[8, :2], heights_m[8], GRID)
    seen = remembered_under(memory, planar, heights_m, GRID).seen_from(planar, heights_m, GRID)
    assert (seen[:, 64, 63:65, 0] == ROAD).mean() > 0.9
    assert (seen[0, 64 + 30, 40:90, 0] != ROAD).all(), "it falls before the ego"


def remembered(street):
    planar, heights_m = planar_from_poses(street.poses_world_from_ego), street.poses_world_from_ego[:, 2, 3]
    memory = DriveMemory.empty(planar[0], float(heights_m[0]), GRID)
    return memory.learn(street.labels, planar, heights_m, GRID)


def planned(curvature_per_m, speed_mps=8.0):
    """x, y, yaw and heights of a plan that turns away from a straight street."""
    along_m = speed_mps * 0.1 * np.arange(16)
    turned = along_m * curvature_per_m
    x, y = (
        (np.sin(turned), 1 - np.cos(turned)) / np.float64(curvature_per_m)
        if curvature_per_m
        else (along_m, 0 * along_m)
    )
    return np.column_stack([x, y, turned]), np.full(16, 1.8)


def test_a_memory_that_a_plan_follows_stays_as_it_is(build_street):
    memory = remembered(build_street(16, 4.0))
    for curvature in (0.0, 0.01, -0.02):
        assert np.array_equal(remembered_under(memory, *planned(curvature), GRID).labels, memory.labels)


def test_what_a_plan_would_drive_through_is_forgotten_and_what_lies_behind_is_not(build_street):
    memory = remembered(build_street(16, 4.0))
    planar, heights_m = planned(0.1, 10.0)
    seen = [m.seen_from(planar, heights_m, GRID) for m in (memory, remembered_under(memory, planar, heights_m, GRID))]
    forgotten = (seen[0] != UNOBSERVED).any(axis=-1) & (seen[1] == UNOBSERVED).all(axis=-1)
    assert not forgotten[0, :60, :100].any(), "behind the ego"
    assert forgotten[15, 64:80, 60:68].all(), "where it comes to"
    assert 0.1 < forgotten[0].mean() < 0.5
    kept = ~forgotten
    assert np.array_equal(seen[0][kept], seen[1][kept])


def test_a_plan_that_cuts_a_corner_forgets_nothing(build_street):
    """The street is 7 m wide to either side; the ego goes over its kerb for a metre."""
    memory = remembered(build_street(16, 4.0))
    planar, heights_m = planned(0.0)
    planar[7:9, 1] = 9.0
    assert np.array_equal(remembered_under(memory, planar[8:9], heights_m[:1], GRID).labels, memory.labels)


def test_a_plan_into_what_is_not_known_forgets_nothing(build_street):
    memory = remembered(build_street(16, 4.0))
    planar, heights_m = planned(0.0)
    away = planar + np.array([100.0, 80.0, 0.0])
    assert np.array_equal(remembered_under(memory, away, heights_m, GRID).labels, memory.labels)
