"""The OpenDRIVE document, judged by the real carla.Map, by SUMO's netconvert, and by the standard's schema."""

import subprocess
import tracemalloc
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import carla
import numpy as np
import pytest
import schemas
import sumo
import xmlschema

from dyncity_sim.domain.frames import poses_from_planar, transform_points
from dyncity_sim.domain.grid import CARLASC_GRID
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.scene import StaticMap
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.errors import InvalidInputError
from dyncity_sim.scene.road.carriageway import carriageway
from dyncity_sim.scene.road.coverage import on_driving_lanes, road_coverage
from dyncity_sim.scene.road.document import document_of, opendrive_document
from dyncity_sim.scene.road.network import Road, RoadNetwork
from dyncity_sim.scene.road.opendrive import reference_line, roads_of
from dyncity_sim.scene.surfaces.fuse import fuse_static

SCHEMAS = Path(next(iter(schemas.__path__)))
SUMO_HOME = Path(sumo.SUMO_HOME)
ROAD, SIDEWALK = CARLASC.index("road"), CARLASC.index("sidewalk")

STREETS = {
    "straight": {"frames": 24, "ego_speed_mps": 8.0},
    "left bend": {"frames": 24, "ego_speed_mps": 8.0, "curvature_per_m": 1 / 25},
    "right bend": {"frames": 24, "ego_speed_mps": 8.0, "curvature_per_m": -1 / 25},
    "stationary": {"frames": 8, "ego_speed_mps": 0.0},
    "very short": {"frames": 3, "ego_speed_mps": 1.0},
    "one frame": {"frames": 1, "ego_speed_mps": 0.0},
    "no road at all": {"frames": 4, "ego_speed_mps": 5.0, "empty": True},
}


def arms(*headings_deg, half_m=4.0):
    """Whether points lie on roads from the origin in some directions, with rounded corners between them."""

    def road(x, y):
        on_road = np.hypot(x, y) < 1.6 * half_m
        for heading in np.deg2rad(headings_deg):
            along, across = x * np.cos(heading) + y * np.sin(heading), y * np.cos(heading) - x * np.sin(heading)
            on_road |= (along > 0) & (np.abs(across) < half_m)
        return on_road

    return road


def drive_over(road, planar):
    """A drive along planar poses in a world whose roads are a function of position; all else is sidewalk."""
    poses = poses_from_planar(np.asarray(planar), 1.8)
    labels = np.zeros((len(poses), *CARLASC_GRID.shape), dtype=np.uint8)
    x, y = np.meshgrid(CARLASC_GRID.centres(0), CARLASC_GRID.centres(1), indexing="ij")
    cells = np.stack([x, y, np.zeros_like(x)], -1).reshape(-1, 3)
    for frame, pose in zip(labels, poses, strict=True):
        world = transform_points(pose, cells)
        frame[..., 0] = np.where(road(world[:, 0], world[:, 1]), ROAD, SIDEWALK).reshape(x.shape)
    return OccupancySequence(labels, poses, np.arange(len(poses)) * 100_000, CARLASC_GRID, CARLASC)


def straight_on(start_m=-20.0, stop_m=20.0):
    x = np.linspace(start_m, stop_m, 21)
    return np.stack([x, np.full(21, -2.0), np.zeros(21)], axis=-1)


def turning(side):
    """From the west to the north (1) or to the south (-1), in the right lanes."""
    radius = 8.0 if side > 0 else 4.0
    edge = 6.0
    before = np.array([[x, -2.0, 0.0] for x in np.arange(-16.0, -edge, 2.0)])
    angles = np.linspace(0, np.pi / 2, 8)
    turn = np.stack(
        [-edge + radius * np.sin(angles), -2.0 + side * radius * (1 - np.cos(angles)), side * angles], axis=-1
    )
    after = turn[-1] + np.array([[0.0, side * m, 0.0] for m in np.arange(1.0, 8.0, 2.0)])
    return np.concatenate([before, turn, after])


