"""Scenes of drives whose ego frame is another than ours: Occ3D's stands on the road under the rear axle."""

from xml.etree import ElementTree

import numpy as np
import pytest

from dyncity_sim.domain.frames import poses_from_planar
from dyncity_sim.domain.grid import OCC3D_GRID
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.scene import Scene
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.scene.build import build_scene
from dyncity_sim.scene.package.motions import motions_of
from dyncity_sim.scene.road.opendrive import cubic
from dyncity_sim.scene.surfaces.ground import ground_height_m

FRAMES = 10


@pytest.fixture(scope="module")
def scene() -> Scene:
    """Ten frames of Occ3D, at 2 Hz and 4 m/s along x, on a flat road at z = 0."""
    labels = np.zeros((FRAMES, *OCC3D_GRID.shape), np.uint8)
    labels[..., OCC3D_GRID.indices(np.zeros(3))[2]] = CARLASC.index("road")
    along_m = 2.0 * np.arange(FRAMES)
    poses = poses_from_planar(np.stack([along_m, np.zeros(FRAMES), np.zeros(FRAMES)], axis=-1))
    times_us = 500_000 * np.arange(FRAMES)
    return build_scene(OccupancySequence(labels, poses, times_us, OCC3D_GRID, CARLASC), tracks=())


def test_the_roads_of_an_occ3d_drive_lie_on_its_ground(scene: Scene) -> None:
    np.testing.assert_allclose(ground_height_m(scene.static_map), 0.0, atol=1e-9)
    for road in ElementTree.fromstring(scene.opendrive).iter("road"):
        heights_m = cubic(road.findall("elevationProfile/elevation"), np.linspace(0, float(road.attrib["length"]), 20))
        np.testing.assert_allclose(heights_m, 0.0, atol=1e-6)


def test_the_ego_of_an_occ3d_drive_is_at_its_lidar_and_its_wheels_are_on_the_road(scene: Scene) -> None:
    expected = np.stack([2.0 * np.arange(FRAMES) + 0.9, np.zeros(FRAMES), np.full(FRAMES, 1.8)], axis=-1)
    np.testing.assert_allclose(scene.ego_poses_world_from_ego[:, :3, 3], expected, atol=1e-9)
    np.testing.assert_allclose(motions_of(scene)[0].places[:, :3], expected + np.array([0.5, 0.0, -1.8]), atol=1e-9)
