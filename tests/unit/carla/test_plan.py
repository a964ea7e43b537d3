"""Routes and plans over real road networks, read by the real client library."""

import numpy as np
import pytest
from dyncity_carla.ego import lane_under
from dyncity_carla.frames import carla_from_pose
from dyncity_carla.plan import PATIENCE_S, Planner, ego_pose, pose_of_car
from dyncity_carla.ports import LaneKey
from dyncity_carla.roads import roads_of_document
from dyncity_carla.route import MERGE_M, SPACING_M, Route, choose
from dyncity_carla.speed import BRAKING_MPS2, DEFAULT_LIMIT_MPS, FASTEST_MPS, SpeedLimits, allowed_mps

from dyncity_sim.domain.conditions import Command
from dyncity_sim.domain.frames import planar_from_poses, poses_from_planar, wrap_angle
from dyncity_sim.domain.grid import LIDAR_HEIGHT_M
from dyncity_sim.domain.recording import ActorKind, ActorState
from dyncity_sim.domain.scene import Scene, StaticMap
from dyncity_sim.errors import InvalidInputError, MapError, SimulatorError
from dyncity_sim.scene.package.motions import motions_of

STRAIGHT = """<OpenDRIVE><header revMajor="1" revMinor="4"/><road name="r" length="{length}" id="7" junction="-1">
<type s="0" type="town"><speed max="{limit}" unit="{unit}"/></type>
<planView><geometry s="0" x="0" y="0" hdg="0.5" length="{length}"><line/></geometry></planView>
<lanes><laneSection s="0"><center><lane id="0" type="none" level="false"/></center><right>
<lane id="-1" type="driving" level="false"><width sOffset="0" a="3.5" b="0" c="0" d="0"/></lane></right>
</laneSection></lanes></road></OpenDRIVE>"""


def straight(length_m=400.0, limit=36, unit="km/h"):
    return STRAIGHT.format(length=length_m, limit=limit, unit=unit)


def planner_on(document, seed=1, start=0, beside_m=0.0, speed_mps=0.0):
    roads = roads_of_document("town", document)
    waypoint = roads.waypoints(7.0)[start]
    pose = waypoint.pose_world_from_lane
    route = Route(waypoint, np.random.default_rng(seed), pose[:3, 3] + beside_m * pose[:3, 1])
    return Planner(route, SpeedLimits(document), speed_mps, 0), route


def drive(planner, chunks, frames=16):
    plans = [planner.plan(frames) for _ in range(chunks)]
    return np.concatenate([p.poses_world_from_ego for p in plans]), np.concatenate([p.times_us for p in plans]), plans


def test_a_plan_begins_one_step_after_the_last_one_ends(generated_town):
    planner, _ = planner_on(generated_town)
    poses, times_us, _ = drive(planner, 6)
    np.testing.assert_array_equal(times_us, 100_000 * np.arange(1, 97))
    steps_m = np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1)
    assert steps_m.max() < FASTEST_MPS * 0.1
    assert steps_m[40:].max() > 0.4


def test_the_same_seed_drives_the_same_way_and_others_drive_elsewhere(generated_town):
    ways = [drive(planner_on(generated_town, seed)[0], 25)[0] for seed in (1, 1, 2, 3, 4)]
    np.testing.assert_array_equal(ways[0], ways[1])
    assert any(not np.array_equal(ways[0], other) for other in ways[2:])


@pytest.mark.parametrize("seed", range(4))
def test_a_drive_is_smooth(generated_town, seed):
    poses, _, _ = drive(planner_on(generated_town, seed)[0], 30)
    planar = planar_from_poses(np.stack([pose_of_car(pose) for pose in poses]))
    moves = np.diff(planar[:, :2], axis=0)
    speeds = np.linalg.norm(moves, axis=1) / 0.1
    turns = wrap_angle(np.diff(planar[:, 2]))
    assert np.abs(np.diff(speeds)).max() < 0.1 * 2.5 * BRAKING_MPS2
    assert np.abs(turns).max() < 0.12
    moving = speeds > 1.0
    heading = (planar[:-1, 2] + turns / 2)[moving]
    slip = wrap_angle(np.arctan2(moves[moving, 1], moves[moving, 0]) - heading)
    assert np.abs(slip).max() < np.deg2rad(4)


def test_turns_of_the_road_become_commands(generated_town):
    commands = {
        plan.command for seed in range(6) for plan in drive(planner_on(generated_town, seed, start=5 * seed)[0], 25)[2]
    }
    assert commands >= {Command.LEFT, Command.RIGHT, Command.FORWARD}


