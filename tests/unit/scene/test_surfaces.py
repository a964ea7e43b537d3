"""Fusion of frames into one map, its surface, and the glTF of it."""

import io

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dyncity_sim.domain.frames import poses_from_planar
from dyncity_sim.domain.grid import CARLASC_GRID
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.scene import StaticMap
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.errors import InvalidInputError
from dyncity_sim.scene.gltf import gltf_bytes
from dyncity_sim.scene.surfaces import fuse_static, surfaces

ROAD, BUILDING, VEHICLE, SIDEWALK = (CARLASC.index(n) for n in ("road", "building", "vehicle", "sidewalk"))


def map_label(static_map, point_world_m):
    cell = np.floor((np.asarray(point_world_m) - static_map.origin_world_m) / static_map.voxel_size_m).astype(int)
    return int(static_map.labels[tuple(cell)])


def test_a_drive_is_fused_into_one_street(build_street, street_actor):
    static_map = fuse_static(build_street(frames=32, actors=[street_actor(10, -1.7, 0, 6)]))
    assert static_map.labels.shape[2] == CARLASC_GRID.shape[2]
    for x in (-20.0, 0.0, 20.0, 40.0):
        assert map_label(static_map, (x, 1.0, 0.1)) == ROAD
        assert map_label(static_map, (x, 7.0, 0.1)) == SIDEWALK
        assert map_label(static_map, (x, -16.0, 2.0)) == BUILDING
        assert map_label(static_map, (x, 1.0, 2.0)) == 0


def test_nothing_that_moves_is_in_the_map(build_street, street_actor):
    cars = [street_actor(10, -1.7, 0, 6), street_actor(12, 3, 0, 0)]
    assert not np.isin(fuse_static(build_street(frames=8, actors=cars)).labels, CARLASC.moving_labels).any()


def test_ground_that_a_parked_car_always_hid_is_closed():
    labels = np.zeros((2, *CARLASC_GRID.shape), dtype=np.uint8)
    labels[..., 0] = ROAD
    labels[:, 70:80, 60:64, 0:4] = VEHICLE
    drive = OccupancySequence(labels, poses_from_planar(np.zeros((2, 3))), np.array([0, 1]), CARLASC_GRID, CARLASC)
    assert (fuse_static(drive).labels[..., 0] == ROAD).all()


def test_a_rotated_frame_gives_a_map_without_holes():
    labels = np.zeros((1, *CARLASC_GRID.shape), dtype=np.uint8)
    labels[..., 0] = ROAD
    drive = OccupancySequence(
        labels, poses_from_planar(np.array([[3.0, 4.0, 0.7]])), np.array([0]), CARLASC_GRID, CARLASC
    )
    static_map = fuse_static(drive)
    x, y = (np.arange(n) + 0.5 for n in static_map.labels.shape[:2])
    centre = np.array([3.0, 4.0]) - static_map.origin_world_m[:2]
    near = np.hypot(x[:, None] * 0.4 - centre[0], y[None] * 0.4 - centre[1]) < 25
    assert (static_map.labels[near, 0] == ROAD).all()


def test_unobserved_cells_do_not_vote():
    labels = np.full((1, *CARLASC_GRID.shape), BUILDING, dtype=np.uint8)
    observed = np.zeros(labels.shape, dtype=bool)
    observed[:, :64] = True
    drive = OccupancySequence(
        labels, poses_from_planar(np.zeros((1, 3))), np.array([0]), CARLASC_GRID, CARLASC, observed
    )
    found = fuse_static(drive).labels
    assert (found[:64] == BUILDING).all()
    assert not found[64:].any()


def test_a_drive_across_a_continent_is_refused(build_street):
    drive = build_street(frames=2)
    poses = drive.poses_world_from_ego.copy()
    poses[1, :2, 3] = 3e6
    with pytest.raises(InvalidInputError, match="Convert a long drive in parts"):
        fuse_static(OccupancySequence(drive.labels, poses, drive.times_us, drive.grid, drive.taxonomy))


@settings(max_examples=40, deadline=None)
@given(hnp.arrays(np.uint8, st.tuples(*[st.integers(1, 6)] * 3), elements=st.sampled_from([0, 0, BUILDING, ROAD])))
def test_quads_cover_exactly_the_faces_between_solid_and_free(labels):
    static_map = StaticMap(labels, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    padded = np.pad(labels, 1)
    for label in (BUILDING, ROAD):
        expected = 0
        for axis in range(3):
            for side in (-1, 1):
                free = np.roll(padded, -side, axis) == 0
                faces = (padded == label) & free
                if axis == 2 and side == -1:
                    faces[:, :, 1] = False
                expected += int(faces.sum())
        area = 0.0
        for surface in surfaces(static_map):
            if surface.label == label:
                corners = surface.vertices_world_m[surface.quads]
                normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 3] - corners[:, 0])
                area += np.linalg.norm(normals, axis=1).sum()
                inside = corners.mean(axis=1) - 0.25 * np.sign(normals)
                outside = corners.mean(axis=1) + 0.25 * np.sign(normals)
                assert (labels[tuple(np.floor(inside).astype(int).T)] == label).all()
                assert (padded[tuple(np.floor(outside).astype(int).T + 1)] == 0).all()
        assert area == pytest.approx(expected)


def test_the_glb_loads_in_metres_with_class_names_and_y_up(build_street):
    static_map = fuse_static(build_street(frames=16))
    loaded = trimesh.load(io.BytesIO(gltf_bytes(static_map)), file_type="glb")
    assert set(loaded.geometry) == {"building", "road", "ground", "sidewalk"}
    size_m = np.asarray(static_map.labels.shape) * static_map.voxel_size_m
    lower = np.asarray(static_map.origin_world_m)
    upper = lower + size_m
    np.testing.assert_allclose(loaded.bounds[0], [lower[0], lower[2], -upper[1]], atol=1e-4)
    np.testing.assert_allclose(loaded.bounds[1], [upper[0], upper[2], -lower[1]], atol=1e-4)
    road = loaded.geometry["road"].bounds
    assert road[1, 2] - road[0, 2] == pytest.approx(10.5, abs=0.81)
    assert loaded.geometry["road"].visual.material.baseColorFactor.tolist() == [66, 66, 74, 255]


def test_an_empty_world_is_a_valid_empty_glb(build_street):
    content = gltf_bytes(fuse_static(build_street(frames=1, empty=True)))
    assert int.from_bytes(content[8:12], "little") == len(content)
    assert trimesh.load(io.BytesIO(content), file_type="glb").is_empty
