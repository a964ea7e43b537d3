"""Fusion of frames into one map, its ground, its surface, and the glTF of it."""

import io
import json
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import trimesh
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dyncity_sim.domain.frames import poses_from_planar
from dyncity_sim.domain.grid import CARLASC_GRID
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.scene import StaticMap
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.errors import InvalidInputError
from dyncity_sim.scene.surfaces import fuse
from dyncity_sim.scene.surfaces.fuse import COLUMN_BYTES, fuse_static
from dyncity_sim.scene.surfaces.gltf import gltf_bytes
from dyncity_sim.scene.surfaces.ground import ground_height_m
from dyncity_sim.scene.surfaces.quads import surfaces
from dyncity_sim.scene.surfaces.smoothing import smooth_surfaces

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


@pytest.fixture(scope="module")
def diagonal():
    """A drive of 800 m across its map."""
    along_m = np.arange(0.0, 800.0, 10.0)
    planar = np.stack([along_m / np.sqrt(2), along_m / np.sqrt(2), np.full(len(along_m), np.pi / 4)], axis=-1)
    labels = np.zeros((len(along_m), *CARLASC_GRID.shape), np.uint8)
    labels[..., 0] = ROAD
    labels[:, 70:80, 60:64, 0] = VEHICLE
    times_us = np.arange(len(along_m)) * 1_000_000
    return OccupancySequence(labels, poses_from_planar(planar, 1.8), times_us, CARLASC_GRID, CARLASC)


def peak_bytes(work):
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_a_map_takes_no_more_memory_than_it_may(diagonal, monkeypatch):
    monkeypatch.setattr(fuse, "LARGEST_MAP_BYTES", 250_000_000)
    with pytest.raises(InvalidInputError, match=r"a drive over 632 x 632 m, whose map takes 0\.279 GB"):
        fuse_static(diagonal)
    monkeypatch.setattr(fuse, "LARGEST_MAP_BYTES", 300_000_000)
    assert peak_bytes(lambda: fuse_static(diagonal)) < 300_000_000


def test_the_height_of_ground_takes_little_memory_where_nothing_was_seen(diagonal):
    static_map = fuse_static(diagonal)
    assert peak_bytes(lambda: ground_height_m(static_map)) < COLUMN_BYTES * static_map.labels[..., 0].size


def test_a_hole_that_nobody_saw_into_stays_a_hole():
    labels = np.zeros((1, *CARLASC_GRID.shape), dtype=np.uint8)
    labels[..., 0] = ROAD
    labels[:, 70:80, 60:64, 0] = VEHICLE
    observed = np.ones(labels.shape, dtype=bool)
    observed[:, 90:95, 60:64] = False
    drive = OccupancySequence(
        labels, poses_from_planar(np.zeros((1, 3))), np.array([0]), CARLASC_GRID, CARLASC, observed
    )
    found = fuse_static(drive).labels
    assert (found[70:80, 60:64, 0] == ROAD).all()
    assert not found[90:95, 60:64].any()


def sloped(slope_x, slope_y, offset_m=0.1, shape=(60, 40)):
    """A map of the voxels that a plane passes through, with a gap in it, and the plane's height."""
    x, y = np.meshgrid(*((np.arange(n) + 0.5) * 0.4 for n in shape), indexing="ij")
    height_m = slope_x * x + slope_y * y + offset_m
    layer = np.floor((height_m - height_m.min()) / 0.375).astype(int)
    labels = np.zeros((*shape, layer.max() + 1), dtype=np.uint8)
    np.put_along_axis(labels, layer[..., None], ROAD, axis=2)
    labels[30:45, 10:20] = 0
    return StaticMap(labels, (0.0, 0.0, float(height_m.min())), (0.4, 0.4, 0.375)), height_m


@settings(max_examples=30)
@given(st.floats(-0.3, 0.3), st.floats(-0.3, 0.3))
@example(0.01, 0.01)
@example(0.011, 0.009)
def test_the_ground_of_a_slope_is_exact_to_half_a_voxel_and_unknown_where_never_seen(slope_x, slope_y):
    static_map, truth_m = sloped(slope_x, slope_y)
    height_m = ground_height_m(static_map)
    seen = (static_map.labels > 0).any(axis=2)
    assert np.isnan(height_m[~seen]).all()
    assert np.abs(height_m - truth_m)[seen].max() <= 0.375 * 0.5 + 1e-9