def test_a_left_turn_goes_to_carla_s_left(generated_town):
    for seed in range(8):
        for plan in drive(planner_on(generated_town, seed)[0], 25)[2]:
            if plan.command is Command.LEFT:
                first, last = (carla_from_pose(plan.poses_world_from_ego[i]) for i in (0, -1))
                ahead = np.linalg.inv(first.matrix) @ last.matrix
                assert ahead[1, 3] < 0
                assert (last.yaw_deg - first.yaw_deg + 180) % 360 - 180 < -9
                return
    pytest.fail("no seed turned left")


def test_bends_are_taken_slower_than_straights(generated_town):
    planner, route = planner_on(generated_town)
    drive(planner, 30)
    allowed = allowed_mps(route, SpeedLimits(generated_town))
    bend = np.abs(route.curvature()) > 0.06
    assert bend.any()
    assert allowed[bend].max() < 6.5 < allowed.max()


def test_the_ego_stays_on_the_lane_it_follows(real_town):
    planner, _ = planner_on(real_town, seed=3, start=11)
    poses, _, _ = drive(planner, 40)
    centres = np.array([pose_of_car(pose)[:3, 3] for pose in poses])
    roads = roads_of_document("town", real_town)
    away = []
    for centre in centres[::5]:
        waypoint = roads.nearest(centre)
        assert waypoint is not None
        away.append(np.linalg.norm(waypoint.pose_world_from_lane[:3, 3] - centre))
    assert np.median(away) < 0.3
    assert max(away) < 1.6
    assert np.linalg.norm(np.diff(centres[:, :2], axis=0), axis=1).sum() > 150


CAR_M = (4.4, 1.8, 1.5)
REAR_TO_FRONT_M = (CAR_M[0] + 4.7) / 2
"""From the middle of the ego to that of a car that it touches."""


def car_on(route, along_m, speed_mps=0.0, beside_m=0.0):
    """A car on a route, or beside it."""
    point, yaw_rad = route.at(along_m)
    x_m, y_m = point[:2] + beside_m * np.array([-np.sin(yaw_rad), np.cos(yaw_rad)])
    pose = poses_from_planar(np.array([x_m, y_m, yaw_rad]), float(point[2]) + CAR_M[2] / 2)
    return ActorState(1, ActorKind.CAR, pose, CAR_M, speed_mps)


def driven_behind(planner, route, place_of, chunks):
    """Distance along a straight route at each frame of a drive behind a car whose place and speed are told by frame."""
    start_m, along_m = route.at(0.0)[0], []
    for chunk in range(chunks):
        plan = planner.plan(16, [car_on(route, *place_of(16 * chunk))])
        centres_m = np.array([pose_of_car(pose)[:3, 3] for pose in plan.poses_world_from_ego])
        along_m.extend(np.linalg.norm(centres_m - start_m, axis=1))
    return np.array(along_m)


@pytest.mark.parametrize("speed_mps", [0.0, 9.0])
def test_an_ego_stops_behind_who_stands_on_its_way(speed_mps):
    planner, route = planner_on(straight(), speed_mps=speed_mps)
    along_m = driven_behind(planner, route, lambda frame: (60.0, 0.0), 12)
    assert 1.0 < 60.0 - REAR_TO_FRONT_M - along_m[-1] < 6.0
    assert along_m[-1] == pytest.approx(along_m[-16], abs=0.5)


def test_an_ego_follows_who_drives_more_slowly():
    planner, route = planner_on(straight(600.0), speed_mps=9.0)
    along_m = driven_behind(planner, route, lambda frame: (40.0 + 0.5 * frame, 5.0), 30)
    gaps_m = 40.0 + 0.5 * np.arange(1, len(along_m) + 1) - REAR_TO_FRONT_M - along_m
    assert gaps_m.min() > 2.0
    assert gaps_m[-1] < 15.0
    assert (along_m[-1] - along_m[-81]) / 8.0 == pytest.approx(5.0, abs=0.5)


def test_who_brakes_once_a_plan_is_made_is_not_run_into():
    def place_of(frame):
        braked_s = min(max(frame - 81, 0) * 0.1, 3.0)
        speed_mps = 9.0 - 3.0 * braked_s
        return 30.0 + 0.9 * min(frame, 81) + (9.0 + speed_mps) / 2 * braked_s, speed_mps

    planner, route = planner_on(straight(600.0), speed_mps=9.0)
    along_m = driven_behind(planner, route, place_of, 20)
    gaps_m = np.array([place_of(frame)[0] for frame in range(1, 321)]) - REAR_TO_FRONT_M - along_m
    assert gaps_m.min() > 1.0


