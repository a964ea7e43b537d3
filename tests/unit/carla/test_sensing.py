"""Cells from LiDAR returns and boxes: geometry that is known exactly."""

import numpy as np
import pytest
from dyncity_carla.frames import CarlaTransform, carla_from_pose, mirrored_points
from dyncity_carla.ports import LidarSweep
from dyncity_carla.roads import roads_of_document
from dyncity_carla.sensing import (
    LABEL_OF_TAG,
    ROAD_PATCH,
    ROAD_SPACING_M,
    Observer,
    RoadSurface,
    draw_rig,
    labels_of_tags,
)
from hypothesis import given
from hypothesis import strategies as st

from dyncity_sim.domain.frames import inverse, poses_from_planar, transform_points
from dyncity_sim.domain.grid import CARLASC_GRID, LIDAR_HEIGHT_M
from dyncity_sim.domain.recording import ActorKind, ActorState
from dyncity_sim.domain.taxonomy import CARLASC_RAW
from dyncity_sim.errors import SimulatorError

ROADS, CAR, BUILDINGS = 1, 14, 3
POSE = poses_from_planar(np.array([100.0, -40.0, 0.7]), LIDAR_HEIGHT_M)
EGO_ID = 9


def sweep_of(points_ego, tags, actor_ids=None, pose=POSE):
    """What a LiDAR at the ego frame's origin measures of points given in the ego frame."""
    points = mirrored_points(np.asarray(points_ego, dtype=np.float32))
    ids = np.zeros(len(points), np.uint32) if actor_ids is None else np.asarray(actor_ids, np.uint32)
    return LidarSweep(1, carla_from_pose(pose), points, ids, np.asarray(tags, np.uint32))


def observed(sweeps, actors=(), numbers=None, observer=None, pose=POSE, time_us=0):
    observer = observer or Observer(CARLASC_GRID)
    return observer.frame(sweeps, actors, numbers or {}, EGO_ID, pose, time_us)


def cell(point):
    return tuple(CARLASC_GRID.indices(np.array(point)))


def test_a_return_ahead_left_is_a_cell_ahead_left():
    frame = observed([sweep_of([[10.1, 5.1, -1.8]], [ROADS])])
    assert frame.labels[cell([10.1, 5.1, -1.8])] == CARLASC_RAW.index("road")
    assert frame.counts[cell([10.1, 5.1, -1.8])] == 1
    assert frame.counts[cell([10.1, -5.1, -1.8])] == 0


def test_free_space_is_sampled_on_the_way_to_a_return():
    frame = observed([sweep_of([[9.1, 0.1, 0.1]], [BUILDINGS])])
    along = frame.counts[64:88, 64, 5]
    assert along.sum() >= 5
    assert (frame.labels[64:86, 64, 5] == 0).all()
    assert frame.labels[cell([9.1, 0.1, 0.1])] == CARLASC_RAW.index("building")


def test_most_returns_decide_a_cell():
    points = [[5.1, 5.1, -1.8], [5.15, 5.1, -1.8], [5.1, 5.15, -1.8]]
    frame = observed([sweep_of(points, [ROADS, 2, 2])])
    assert frame.labels[cell(points[0])] == CARLASC_RAW.index("sidewalk")


def test_the_ego_s_own_body_does_not_count():
    frame = observed([sweep_of([[1.0, 0.5, -1.0]], [CAR], [EGO_ID])])
    assert frame.counts.sum() == 0


def test_a_box_fills_the_cells_whose_middle_it_holds_with_its_id():
    pose = POSE @ poses_from_planar(np.array([8.0, -4.0, 0.3]), -LIDAR_HEIGHT_M + 0.75)
    actor = ActorState(5, ActorKind.CAR, pose, (4.0, 1.8, 1.5), 3.0)
    frame = observed([], [actor])
    axes = np.meshgrid(*(CARLASC_GRID.centres(axis) for axis in range(3)), indexing="ij")
    local = transform_points(inverse(pose) @ POSE, np.stack(axes, -1).reshape(-1, 3)).reshape(*CARLASC_GRID.shape, 3)
    inside = (np.abs(local) <= np.array([4.0, 1.8, 1.5]) / 2).all(axis=-1)
    assert inside.sum() > 100
    np.testing.assert_array_equal(frame.instances == 5, inside)
    np.testing.assert_array_equal(frame.labels == CARLASC_RAW.index("vehicle"), inside)
    assert frame.actors == (actor,)


def test_actors_beyond_the_grid_are_left_out():
    far = ActorState(5, ActorKind.CAR, POSE @ poses_from_planar(np.array([40.0, 0.0, 0.0])), (4.0, 1.8, 1.5), 0.0)
    assert observed([], [far]).actors == ()