def test_the_ground_has_no_steps():
    static_map, _ = sloped(0.1, 0.0)
    assert np.abs(np.diff(ground_height_m(static_map)[:, 5])).max() < 0.375 / 4


def test_what_stands_on_the_ground_is_not_ground(build_street):
    static_map = fuse_static(build_street(frames=4))
    height_m = ground_height_m(static_map)
    walls = (static_map.labels == BUILDING).any(axis=2)
    assert np.isnan(height_m[walls]).all()
    np.testing.assert_allclose(height_m[~walls & (static_map.labels > 0).any(axis=2)], 0.0, atol=0.19)


@settings(max_examples=40)
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


def volume_m3(found, axis):
    """Gauss's theorem: the volume that a closed surface encloses, from the part of it that faces along one axis."""
    total = 0.0
    for surface in found:
        a, b, c, d = (surface.vertices_world_m[surface.quads[:, n]].astype(np.float64) for n in range(4))
        for one, two, three in ((a, b, c), (a, c, d)):
            normals = np.cross(two - one, three - one) / 2
            total += float((normals[:, axis] * (one + two + three)[:, axis] / 3).sum())
    return total


@settings(max_examples=40)
@given(hnp.arrays(np.uint8, st.tuples(*[st.integers(1, 6)] * 3), elements=st.sampled_from([0, 0, BUILDING, ROAD])))
def test_surfaces_of_all_classes_together_enclose_exactly_the_solid_cells(labels):
    # The bottom, which is left out, lies at z = 0 and adds nothing.
    found = surfaces(StaticMap(labels, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)))
    for axis in range(3):
        assert volume_m3(found, axis) == pytest.approx((labels > 0).sum())


def test_faces_are_merged_in_both_directions():
    labels = np.zeros((9, 7, 4), dtype=np.uint8)
    labels[1:8, 1:6, 1:3] = BUILDING
    (box,) = surfaces(StaticMap(labels, (0.0, 0.0, 0.0), (0.4, 0.4, 0.375)))
    assert len(box.quads) == 6
    assert len(box.vertices_world_m) == 8
    labels[1:3, 1:3, 2] = 0
    (notched,) = surfaces(StaticMap(labels, (0.0, 0.0, 0.0), (0.4, 0.4, 0.375)))
    assert len(notched.quads) <= 6 + 2 * 3


def test_smooth_surfaces_keep_the_volume_of_a_solid():
    x, y, z = np.mgrid[-10:11, -10:11, -10:11]
    ball = StaticMap((np.hypot(np.hypot(x, y), z) < 8).astype(np.uint8), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    for axis in range(3):
        assert volume_m3(smooth_surfaces(ball), axis) == pytest.approx((ball.labels > 0).sum(), rel=0.02)


def test_smooth_surfaces_of_classes_that_touch_share_their_seam(build_street):
    static_map = fuse_static(build_street(frames=2))
    smooth = smooth_surfaces(static_map)
    assert [s.label for s in smooth] == [s.label for s in surfaces(static_map)]
    vertices = {s.label: {tuple(v) for v in s.vertices_world_m} for s in smooth}
    assert len(vertices[ROAD] & vertices[SIDEWALK]) > 100


def test_smoothing_takes_the_steps_out_of_a_slope():
    static_map, _ = sloped(0.12, 0.0)
    (road,) = smooth_surfaces(static_map)
    corners = road.vertices_world_m[road.quads]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 3] - corners[:, 0])
    inner = (corners[:, :, 0].min(axis=1) > 3) & (corners[:, :, 0].max(axis=1) < 10) & (normals[:, 2] > 0.02)
    steepness = np.hypot(normals[inner, 0], normals[inner, 1]) / normals[inner, 2]
    assert np.median(steepness) == pytest.approx(0.12, abs=0.12)


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


def test_the_glb_of_a_world_far_from_its_origin_is_as_exact(build_street):
    near = fuse_static(build_street(frames=2))
    far = replace(near, origin_world_m=(456_789.2, 5_678_901.6, 300.0))
    by_name = [
        {
            name: trimesh.transform_points(scene.geometry[name].vertices, scene.graph[name][0])
            for name in scene.graph.nodes_geometry
        }
        for scene in (trimesh.load(io.BytesIO(gltf_bytes(m)), file_type="glb", process=False) for m in (near, far))
    ]
    moved = (np.array(far.origin_world_m) - near.origin_world_m)[[0, 2, 1]] * [1, 1, -1]
    for name, vertices in by_name[0].items():
        np.testing.assert_allclose(by_name[1][name] - vertices, np.tile(moved, (len(vertices), 1)), atol=1e-3)