CROSSINGS = {
    "across four arms": (arms(0, 90, 180, 270), straight_on()),
    "left at four arms": (arms(0, 90, 180, 270), turning(1)),
    "right at four arms": (arms(0, 90, 180, 270), turning(-1)),
    "past a road to the left": (arms(0, 90, 180), straight_on()),
    "past a slanting road": (arms(0, 180, 235), straight_on()),
    "from the foot of a T": (arms(180, 90, 270), straight_on(-24.0, -9.0)),
    "standing in the middle": (arms(0, 90, 180, 270), straight_on(-2.0, -2.0)),
}


@pytest.fixture(scope="module")
def roads(build_street):
    drives = {name: build_street(**arguments) for name, arguments in STREETS.items()}
    drives |= {name: drive_over(*arguments) for name, arguments in CROSSINGS.items()}
    return {n: (d, opendrive_document(fuse_static(d), d.poses_world_from_ego)) for n, d in drives.items()}


@pytest.fixture(scope="module")
def schema():
    return xmlschema.XMLSchema(str(SCHEMAS / "opendrive_17_core.xsd"))


def location(pose):
    return carla.Location(x=pose[0, 3], y=-pose[1, 3], z=pose[2, 3] - 1.8)


@pytest.mark.parametrize("name", STREETS)
def test_carla_drives_on_a_lane_under_the_whole_ego_path(roads, name):
    drive, document = roads[name]
    carla_map = carla.Map(name, document)
    assert len(carla_map.generate_waypoints(2.0)) >= 10
    assert carla_map.get_topology()
    for pose in drive.poses_world_from_ego:
        place = location(pose)
        waypoint = carla_map.get_waypoint(place, project_to_road=False)
        assert waypoint is not None, "the ego is off the road"
        assert waypoint.lane_id == -1
        centre = waypoint.transform
        assert np.hypot(centre.location.x - place.x, centre.location.y - place.y) < 0.2
        assert centre.location.z == pytest.approx(place.z, abs=0.05)
        yaw_rad = -np.deg2rad(centre.rotation.yaw) - np.arctan2(pose[1, 0], pose[0, 0])
        assert np.cos(yaw_rad) > np.cos(np.deg2rad(5))


@pytest.mark.parametrize("name", CROSSINGS)
def test_carla_finds_lanes_under_the_ego_path_at_junctions_too(roads, name):
    drive, document = roads[name]
    carla_map = carla.Map(name, document)
    assert carla_map.get_topology()
    assert any(waypoint.is_junction for waypoint in carla_map.generate_waypoints(1.0))
    for pose in drive.poses_world_from_ego:
        assert carla_map.get_waypoint(location(pose), project_to_road=False) is not None, "the ego is off the road"


@pytest.mark.parametrize("name", [*STREETS, *CROSSINGS])
def test_the_document_is_valid_opendrive(roads, schema, name):
    assert [e.reason for e in schema.iter_errors(roads[name][1])] == []


def test_the_schema_can_refuse(roads, schema):
    assert not schema.is_valid(roads["straight"][1].replace('length="', 'lenght="'))


