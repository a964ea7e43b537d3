"""Rigs out of YAML: those that come with the package, what a file can say, and what it is told off for."""

import numpy as np
import pytest

from dyncity_sim.domain.grid import CARLASC_GRID
from dyncity_sim.domain.sensors import REFLECTIVITY, Dropout, Scan
from dyncity_sim.errors import ConfigError
from dyncity_sim.groundtruth.sensors.rays import check_rig
from dyncity_sim.groundtruth.sensors.rig import read_rig, rig_names

FORWARD_Z, RIGHT_X = np.array([0, 0, 1.0]), np.array([1.0, 0, 0])


@pytest.fixture
def rig_of(tmp_path):
    def read(text):
        (tmp_path / "mine.yaml").write_text(text)
        return read_rig(tmp_path / "mine.yaml")

    return read


@pytest.mark.parametrize("name", rig_names())
def test_shipped_rigs_stand_in_the_default_grid(name):
    rig = read_rig(name)
    assert rig.name == name
    check_rig(rig, CARLASC_GRID)


@pytest.mark.parametrize(
    ("name", "beams", "highest_deg", "lowest_deg", "firings"),
    [
        ("hdl64", 64, 2.0, -24.333, 2083),
        ("hdl32", 32, 10.667, -30.667, 1085),
        ("vlp16", 16, 15.0, -15.0, 1808),
        ("vls128", 128, 15.0, -25.0, 1876),
        ("os1_64", 64, 16.6, -16.6, 1024),
        ("os1_128", 128, 22.5, -22.5, 1024),
        ("pandar64", 64, 14.882, -24.897, 1800),
    ],
)
def test_beams_are_those_of_the_data_sheets_from_the_highest_down(name, beams, highest_deg, lowest_deg, firings):
    lidar = read_rig(name).lidars[0]
    degrees = np.rad2deg(lidar.elevations_rad)
    assert (len(degrees), lidar.azimuth_steps) == (beams, firings)
    np.testing.assert_allclose(degrees[[0, -1]], [highest_deg, lowest_deg], atol=1e-3)
    assert (np.diff(degrees) < 0).all()


