"""Claims about the voxeliser: both implementations agree, thin things survive, boxes keep their size."""

import numpy as np
import pytest
from dyncity_sumo.actors import ACTOR_KINDS, KIND_CODES, ActorTable, no_actors
from dyncity_sumo.bodies import boxes_of
from dyncity_sumo.columns import StaticColumns, empty_columns
from dyncity_sumo.voxelise import voxelise
from dyncity_sumo.voxelise_reference import voxelise_reference
from hypothesis import given, settings
from hypothesis import strategies as st

from dyncity_sim.domain.agreement import static_agreement
from dyncity_sim.domain.frames import inverse, poses_from_planar
from dyncity_sim.domain.grid import CARLASC_GRID, LIDAR_HEIGHT_M
from dyncity_sim.domain.recording import ActorKind
from dyncity_sim.domain.taxonomy import CARLASC_RAW

POLE, ROAD, LINE, SIDEWALK, BUILDING, FENCE, VEHICLE, PEDESTRIAN = (
    CARLASC_RAW.index(name)
    for name in ("pole", "road", "road_line", "sidewalk", "building", "fence", "vehicle", "pedestrian")
)
yaws = st.floats(-np.pi, np.pi)
offsets = st.floats(-3, 3)


def street() -> StaticColumns:
    """A road along x with kerbs, a row of poles, a fence and houses, on ground that rises to the east."""
    columns = empty_columns(np.array([-60.0, -60.0]), np.array([60.0, 60.0]))
    y = np.abs((np.arange(columns.shape[1]) + 0.5) * columns.cell_m - 60.0)
    x = np.arange(columns.shape[0])
    columns.ground_class[:] = CARLASC_RAW.index("terrain")
    columns.ground_class[:, y < 8] = SIDEWALK
    columns.ground_class[:, y < 4] = ROAD
    columns.ground_class[:, y < 0.2] = LINE
    columns.ground_cm[:] = (12 * (y >= 4))[None, :] + (x // 40)[:, None]
    columns.span_class[:, (y > 9) & (y < 9.2), 0] = FENCE
    columns.span_hi_dm[:, (y > 9) & (y < 9.2), 0] = 11
    houses = (x % 100 < 70)[:, None] & (y > 14)[None, :]
    columns.span_class[houses, 0] = BUILDING
    columns.span_hi_dm[houses, 0] = 90
    poles = (x % 50 == 7)[:, None] & (np.arange(len(y)) == np.argmax(y < 4.6))[None, :]
    columns.span_class[poles, 1] = POLE
    columns.span_hi_dm[poles, 1] = 50
    return columns


def crowd(rng: np.random.Generator, count: int) -> ActorTable:
    return ActorTable(
        np.arange(1, count + 1, dtype=np.uint16),
        rng.integers(0, len(ACTOR_KINDS), count).astype(np.uint8),
        np.column_stack([rng.uniform(-30, 30, (count, 2)), rng.uniform(0.2, 1.5, count)]),
        rng.uniform(-np.pi, np.pi, count),
        rng.uniform((0.4, 0.4, 1.0), (12, 2.6, 3.4), (count, 3)),
        np.zeros(count),
    )


def one(kind: ActorKind, size_m: tuple[float, float, float], x_m: float, y_m: float, yaw_rad: float) -> ActorTable:
    return ActorTable(
        np.array([7], np.uint16),
        np.array([KIND_CODES[kind]], np.uint8),
        np.array([[x_m, y_m, size_m[2] / 2]]),
        np.array([yaw_rad]),
        np.array([size_m]),
        np.zeros(1),
    )


@settings(max_examples=8)
@given(offsets, offsets, yaws, st.integers(0, 2**32 - 1))
def test_fast_and_reference_give_the_same_bytes(x_m: float, y_m: float, yaw_rad: float, seed: int) -> None:
    pose = poses_from_planar(np.array([x_m, y_m, yaw_rad]), LIDAR_HEIGHT_M)
    boxes = boxes_of(crowd(np.random.default_rng(seed), 12))
    fast = voxelise(street(), boxes, pose, CARLASC_GRID)
    slow = voxelise_reference(street(), boxes, pose, CARLASC_GRID)
    assert fast.labels.tobytes() == slow.labels.tobytes()
    assert fast.instances.tobytes() == slow.instances.tobytes()
    assert (fast.instances > 0).any()


@settings(max_examples=25)
@given(offsets, offsets, yaws)
def test_every_pole_in_the_grid_shows_from_every_direction(x_m: float, y_m: float, yaw_rad: float) -> None:
    columns = street()
    columns.span_class[:, :, 0] = 0
    pose = poses_from_planar(np.array([x_m, y_m, yaw_rad]), LIDAR_HEIGHT_M)
    labels = voxelise(columns, boxes_of(no_actors()), pose, CARLASC_GRID).labels
    i, j = np.nonzero(columns.span_class[:, :, 1])
    centres = columns.origin_m + (np.stack([i, j], 1) + 0.5) * columns.cell_m
    local = (centres - pose[:2, 3]) @ pose[:2, :2]
    inside = local[(np.abs(local) < 25.0).all(axis=1)]
    assert len(inside) >= 4
    for x, y in inside:
        cell = CARLASC_GRID.indices(np.array([x, y, 0.0]))
        around = labels[cell[0] - 1 : cell[0] + 2, cell[1] - 1 : cell[1] + 2, 4]
        assert (around == POLE).any()


@settings(max_examples=25)
@given(st.floats(-20, 20), st.floats(-20, 20), yaws)
def test_a_slim_pedestrian_never_falls_between_cells(x_m: float, y_m: float, yaw_rad: float) -> None:
    boxes = boxes_of(one(ActorKind.PEDESTRIAN, (0.3, 0.4, 1.7), x_m, y_m, yaw_rad))
    pose = poses_from_planar(np.zeros(3), LIDAR_HEIGHT_M)
    voxels = voxelise(street(), boxes, pose, CARLASC_GRID)
    assert (voxels.instances == 7).any(axis=(0, 1)).sum() == 4
    assert (voxels.labels[voxels.instances == 7] == PEDESTRIAN).all()


def test_a_car_keeps_its_width_on_average() -> None:
    rng = np.random.default_rng(3)
    pose = poses_from_planar(np.zeros(3), LIDAR_HEIGHT_M)
    areas_m2 = []
    for _ in range(60):
        x_m, y_m = rng.uniform(-15, 15, 2)
        boxes = boxes_of(one(ActorKind.CAR, (4.5, 1.8, 1.5), x_m, y_m, rng.uniform(-3, 3)))
        footprint = (voxelise(street(), boxes, pose, CARLASC_GRID).instances == 7).any(axis=2)
        areas_m2.append(footprint.sum() * 0.16)
    assert np.mean(areas_m2) == pytest.approx(4.5 * 1.8, rel=0.03)


def test_a_car_stands_on_the_bins_of_its_height() -> None:
    boxes = boxes_of(one(ActorKind.CAR, (4.5, 1.8, 1.5), 5.0, 0.0, 0.0))
    labels = voxelise(street(), boxes, poses_from_planar(np.zeros(3), LIDAR_HEIGHT_M), CARLASC_GRID).labels
    assert np.nonzero((labels == VEHICLE).any(axis=(0, 1)))[0].tolist() == [1, 2, 3, 4]


def test_a_rider_is_a_pedestrian_on_a_vehicle_of_one_instance() -> None:
    boxes = boxes_of(one(ActorKind.BICYCLE, (1.8, 0.65, 1.72), 5.0, 1.0, 0.3))
    voxels = voxelise(street(), boxes, poses_from_planar(np.zeros(3), LIDAR_HEIGHT_M), CARLASC_GRID)
    assert set(voxels.labels[voxels.instances == 7]) == {VEHICLE, PEDESTRIAN}


def test_left_of_the_ego_is_the_upper_half_of_axis_y() -> None:
    columns = empty_columns(np.array([-40.0, -40.0]), np.array([40.0, 40.0]))
    columns.ground_class[:] = ROAD
    columns.ground_class[:, columns.shape[1] // 2 :] = SIDEWALK  # north
    heading_east = poses_from_planar(np.array([0.0, 0.0, 0.0]), LIDAR_HEIGHT_M)
    heading_north = poses_from_planar(np.array([0.0, 0.0, np.pi / 2]), LIDAR_HEIGHT_M)
    east, north = (
        voxelise(columns, boxes_of(no_actors()), pose, CARLASC_GRID).labels for pose in (heading_east, heading_north)
    )
    assert (east[:, 64:, 0] == SIDEWALK).all()
    assert (east[:, :64, 0] == ROAD).all()
    assert (north[64:, :, 0] == SIDEWALK).all()
    assert (north[:64, :, 0] == ROAD).all()


def test_nothing_is_invented_where_the_world_is_not_built() -> None:
    columns = empty_columns(np.array([0.0, 0.0]), np.array([10.0, 10.0]))
    labels = voxelise(columns, boxes_of(no_actors()), poses_from_planar(np.zeros(3), 1.8), CARLASC_GRID).labels
    assert not labels.any()


@pytest.mark.parametrize(("seconds", "expected"), [(0.1, 0.93), (2.0, 0.90)])
def test_the_static_world_stands_still_as_the_ego_drives_and_turns(seconds: float, expected: float) -> None:
    first = poses_from_planar(np.array([0.0, 0.3, 0.2]), LIDAR_HEIGHT_M)
    second = poses_from_planar(np.array([6.1 * seconds, 0.3 + seconds, 0.2 + 0.35 * seconds]), LIDAR_HEIGHT_M)
    columns, nobody = street(), boxes_of(no_actors())
    seen = [voxelise(columns, nobody, pose, CARLASC_GRID).labels for pose in (first, second)]
    assert static_agreement(*seen, inverse(first) @ second, CARLASC_GRID, CARLASC_RAW) >= expected
    unmoved = static_agreement(*seen, np.eye(4), CARLASC_GRID, CARLASC_RAW)
    assert seconds < 1 or unmoved < 0.8