@pytest.mark.parametrize("name", [*STREETS, *CROSSINGS])
def test_netconvert_makes_a_network_of_it(roads, name, tmp_path):
    source, net = tmp_path / "map.xodr", tmp_path / "map.net.xml"
    source.write_text(roads[name][1])
    done = subprocess.run(
        [SUMO_HOME / "bin" / "netconvert", "--opendrive-files", source, "-o", net],
        env={"SUMO_HOME": str(SUMO_HOME), "PROJ_DATA": str(SUMO_HOME / "data" / "proj")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, "Error" in done.stderr) == (0, False), done.stderr
    root = ElementTree.parse(net).getroot()
    edges = [edge for edge in root.iter("edge") if edge.get("function") != "internal"]
    assert len(edges) >= (1 if name in STREETS else 5)
    if name in CROSSINGS:
        assert len(root.findall("connection")) >= 5


@pytest.mark.parametrize("name", [n for n in (*STREETS, *CROSSINGS) if n != "no road at all"])
def test_lanes_cover_the_road_near_the_path_and_little_else(roads, name):
    drive, document = roads[name]
    found = road_coverage(document, fuse_static(drive), drive.poses_world_from_ego)
    assert found.covered >= 0.9
    assert found.outside <= 0.1
    assert found.path == 1.0


def test_the_measure_sees_roads_that_are_missing_and_lanes_off_the_road(roads):
    crossing, street = roads["across four arms"], roads["past a road to the left"]
    poses = crossing[0].poses_world_from_ego
    assert road_coverage(street[1], fuse_static(crossing[0]), poses).covered < 0.9
    assert road_coverage(crossing[1], fuse_static(street[0]), poses).outside > 0.1
    assert road_coverage(roads["no road at all"][1], fuse_static(crossing[0]), poses).path < 1


@pytest.mark.parametrize("name", ["straight", "left at four arms", "past a slanting road"])
def test_carla_finds_lanes_where_the_measure_does(roads, name):
    drive, document = roads[name]
    carla_map = carla.Map(name, document)
    middle = drive.poses_world_from_ego[len(drive.poses_world_from_ego) // 2, :2, 3]
    x, y = (c + np.arange(-20.0, 20.0, 0.7) for c in middle)
    points = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    asked = [carla_map.get_waypoint(carla.Location(p[0], -p[1], 0.0), project_to_road=False) for p in points]
    agreed = on_driving_lanes(document, points) == np.array([waypoint is not None for waypoint in asked])
    assert agreed.mean() > 0.97


@pytest.mark.parametrize(
    ("name", "exits"), [("across four arms", 3), ("past a road to the left", 2), ("from the foot of a T", 2)]
)
def test_a_vehicle_can_turn_wherever_the_road_goes_on(roads, name, exits):
    drive, document = roads[name]
    carla_map = carla.Map(name, document)
    pose = drive.poses_world_from_ego[0]
    here = [carla_map.get_waypoint(location(pose), project_to_road=False)]
    reached = set()
    for _ in range(60):
        here = [following for waypoint in here for following in waypoint.next(1.0)]
        here = list({(w.road_id, w.lane_id): w for w in here}.values())
        reached |= {w.road_id for w in here if not w.is_junction}
    start = carla_map.get_waypoint(location(pose)).road_id
    assert len(reached - {start}) == exits


def test_lanes_fill_the_road_that_was_seen(roads):
    carla_map = carla.Map("straight", roads["straight"][1])
    ego = carla_map.get_waypoint(carla.Location(5.0, 0.0, 0.0))
    lanes = [ego.get_left_lane(), ego, ego.get_right_lane()]
    assert sum(lane.lane_width for lane in lanes) == pytest.approx(10.5, abs=0.5)


def test_lanes_to_the_left_run_against_the_ego(roads):
    carla_map = carla.Map("straight", roads["straight"][1])
    left = carla_map.get_waypoint(carla.Location(x=5.0, y=-3.5, z=0.0))
    right = carla_map.get_waypoint(carla.Location(x=5.0, y=3.5, z=0.0))
    assert abs(left.transform.rotation.yaw) == pytest.approx(180, abs=1)
    assert abs(right.transform.rotation.yaw) == pytest.approx(0, abs=1)


def test_lanes_narrow_where_the_road_does():
    def road(x, y):
        return (y > -4) & (y < np.clip(8 - 0.1 * x, 4, 8))

    drive = drive_over(road, straight_on(0.0, 40.0))
    carla_map = carla.Map("narrow", opendrive_document(fuse_static(drive), drive.poses_world_from_ego))
    for x in (5.0, 20.0, 35.0):
        here = carla_map.get_waypoint(carla.Location(x, 2.0, 0.0), project_to_road=False)
        width = 0.0
        while here is not None and (width == 0.0 or here.lane_id > 0):
            width, last = width + here.lane_width, here.lane_id
            here = here.get_right_lane() if here.lane_id > 0 else None
            if here is not None and here.lane_id == last:
                break
        left_edge = max(
            y for y in np.arange(0, 12, 0.1) if carla_map.get_waypoint(carla.Location(x, -y, 0.0), False) is not None
        )
        assert left_edge == pytest.approx(np.clip(8 - 0.1 * x, 4, 8), abs=0.6)


@pytest.mark.parametrize("length_m", [0.9, 1.47, 1.5, 1.53, 2.4])
def test_the_lane_of_a_road_that_ends_is_in_the_topology_of_carla(length_m):
    """A road of 20 m more than the drive: its length in single precision must not lie beyond its end."""
    poses = poses_from_planar(np.linspace(0, length_m, 4)[:, None] * [1.0, 0.0, 0.0], 1.8)
    labels = np.zeros((4, *CARLASC_GRID.shape), np.uint8)
    drive = OccupancySequence(labels, poses, np.arange(4) * 100_000, CARLASC_GRID, CARLASC)
    assert len(carla.Map("end", opendrive_document(fuse_static(drive), poses)).get_topology()) == 1


@pytest.mark.parametrize("x", [-18.0, -22.0])
def test_the_way_on_of_an_ego_that_stands_before_a_junction_does_not_cut_the_corner(x):
    drive = drive_over(arms(180, 90, 270, half_m=6.0), straight_on(x, x))
    static_map = fuse_static(drive)
    document = opendrive_document(static_map, drive.poses_world_from_ego)
    assert road_coverage(document, static_map, drive.poses_world_from_ego, near_m=25.0).outside <= 0.03


def test_a_road_of_two_knots_rises_from_one_to_the_other():
    points, width = np.array([[0.0, 0.0, 1.0], [4.0, 0.0, 1.6]]), np.full((2, 1), 3.5)
    document = document_of(RoadNetwork((Road(points, np.zeros(2), np.zeros(2), width, width),), ()))
    carla_map = carla.Map("ramp", document)
    for x in (0.5, 2.0, 3.5):
        waypoint = carla_map.get_waypoint(carla.Location(x=x, y=1.0, z=1.0))
        assert waypoint.transform.location.z == pytest.approx(1.0 + 0.15 * x, abs=0.01)


def test_a_road_on_a_slope_follows_the_height_of_the_ego(build_street):
    flat = build_street(frames=32)
    poses = flat.poses_world_from_ego.copy()
    poses[:, 2, 3] += 0.08 * poses[:, 0, 3]
    drive = OccupancySequence(flat.labels, poses, flat.times_us, flat.grid, flat.taxonomy)
    carla_map = carla.Map("slope", opendrive_document(fuse_static(drive), poses))
    for x in (2.0, 10.0, 20.0):
        waypoint = carla_map.get_waypoint(carla.Location(x=x, y=0.0, z=0.0))
        assert waypoint.transform.location.z == pytest.approx(0.08 * x, abs=0.1)


@pytest.mark.parametrize("name", [*STREETS, *CROSSINGS])
def test_no_piece_of_a_height_width_or_offset_goes_on_as_the_one_before(roads, name):
    """What ASAM's checker has against a document otherwise (asam.net:xodr:1.7.0:performance.avoid_redundant_info)."""
    root = ElementTree.fromstring(roads[name][1])
    for owner, piece, start in (
        ("elevationProfile", "elevation", "s"),
        ("lanes", "laneOffset", "s"),
        ("lane", "width", "sOffset"),
    ):
        for element in root.iter(owner):
            for before, after in pairwise(element.findall(piece)):
                span_m = float(after.attrib[start]) - float(before.attrib[start])
                gone_on, here = (
                    np.polynomial.Polynomial([float(p.attrib[c]) for c in "abcd"]) for p in (before, after)
                )
                gone_on = gone_on(np.polynomial.Polynomial([span_m, 1.0]))
                assert np.abs((gone_on - here).coef).max() > 1e-6
                assert gone_on(0.0) == pytest.approx(here(0.0), abs=1e-5), "a step"


def test_the_same_drive_gives_the_same_document(roads):
    for name in ("left bend", "left at four arms"):
        drive, document = roads[name]
        assert opendrive_document(fuse_static(drive), drive.poses_world_from_ego) == document


def test_an_ego_that_stands_on_its_nose_is_refused(build_street):
    street = build_street(frames=3)
    poses = street.poses_world_from_ego.copy()
    poses[1, :3, :3] = [[0, 0, 1], [0, 1, 0], [-1, 0, 0]]
    with pytest.raises(InvalidInputError, match=r"straight up or down in frame 1"):
        opendrive_document(fuse_static(street), poses)


def test_what_is_not_opendrive_is_refused():
    for text in ("<OpenDRIVE", '<OpenDRIVE><road id="1"><planView/></road></OpenDRIVE>'):
        with pytest.raises(InvalidInputError, match="an OpenDRIVE document"):
            on_driving_lanes(text, np.zeros((1, 2)))


def test_an_ego_that_reverses_gives_the_road_of_one_that_drives_forward():
    x = np.arange(30.0, 14.0, -0.5)
    backwards = drive_over(arms(0, 180), np.stack([x, np.full(len(x), -2.0), np.zeros(len(x))], axis=-1))
    static_map = fuse_static(backwards)
    document = opendrive_document(static_map, backwards.poses_world_from_ego)
    assert document == opendrive_document(static_map, backwards.poses_world_from_ego[::-1])
    carla_map = carla.Map("backwards", document)
    for pose in backwards.poses_world_from_ego:
        waypoint = carla_map.get_waypoint(location(pose), project_to_road=False)
        assert waypoint.lane_id == -1
        assert np.cos(np.deg2rad(waypoint.transform.rotation.yaw)) > np.cos(np.deg2rad(5))


@pytest.mark.parametrize(
    "turning_points_m", [(0, -12, 14), (-10, 10, -4), (-10, 5, -3, 15), (-12, -2, -20), (0, 8, -8, 3)]
)
def test_an_ego_that_drives_to_and_fro_gives_the_road_of_one_that_drives_it_once(turning_points_m):
    legs = [np.arange(a, b, np.sign(b - a)) for a, b in pairwise(turning_points_m)]
    x = np.concatenate([*legs, turning_points_m[-1:]])
    drive = drive_over(arms(0, 180), np.stack([x, np.full(len(x), -2.0), np.zeros(len(x))], axis=-1))
    static_map = fuse_static(drive)
    once = drive.poses_world_from_ego[np.unique(x, return_index=True)[1]]
    assert opendrive_document(static_map, drive.poses_world_from_ego) == opendrive_document(static_map, once)


def test_an_ego_that_backs_out_of_a_parking_space_gives_a_road_without_a_fold():
    yaw_rad = np.concatenate([np.linspace(0.8, 0.0, 17), np.zeros(24)])
    moved_m = np.concatenate([np.full(17, -0.5), np.full(24, 1.0)])[1:, None]
    steps = moved_m * np.stack([np.cos(yaw_rad[1:]), np.sin(yaw_rad[1:])], axis=-1)
    x, y = np.cumsum(np.concatenate([[[0.0, 1.0]], steps]), axis=0).T
    drive = drive_over(arms(0, 180, half_m=6.0), np.stack([x, y, yaw_rad], axis=-1))
    document = opendrive_document(fuse_static(drive), drive.poses_world_from_ego)
    for road in roads_of(document):
        placed = reference_line(road, np.arange(0.0, float(road.attrib["length"]), 0.1))
        turned_rad = np.abs(np.diff(placed[:, 2]))
        assert turned_rad.max() < 0.1 * 1.0, "a radius under a metre"


def test_between_poses_that_lie_far_apart_there_is_road_too():
    nothing = StaticMap(np.zeros((200, 100, 8), np.uint8), (-10.0, -20.0, -2.0), (0.4, 0.4, 0.375))
    path = np.stack([6.0 * np.arange(10), np.zeros(10)], axis=-1)
    along_m = np.linspace(0, 54, 109)
    for beside_m in (-1.5, 0.0, 1.5):
        assert carriageway(nothing, path).at(np.stack([along_m, np.full(109, beside_m)], axis=-1)).all()


def test_memory_grows_with_the_length_of_a_drive_and_not_with_its_square():
    strip = StaticMap(np.zeros((2500, 60, 8), np.uint8), (0.0, -12.0, -1.0), (0.4, 0.4, 0.375))
    strip.labels[:, 15:45, 2] = ROAD
    poses = poses_from_planar(np.arange(0.0, 1000.0)[:, None] * [1.0, 0.0, 0.0], 1.8)
    tracemalloc.start()
    opendrive_document(strip, poses)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 80 * 2**20
