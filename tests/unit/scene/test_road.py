"""The OpenDRIVE document, judged by the real carla.Map and by the standard's schema."""

from pathlib import Path

import carla
import numpy as np
import pytest
import schemas
import xmlschema

from dyncity_sim.scene.road import lane_layout, opendrive_document, reference_line
from dyncity_sim.scene.surfaces import fuse_static

SCHEMAS = Path(next(iter(schemas.__path__)))

DRIVES = {
    "straight": {"frames": 32, "ego_speed_mps": 8.0},
    "left turn": {"frames": 48, "ego_speed_mps": 8.0, "curvature_per_m": 1 / 25},
    "right turn": {"frames": 48, "ego_speed_mps": 8.0, "curvature_per_m": -1 / 25},
    "stationary": {"frames": 8, "ego_speed_mps": 0.0},
    "very short": {"frames": 3, "ego_speed_mps": 1.0},
    "one frame": {"frames": 1, "ego_speed_mps": 0.0},
    "no road at all": {"frames": 4, "ego_speed_mps": 5.0, "empty": True},
}


@pytest.fixture(scope="module")
def roads(build_street):
    drives = {name: build_street(**arguments) for name, arguments in DRIVES.items()}
    return {n: (d, opendrive_document(fuse_static(d), d.poses_world_from_ego)) for n, d in drives.items()}


@pytest.fixture(scope="module")
def schema():
    return xmlschema.XMLSchema(str(SCHEMAS / "opendrive_17_core.xsd"))


@pytest.mark.parametrize("name", DRIVES)
def test_carla_drives_on_a_lane_under_the_whole_ego_path(roads, name):
    drive, document = roads[name]
    carla_map = carla.Map(name, document)
    assert len(carla_map.generate_waypoints(2.0)) >= 10
    assert carla_map.get_topology()
    for pose in drive.poses_world_from_ego:
        place = carla.Location(x=pose[0, 3], y=-pose[1, 3], z=pose[2, 3] - 1.8)
        waypoint = carla_map.get_waypoint(place, project_to_road=False)
        assert waypoint is not None, "the ego is off the road"
        assert waypoint.lane_id == -1
        centre = waypoint.transform
        assert np.hypot(centre.location.x - place.x, centre.location.y - place.y) < 0.2
        assert centre.location.z == pytest.approx(place.z, abs=0.05)
        yaw_rad = -np.deg2rad(centre.rotation.yaw) - np.arctan2(pose[1, 0], pose[0, 0])
        assert np.cos(yaw_rad) > np.cos(np.deg2rad(5))


@pytest.mark.parametrize("name", DRIVES)
def test_the_document_is_valid_opendrive(roads, schema, name):
    assert [e.reason for e in schema.iter_errors(roads[name][1])] == []


def test_the_schema_can_refuse(roads, schema):
    assert not schema.is_valid(roads["straight"][1].replace('length="', 'lenght="'))


def test_lanes_fill_the_road_that_was_seen(roads):
    drive, _ = roads["straight"]
    static_map = fuse_static(drive)
    layout = lane_layout(static_map, reference_line(static_map, drive.poses_world_from_ego))
    assert len(layout.left_m) == len(layout.right_m) == 1
    assert layout.ego_m + sum(layout.left_m) + sum(layout.right_m) == pytest.approx(10.5, abs=0.5)


def test_lanes_to_the_left_run_against_the_ego(roads):
    carla_map = carla.Map("straight", roads["straight"][1])
    left = carla_map.get_waypoint(carla.Location(x=5.0, y=-3.5, z=0.0))
    right = carla_map.get_waypoint(carla.Location(x=5.0, y=3.5, z=0.0))
    assert abs(left.transform.rotation.yaw) == pytest.approx(180, abs=1)
    assert abs(right.transform.rotation.yaw) == pytest.approx(0, abs=1)


def test_a_road_on_a_slope_follows_the_height_of_the_ego(build_street):
    drive = build_street(frames=32)
    poses = drive.poses_world_from_ego.copy()
    poses[:, 2, 3] += 0.08 * poses[:, 0, 3]
    carla_map = carla.Map("slope", opendrive_document(fuse_static(drive), poses))
    for x in (2.0, 10.0, 20.0):
        waypoint = carla_map.get_waypoint(carla.Location(x=x, y=0.0, z=0.0))
        assert waypoint.transform.location.z == pytest.approx(0.08 * x, abs=0.1)


def test_the_same_drive_gives_the_same_document(roads):
    drive, document = roads["left turn"]
    assert opendrive_document(fuse_static(drive), drive.poses_world_from_ego) == document
