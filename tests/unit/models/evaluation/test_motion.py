"""The ego's motion is read off the static world alone."""

from dataclasses import replace

import numpy as np
import pytest
from dyncity_models.evaluation.generation import road_under_path
from dyncity_models.evaluation.motion import recover_motion

from dyncity_sim.domain.frames import planar_from_poses, poses_from_planar, transform_points
from dyncity_sim.domain.taxonomy import CARLASC

EDGE_M = 0.8
"""Size of the blocks that the world is strewn with."""


@pytest.fixture
def build_corner(build_street):
    """A function that builds a drive over a road through a random world, in which every place looks different."""
    rng = np.random.default_rng(0)
    kinds = [CARLASC.index(name) for name in ("building", "vegetation", "barrier")]
    world = np.where(rng.random((200, 200)) < 0.2, rng.choice(kinds, (200, 200)), CARLASC.index("road"))

    def build(speed_mps, curvature_per_m=0.0):
        street = build_street(16, speed_mps, curvature_per_m=curvature_per_m)
        labels = np.zeros_like(street.labels)
        x, y = np.meshgrid(street.grid.centres(0), street.grid.centres(1), indexing="ij")
        points = np.stack([x, y, 0 * x], axis=-1).reshape(-1, 3)
        for frame, pose in enumerate(street.poses_world_from_ego):
            place = np.floor(transform_points(pose, points)[:, :2] / EDGE_M).astype(int) + 100
            column = world[place[:, 0], place[:, 1]].reshape(x.shape)
            labels[frame, :, :, 0] = column
            labels[frame, :, :, 1:4] = np.where(column == CARLASC.index("road"), 0, column)[..., None]
        return replace(street, labels=labels)

    return build


@pytest.mark.parametrize(
    ("speed_mps", "curvature_per_m"), [(0.0, 0.0), (5.0, 0.0), (12.0, 0.0), (6.0, 0.05), (6.0, -0.05)]
)
def test_of_what_was_seen_along_a_path_the_path_is_found(build_corner, speed_mps, curvature_per_m):
    found = recover_motion(build_corner(speed_mps, curvature_per_m))
    assert found.error_m < 0.25
    assert found.error_deg < 1.0
    assert found.commanded


def test_a_world_that_moves_otherwise_than_planned_is_found_out(build_corner):
    street = build_corner(6.0, 0.05)
    planar = planar_from_poses(street.poses_world_from_ego) * [1.0, -1.0, -1.0]
    mirrored = replace(street, poses_world_from_ego=poses_from_planar(planar))
    found = recover_motion(mirrored)
    path = planar_from_poses(street.poses_world_from_ego)
    assert found.error_m == pytest.approx(2 * abs(path[-1, 1] - path[0, 1]), abs=0.3)
    assert not found.commanded


def test_poses_are_only_compared_with(build_corner):
    """Under other poses the same cells show the same motion: only the error changes."""
    street = build_corner(5.0)
    still = replace(street, poses_world_from_ego=np.tile(street.poses_world_from_ego[:1], (16, 1, 1)))
    assert recover_motion(still).error_m == pytest.approx(7.5, abs=0.25)


def test_an_empty_world_shows_no_motion(build_corner):
    street = build_corner(5.0)
    found = recover_motion(replace(street, labels=np.zeros_like(street.labels)))
    assert found.error_m == pytest.approx(7.5)
    assert not found.commanded


def test_noise_that_moves_as_no_vehicle_drives_is_measured_too(build_corner):
    street, rng = build_corner(0.0), np.random.default_rng(3)
    noise = rng.integers(0, len(CARLASC) - 1, street.labels.shape, dtype=np.uint8)
    found = recover_motion(replace(street, labels=noise))
    assert found.error_m > 5.0
    assert not found.commanded


def test_a_turning_road_is_under_the_path_and_not_under_its_mirror_image(build_street):
    street = build_street(16, 9.0, curvature_per_m=0.06)
    assert road_under_path(street) == 1.0
    assert road_under_path(street, mirrored=True) < 0.8
    straight = build_street(16, 9.0)
    assert road_under_path(straight, mirrored=True) == road_under_path(straight)