def test_nuscenes_cameras_look_all_around():
    cameras = {camera.name: camera for camera in read_rig("nuscenes").cameras}
    views = {name: camera.pose_ego_from_sensor[:3, :3] @ FORWARD_Z for name, camera in cameras.items()}
    np.testing.assert_allclose(views["cam_front"], [1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(views["cam_back"], [-1, 0, 0], atol=1e-12)
    assert views["cam_front_left"][1] > 0.8
    assert views["cam_back_right"][1] < -0.9
    for camera in cameras.values():
        np.testing.assert_allclose(camera.pose_ego_from_sensor[:3, 1], [0, 0, -1], atol=1e-12)


def test_the_file_names_the_rig_and_its_values_go_over_the_models(rig_of):
    rig = rig_of("""
        lidars:
          - name: roof
            model: vlp16
            max_range_m: 60
            scan: rolling
            reflectivity: {vehicle: 0.9}
            dropout: {always: 0.1, at_dark: 0.2}
            range_noise_m: 0.03
            falloff_m: 10
            mount: {position_m: [0.5, 0, 0.2], rpy_deg: [0, 10, 90]}
    """)
    lidar = rig.lidars[0]
    assert (rig.name, lidar.name, len(lidar.elevations_rad), lidar.max_range_m) == ("mine", "roof", 16, 60.0)
    assert (lidar.scan, lidar.period_s, lidar.falloff_m, lidar.range_noise_m) == (Scan.ROLLING, 0.1, 10.0, 0.03)
    assert lidar.dropout == Dropout(always=0.1, at_dark=0.2)
    assert lidar.reflectivity == {**REFLECTIVITY, "vehicle": 0.9}
    # Yaw turns it to the left, pitch down.
    tilt = np.deg2rad(10)
    np.testing.assert_allclose(lidar.pose_ego_from_sensor[:3, 0], [0, np.cos(tilt), -np.sin(tilt)], atol=1e-12)
    assert lidar.position_ego_m.tolist() == [0.5, 0.0, 0.2]


def test_a_field_of_view_spans_the_width(rig_of):
    camera = rig_of("""
        lidars: [{model: vlp16}]
        cameras: [{width: 800, height: 600, fov_deg: 90}]
    """).cameras[0]
    np.testing.assert_allclose(camera.focal_px, [400, 400])
    assert camera.centre_px == (400.0, 300.0)


def test_angles_and_quaternions_say_the_same(rig_of):
    rig = rig_of("""
        lidars: [{model: vlp16}]
        cameras:
          - {name: a, width: 8, height: 6, focal_px: [9, 9], mount: {rpy_deg: [0, 0, -90]}}
          - {name: b, width: 8, height: 6, focal_px: [9, 9], mount: {quaternion_wxyz: [0, 0, -0.70710678, 0.70710678]}}
    """)
    by_angles, by_quaternion = (camera.pose_ego_from_sensor for camera in rig.cameras)
    np.testing.assert_allclose(by_angles[:3, :3] @ FORWARD_Z, [0, -1, 0], atol=1e-12)
    np.testing.assert_allclose(by_angles[:3, :3] @ RIGHT_X, [-1, 0, 0], atol=1e-12)
    np.testing.assert_allclose(by_quaternion, by_angles, atol=1e-7)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("lidars: [{model: hdl65}]", r"mine\.yaml: lidars\[0\]: model: got 'hdl65', expected one of hdl32e, hdl64e"),
        (
            "lidars: [{model: vlp16, rangge_m: 3}]",
            r"mine\.yaml: lidars\[0\]: rangge_m.*expected keys among azimuth_steps",
        ),
        ("lidars: [{model: vlp16, max_range_m: far}]", r"mine\.yaml: lidars\[0\]: max_range_m: got Value 'far'"),
        ("lidars: [{model: vlp16, max_range_m: -1}]", r"mine\.yaml: lidars\[0\]: lidar range"),
        ("lidars: [{model: vlp16, scan: slow}]", r"lidars\[0\]: scan: got 'slow', expected one of instant, rolling"),
        ("lidars: [{model: vlp16, dropout: {always: 2}}]", r"lidars\[0\]: dropout\.always: got 2\.0"),
        ("lidars: [{model: vlp16, dropout: {certain: 1}}]", r"lidars\[0\]: dropout\.certain"),
        ("lidars: [{model: vlp16, reflectivity: {cat: 1}}]", r"lidars\[0\]: reflectivity: got classes cat"),
        ("lidars: [{model: vlp16, reflectivity: {road: 3}}]", r"lidars\[0\]: lidar\.reflectivity\.road: got 3\.0"),
        ("lidars: [{model: vlp16, mount: {position_m: [1, 2]}}]", r"lidars\[0\]: mount\.position_m.*3 finite numbers"),
        (
            "lidars: [{model: vlp16, mount: {quaternion_wxyz: [1, 1, 0, 0]}}]",
            r"mount\.quaternion_wxyz.*a unit quaternion",
        ),
        ("lidars: [{azimuth_steps: 4}]", r"lidars\[0\]: lidar: got no elevations_deg.*Models: hdl32e"),
        ("lidars: [{model: vlp16, name: a/b}]", r"mine\.yaml: sensor\.name: got 'a/b'"),
        ("lidars: [{model: vlp16}, {model: vlp16}]", r"mine\.yaml: rig.*a name of its own"),
        ("lidars: [{model: vlp16, name: top}, {model: vlp16, name: TOP}]", r"mine\.yaml: rig.*a name of its own"),
        ("lidars: [3]", r"mine\.yaml: lidars\[0\]: got 3, expected keys and values"),
        ("lidars: []", r"mine\.yaml: rig\.lidars: got none"),
        (
            "lidars: [{model: vlp16}]\ncameras: [{width: 3, height: 4}]",
            r"cameras\[0\]: camera: got fov_deg and focal_px",
        ),
        ("lidars: [{model: vlp16}]\ncameras: [{fov_deg: 90}]", r"cameras\[0\]: camera"),
        ("lidars: [{model: vlp16, mount: {position_m: [1, [2], 3]}}]", r"mount\.position_m.*3 finite numbers"),
        ("lidars: [{model: vlp16, mount: {rpy_deg: {x: 1}}}]", r"lidars\[0\]"),
        ("lidars: [{elevations_deg: [0, [1, 2]], azimuth_steps: 4}]", r"lidars\[0\]: elevations_deg.*finite numbers"),
        ("lidars: [{elevations_deg: [.nan], azimuth_steps: 4}]", r"lidars\[0\]: elevations_deg.*finite numbers"),
        ("lidars: [{model: vlp16, azimuth_steps: 100000000}]", r"azimuth_steps: got 100000000, expected 1 to 100000"),
        (
            "lidars: [{model: vlp16}]\ncameras: [{fov_deg: 90, width: 1000000, height: 4}]",
            r"cameras\[0\]: camera size: got 1000000 x 4, expected 1 to 8192 pixels",
        ),
        ("lidars: {a: 1}", r"mine\.yaml"),
        ("[{model: vlp16}]", r"mine\.yaml.*keys with values"),
        ("vlp16", r"mine\.yaml"),
        ("cameras: 3", r"cameras: got .*mine\.yaml"),
        ("lidars: [{", "valid YAML"),
    ],
)
def test_what_is_wrong_in_a_file_is_named_with_the_file_and_the_field(rig_of, text, told):
    with pytest.raises(ConfigError, match=told):
        rig_of(text)


def test_an_unknown_rig_is_told_the_names_there_are():
    with pytest.raises(ConfigError, match=r"rig: got 'hdl65'.*one of hdl32, hdl64, kitti, nuscenes"):
        read_rig("hdl65")


def test_a_file_that_is_no_text_is_named(tmp_path):
    (tmp_path / "mine.yaml").write_bytes(b"\x7fELF\xd0\xff")
    with pytest.raises(ConfigError, match=r"mine\.yaml.*valid YAML"):
        read_rig(tmp_path / "mine.yaml")