@pytest.mark.parametrize(("along_m", "beside_m"), [(60.0, 3.2), (60.0, -3.2), (-8.0, 0.0), (1.0, 0.0)])
def test_who_is_beside_or_behind_the_ego_or_in_it_is_not_waited_for(along_m, beside_m):
    planner, route = planner_on(straight())
    car = car_on(route, max(along_m, 0.0), beside_m=beside_m)
    car.pose_world_from_actor[:2, 3] += min(along_m, 0.0) * car.pose_world_from_actor[:2, 0]
    alone, _ = planner_on(straight())
    for _ in range(6):
        np.testing.assert_array_equal(planner.plan(16, [car]).poses_world_from_ego, alone.plan(16).poses_world_from_ego)


def test_who_drives_on_a_bridge_over_the_ego_s_road_is_not_waited_for():
    planner, route = planner_on(straight())
    car = car_on(route, 40.0)
    car.pose_world_from_actor[2, 3] += 5.0
    alone, _ = planner_on(straight())
    np.testing.assert_array_equal(planner.plan(64, [car]).poses_world_from_ego, alone.plan(64).poses_world_from_ego)


def test_who_never_moves_is_waited_for_no_longer_than_a_minute():
    planner, route = planner_on(straight(800.0))
    along_m = driven_behind(planner, route, lambda frame: (30.0, 0.0), 70)
    standing = np.flatnonzero(along_m > 30.0 - REAR_TO_FRONT_M - 6.0)[0]
    passed = np.flatnonzero(along_m > 30.0)
    assert len(passed), "it goes on"
    assert passed[0] - standing > 10 * PATIENCE_S


def test_an_ego_beside_its_lane_comes_back_to_it():
    planner, route = planner_on(straight(), beside_m=1.5)
    first = route.at(0.0)[0]
    lane, side = np.array([np.cos(0.5), np.sin(0.5)]), np.array([-np.sin(0.5), np.cos(0.5)])
    assert first[:2] @ side == pytest.approx(-1.75 + 1.5, abs=0.05)
    assert route.at(MERGE_M + 5)[0][:2] @ side == pytest.approx(-1.75, abs=0.05)
    poses, _, _ = drive(planner, 10)
    assert ((poses[:, :2, 3] @ lane)[1:] >= (poses[:, :2, 3] @ lane)[:-1]).all()


@pytest.mark.parametrize(("limit", "unit", "mps"), [(36, "km/h", 10.0), (25, "mph", 11.176), (8, "m/s", 8.0)])
def test_the_ego_reaches_the_speed_limit_and_keeps_it(limit, unit, mps):
    poses, _, _ = drive(planner_on(straight(limit=limit, unit=unit))[0], 10)
    speeds = np.linalg.norm(np.diff(poses[:, :2, 3], axis=0), axis=1) / 0.1
    assert speeds.max() == pytest.approx(mps, abs=0.05)


def test_the_ego_stops_where_the_road_ends_and_then_says_so():
    planner, route = planner_on(straight(length_m=60.0))
    with pytest.raises(SimulatorError, match="road ends"):
        drive(planner, 40)
    assert route.ends
    assert route.length_m == pytest.approx(60.0, abs=8.0)


def test_a_moving_ego_goes_on_at_its_speed():
    poses, _, _ = drive(planner_on(straight(), speed_mps=9.0)[0], 1)
    assert np.linalg.norm(poses[1, :2, 3] - poses[0, :2, 3]) / 0.1 == pytest.approx(9.0, abs=0.3)


def test_the_ego_frame_stands_at_the_lidar_and_comes_back_to_the_car():
    pose = ego_pose(np.array([10.0, 5.0, 2.0]), np.pi / 2)
    np.testing.assert_allclose(pose[:3, 3], [10.0, 4.5, 2.0 + LIDAR_HEIGHT_M], atol=1e-12)
    np.testing.assert_allclose(pose_of_car(pose)[:3, 3], [10.0, 5.0, 2.0], atol=1e-12)


def test_a_plan_of_one_frame_is_refused():
    with pytest.raises(InvalidInputError, match="frames"):
        planner_on(straight())[0].plan(1)


@pytest.mark.parametrize("document", ["<OpenDRIVE></OpenDRIVE>", "", "no xml", '<OpenDRIVE><road id="1"/></OpenDRIVE>'])
def test_a_document_without_a_lane_is_no_map(document):
    with pytest.raises(MapError):
        roads_of_document("bad", document)


def test_a_speed_limit_in_an_unknown_unit_is_refused():
    with pytest.raises(MapError, match="furlong"):
        SpeedLimits(straight(unit="furlong"))


def test_places_off_every_road_have_no_lane():
    roads = roads_of_document("town", straight())
    assert roads.nearest(np.array([100.0, 300.0, 0.0])) is None