def test_returns_of_an_actor_carry_our_number_of_it():
    frame = observed([sweep_of([[6.1, 2.1, -1.0]], [CAR], [4711])], numbers={4711: 12})
    assert frame.instances[cell([6.1, 2.1, -1.0])] == 12


def test_what_was_seen_before_fills_what_nobody_sees_and_stays_unobserved():
    observer = Observer(CARLASC_GRID)
    observed([sweep_of([[6.1, 2.1, -1.8]], [ROADS])], observer=observer)
    moved = POSE @ poses_from_planar(np.array([2.0, 0.0, 0.0]))
    frame = observed([sweep_of([[-6.1, 2.1, -1.8]], [ROADS], pose=moved)], observer=observer, pose=moved)
    assert frame.labels[cell([4.1, 2.1, -1.8])] == CARLASC_RAW.index("road")
    assert frame.counts[cell([4.1, 2.1, -1.8])] == 0


@pytest.fixture(scope="module")
def town_road(generated_town):
    """The surface of a town's road, and all of its points."""
    roads = roads_of_document("grid", generated_town)
    patches = [
        transform_points(waypoint.pose_world_from_lane, ROAD_PATCH * [1.0, waypoint.width_m, 1.0])
        for waypoint in roads.waypoints(ROAD_SPACING_M)
    ]
    return RoadSurface(roads), np.concatenate(patches)


@given(x_m=st.floats(-50, 250), y_m=st.floats(-50, 250), radius_m=st.floats(1.0, 60.0))
def test_the_road_around_a_place_is_all_of_it_that_is_within_a_distance(town_road, x_m, y_m, radius_m):
    def within(points_m, distance_m):
        inside = np.hypot(*(points_m[:, :2] - [x_m, y_m]).T) <= distance_m
        return np.sort(points_m[inside], axis=0)

    surface, whole_m = town_road
    found_m = surface.around(np.array([x_m, y_m]), radius_m)
    assert len(within(found_m, radius_m + 1e-6)) == len(found_m)
    # A point right at the distance may lie on either side of it.
    np.testing.assert_allclose(within(found_m, radius_m - 1e-6), within(whole_m, radius_m - 1e-6), atol=1e-9)


def test_moving_things_are_not_remembered():
    observer = Observer(CARLASC_GRID)
    observed([sweep_of([[6.1, 2.1, -1.0]], [CAR])], observer=observer)
    assert not (observed([], observer=observer).labels == CARLASC_RAW.index("vehicle")).any()


def test_tags_are_those_of_the_client_library():
    carla = pytest.importorskip("carla", reason="CARLA's client (extra carla) is not installed")
    names = {int(value): name for name, value in carla.CityObjectLabel.names.items() if name != "Any"}
    assert sorted(names) == list(range(len(LABEL_OF_TAG)))
    for name, raw in {"Roads": "road", "RoadLines": "road_line", "Car": "vehicle", "Pedestrians": "pedestrian"}.items():
        tag = next(value for value, known in names.items() if known == name)
        assert LABEL_OF_TAG[tag] == CARLASC_RAW.index(raw)


def test_an_unknown_tag_is_no_class():
    with pytest.raises(SimulatorError, match="tag 29"):
        labels_of_tags(np.array([1, 29], dtype=np.uint32))


def test_a_rig_has_one_lidar_on_the_ego_and_the_same_seed_gives_the_same_rig():
    rigs = [draw_rig(np.random.default_rng(3), 10, 1000) for _ in range(2)]
    assert rigs[0] == rigs[1]
    assert rigs[0][0].position_m == (0.0, 0.0, 0.0)
    positions = np.array([spec.position_m for spec in rigs[0]])
    assert (np.abs(positions[:, :2]) <= 20).all()
    assert ((positions[1:, 2] + LIDAR_HEIGHT_M >= 1) & (positions[1:, 2] + LIDAR_HEIGHT_M <= 5)).all()


def test_a_sensor_that_stands_elsewhere_sees_the_same_cells():
    beside = POSE @ poses_from_planar(np.array([3.0, -8.0, 1.0]), 2.0)
    point = transform_points(inverse(beside) @ POSE, np.array([[6.1, 2.1, -1.8]]))
    frame = observed([sweep_of(point, [ROADS], pose=beside)])
    assert frame.labels[cell([6.1, 2.1, -1.8])] == CARLASC_RAW.index("road")
    assert isinstance(carla_from_pose(beside), CarlaTransform)
