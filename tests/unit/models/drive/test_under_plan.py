import numpy as np
import pytest
from dyncity_models.data.clips import UNOBSERVED
from dyncity_models.drive.ground import Ground
from dyncity_models.drive.memory import DriveMemory
from dyncity_models.drive.under_plan import without_what_is_driven_through

from dyncity_sim.domain.conditions import EgoPlan
from dyncity_sim.domain.frames import planar_from_poses, poses_from_planar
from dyncity_sim.domain.grid import CARLASC_GRID as GRID

KERB_M = 5.25
"""Of the street, from its middle."""


def remembered(street):
    planar, heights_m = planar_from_poses(street.poses_world_from_ego), street.poses_world_from_ego[:, 2, 3]
    memory = DriveMemory.empty(planar[0], float(heights_m[0]), GRID)
    return memory.learn(street.labels, planar, heights_m, GRID)


def planned(curvature_per_m, speed_mps=8.0):
    """x, y, yaw of a plan that turns away from a straight street."""
    along_m = speed_mps * 0.1 * np.arange(16)
    turned = along_m * curvature_per_m
    if curvature_per_m:
        return np.column_stack([np.sin(turned), 1 - np.cos(turned), curvature_per_m * turned]) / curvature_per_m
    return np.column_stack([along_m, 0 * along_m, turned])


def without(memory, planar):
    plan = EgoPlan(poses_from_planar(planar, z_m=1.8), np.arange(len(planar), dtype=np.int64) * 100_000)
    return without_what_is_driven_through(memory, Ground.under(plan, memory, GRID))


def test_a_memory_that_a_plan_follows_stays_as_it_is(build_street):
    memory = remembered(build_street(16, 4.0))
    assert all(without(memory, planned(curvature)) is memory for curvature in (0.0, 0.01, -0.02))


def test_what_a_plan_would_drive_through_is_forgotten_and_what_lies_behind_is_not(build_street):
    memory, planar = remembered(build_street(16, 4.0)), planned(0.1, 10.0)
    seen = [m.seen_from(planar, np.full(16, 1.8), GRID) for m in (memory, without(memory, planar))]
    forgotten = (seen[0] != UNOBSERVED).any(axis=-1) & (seen[1] == UNOBSERVED).all(axis=-1)
    assert not forgotten[0, :60, :100].any(), "behind the ego"
    assert forgotten[15, 64:80, 60:68].all(), "where it comes to"
    assert 0.1 < forgotten[0].mean() < 0.5
    assert np.array_equal(seen[0][~forgotten], seen[1][~forgotten])


def test_an_ego_that_reverses_into_blocks_forgets_what_lies_behind_it(build_street):
    memory, planar = remembered(build_street(16, 4.0)), planned(0.1, -10.0)
    seen = [m.seen_from(planar, np.full(16, 1.8), GRID) for m in (memory, without(memory, planar))]
    forgotten = (seen[0] != UNOBSERVED).any(axis=-1) & (seen[1] == UNOBSERVED).all(axis=-1)
    assert not forgotten[0, 68:, :100].any(), "before the ego"
    assert forgotten[15, 48:64, 60:68].all(), "where it comes to"


def test_a_plan_that_cuts_a_corner_forgets_nothing(build_street):
    memory, planar = remembered(build_street(16, 4.0)), planned(0.0)
    planar[:, 1] = 9.0
    assert without(memory, planar[7:9]) is memory
    assert without(memory, planar[4:9]) is not memory


@pytest.mark.parametrize(("over_kerb_m", "forgets"), [(-1.4, False), (-0.5, False), (0.5, True), (1.4, True)])
def test_a_wheel_on_the_sidewalk_forgets_nothing_and_half_of_the_ego_there_does(build_street, over_kerb_m, forgets):
    memory, planar = remembered(build_street(16, 4.0)), planned(0.0)
    planar[:, 1] = KERB_M + over_kerb_m
    assert (without(memory, planar) is memory) != forgets


def test_a_plan_into_what_is_not_known_forgets_nothing(build_street):
    memory = remembered(build_street(16, 4.0))
    assert without(memory, planned(0.0) + np.array([100.0, 80.0, 0.0])) is memory