def test_an_empty_world_is_a_valid_empty_glb(build_street):
    content = gltf_bytes(fuse_static(build_street(frames=1, empty=True)))
    assert int.from_bytes(content[8:12], "little") == len(content)
    assert trimesh.load(io.BytesIO(content), file_type="glb").is_empty


def gltf_parts(content):
    """The JSON document of a binary glTF and its buffer (glTF 2.0, section 4)."""
    magic, version, length = content[:4], *np.frombuffer(content[4:12], dtype="<u4")
    assert (magic, version, length) == (b"glTF", 2, len(content))
    size, kind = np.frombuffer(content[12:20], dtype="<u4")
    assert size % 4 == 0
    assert int(kind) == int.from_bytes(b"JSON", "little")
    rest = content[20 + size :]
    if rest:
        assert int.from_bytes(rest[:4], "little") == len(rest) - 8
        assert rest[4:8] == b"BIN\0"
        assert len(rest) % 4 == 0
    return json.loads(content[20 : 20 + size]), rest[8:]


@pytest.mark.parametrize("smooth", [False, True])
def test_the_glb_keeps_the_rules_of_gltf_2_on_alignment_ranges_and_indices(build_street, smooth):
    document, buffer = gltf_parts(gltf_bytes(fuse_static(build_street(frames=2)), smooth))
    dtypes = {5125: "<u4", 5126: "<f4"}
    arrays = []
    for accessor in document["accessors"]:
        view = document["bufferViews"][accessor["bufferView"]]
        offset = view.get("byteOffset", 0) + accessor.get("byteOffset", 0)
        assert offset % 4 == 0
        columns = {"SCALAR": 1, "VEC3": 3}[accessor["type"]]
        count = accessor["count"] * columns
        assert count * 4 <= view["byteLength"]
        values = np.frombuffer(buffer, dtypes[accessor["componentType"]], count, offset).reshape(-1, columns)
        np.testing.assert_array_equal(values.min(axis=0), np.float32(accessor["min"]).astype(values.dtype))
        np.testing.assert_array_equal(values.max(axis=0), np.float32(accessor["max"]).astype(values.dtype))
        arrays.append(values)
    for mesh in document["meshes"]:
        (primitive,) = mesh["primitives"]
        assert arrays[primitive["indices"]].max() < len(arrays[primitive["attributes"]["POSITION"]])
        assert len(arrays[primitive["indices"]]) % 3 == 0


def test_the_glb_states_class_names_colours_and_units(build_street):
    for static_map in (fuse_static(build_street(frames=2)), fuse_static(build_street(frames=1, empty=True))):
        document, _ = gltf_parts(gltf_bytes(static_map))
        assert document["asset"]["extras"]["unit"] == "m"
        for mesh in document.get("meshes", []):
            semantic_class = CARLASC.classes[mesh["extras"]["label"]]
            assert mesh["name"] == mesh["extras"]["class"] == semantic_class.name
            material = document["materials"][mesh["primitives"][0]["material"]]
            assert material["name"] == semantic_class.name
            colour = np.array(material["pbrMetallicRoughness"]["baseColorFactor"][:3])
            shown = np.where(colour <= 0.0031308, 12.92 * colour, 1.055 * colour ** (1 / 2.4) - 0.055)
            np.testing.assert_allclose(shown, np.array(semantic_class.colour) / 255, atol=1e-4)


def test_the_glb_holds_every_quad_as_two_triangles(build_street):
    static_map = fuse_static(build_street(frames=2))
    loaded = trimesh.load(io.BytesIO(gltf_bytes(static_map)), file_type="glb", process=False)
    for surface in surfaces(static_map):
        mesh = loaded.geometry[CARLASC.names[surface.label]]
        assert len(mesh.faces) == 2 * len(surface.quads)
        assert len(mesh.vertices) == len(surface.vertices_world_m)


def test_the_same_map_gives_the_same_glb(build_street):
    static_map = fuse_static(build_street(frames=2))
    for smooth in (False, True):
        assert gltf_bytes(static_map, smooth) == gltf_bytes(static_map, smooth)