@pytest.mark.parametrize("start", [20, 60])
def test_the_lane_of_each_point_is_the_one_under_it_however_far_the_route_goes(real_town, start):
    roads = roads_of_document("town", real_town)
    waypoint = roads.waypoints(50.0)[start]
    route = Route(waypoint, np.random.default_rng(1), waypoint.pose_world_from_lane[:3, 3])
    route.grow(3000.0)
    rng, walked = np.random.default_rng(1), [waypoint]
    while ways := walked[-1].next(1.0):
        walked.append(choose(ways, rng))
        if len(walked) > 1.5 * route.length_m:
            break
    places = {}
    for each in walked:
        places.setdefault(each.lane, []).append(each.pose_world_from_lane[:2, 3])
    for point, lane in zip(route.points_m[:, :2], route.lanes, strict=True):
        assert np.linalg.norm(np.array(places[lane]) - point, axis=1).min() < 2.0


def test_a_route_that_forgot_its_beginning_goes_on_as_if_it_had_not(generated_town):
    (_, whole), (_, short) = (planner_on(generated_town, seed=2) for _ in range(2))
    whole.grow(600.0)
    short.grow(300.0)
    short.forget(200.0)
    short.grow(600.0)
    assert 150.0 < short.begin_m <= 200.0
    assert short.length_m == whole.length_m
    for distance_m in np.arange(200.0, 600.0, 0.7):
        (first, first_yaw), (second, second_yaw) = (route.at(distance_m) for route in (whole, short))
        np.testing.assert_allclose(first, second, atol=1e-9)
        assert abs(wrap_angle(first_yaw - second_yaw)) < 1e-9
    ahead = round((600.0 - 210.0) / SPACING_M)
    np.testing.assert_allclose(whole.curvature()[-ahead:], short.curvature()[-ahead:], atol=1e-9)
    assert whole.lanes[-ahead:] == short.lanes[-ahead:]


def test_a_drive_of_half_an_hour_plans_no_more_road_than_one_of_a_minute(generated_town):
    planner, route = planner_on(generated_town)
    points = []
    for _ in range(1125):
        planner.plan(16)
        points.append(len(route.points_m))
    assert max(points[40:]) <= 2 * max(points[:40])


@pytest.mark.parametrize("road", ["r1", ""])
def test_a_road_without_a_number_is_refused(road):
    with pytest.raises(MapError, match="road id"):
        SpeedLimits(straight().replace('id="7"', f'id="{road}"'))


@pytest.mark.parametrize("limit", ["unlimited", "nan", "-3"])
def test_a_speed_limit_that_is_no_speed_is_refused(limit):
    with pytest.raises(MapError, match=limit):
        SpeedLimits(straight(limit=limit))


def test_a_road_type_that_begins_nowhere_is_refused():
    with pytest.raises(MapError, match="somewhere"):
        SpeedLimits(straight().replace('<type s="0"', '<type s="somewhere"'))


@pytest.mark.parametrize("limit", ["no limit", "undefined"])
def test_a_road_without_a_speed_limit_has_the_default(limit):
    assert SpeedLimits(straight(limit=limit)).at(LaneKey(7, 0, -1, 10.0)) == DEFAULT_LIMIT_MPS


@pytest.mark.parametrize(("turned_deg", "accepted"), [(0, True), (40, True), (-40, True), (50, False), (180, False)])
def test_an_ego_across_or_against_its_lane_is_refused(turned_deg, accepted):
    roads = roads_of_document("town", straight())
    pose = roads.waypoints(7.0)[5].pose_world_from_lane @ poses_from_planar(np.array([0, 0.5, np.deg2rad(turned_deg)]))
    if accepted:
        assert lane_under(roads, carla_from_pose(pose)).lane.road == 7
    else:
        with pytest.raises(SimulatorError, match=f"turned by {turned_deg} degrees"):
            lane_under(roads, carla_from_pose(pose))


def test_a_route_is_evenly_spaced(generated_town):
    _, route = planner_on(generated_town)
    steps = np.linalg.norm(np.diff(route.points_m[:, :2], axis=0), axis=1)
    assert steps.max() < 1.2 * SPACING_M
    assert np.median(steps) == pytest.approx(SPACING_M, rel=0.02)


@pytest.mark.parametrize("yaw_rad", [0.0, 2.5])
def test_the_hero_of_a_scene_is_where_the_car_stood(yaw_rad):
    poses = ego_pose(np.array([10.0, 5.0, 2.0]), yaw_rad)[None]
    nothing = StaticMap(np.zeros((1, 1, 1), np.uint8), (0.0, 0.0, 0.0), (0.4, 0.4, 0.375))
    (hero,) = motions_of(Scene((), nothing, poses, np.zeros(1, np.int64), ""))
    np.testing.assert_allclose(hero.places[0], [10.0, 5.0, 2.0, yaw_rad])
