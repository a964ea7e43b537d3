"""Drives in CARLA: an ego on its plans, generated actors where the generated frames have them."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from dyncity_carla.frames import CarlaTransform, mirrored_points, pose_from_carla
from dyncity_carla.simulator import MOST_LATE_TICKS, CarlaSimulator
from dyncity_carla.timeline import Timeline

from dyncity_sim.cosim.server_process import ServerProcess
from dyncity_sim.domain.conditions import Command
from dyncity_sim.domain.frames import planar_from_poses, transform_points
from dyncity_sim.errors import SimulatorError
from dyncity_sim.scene.package.read import read_scene

POSITION_M, ANGLE_DEG = 0.01, 0.1


def ground_middle(transform, box_centre, box_extent):
    """Where the middle of an actor's underside stands, and its heading, right-handed."""
    pose = pose_from_carla(CarlaTransform(*transform))
    middle = np.array([[box_centre[0], box_centre[1], box_centre[2] - box_extent[2]]])
    return transform_points(pose, mirrored_points(middle))[0], float(np.rad2deg(planar_from_poses(pose)[2]))


def assert_shown_as_told(told, history, boxes):
    """Every actor of a frame stands where the frame's tracks have it, by what clients or the server tell of it."""
    compared = 0
    for line in told:
        transforms = history[line["frame"]]
        for figure in line["figures"]:
            middle, yaw_deg = ground_middle(transforms[str(figure["actor"])], *boxes[figure["blueprint"]])
            expected = np.array(figure["xyz_m"]) - [0, 0, figure["size_m"][2] / 2]
            assert np.linalg.norm(middle - expected) < POSITION_M
            assert abs((yaw_deg - figure["yaw_deg"] + 180) % 360 - 180) < ANGLE_DEG
            compared += 1
    return compared


def in_the_scene(told, scene):
    """What was told of each frame, at the places that the written scene has: for all of its actors then, no others."""
    timeline, lines = Timeline(scene.tracks), []
    for line in told:
        standing = {track.id: (track, pose) for track, pose in timeline.at(line["time_us"])}
        assert {figure["track"] for figure in line["figures"]} == standing.keys()
        figures = []
        for figure in line["figures"]:
            track, pose = standing[figure["track"]]
            yaw_deg = float(np.rad2deg(planar_from_poses(pose)[2]))
            figures.append(figure | {"size_m": track.size_m, "xyz_m": pose[:3, 3], "yaw_deg": yaw_deg})
        lines.append(line | {"figures": figures})
    return lines


WATCHER = """
import json, sys, threading
import carla
client = carla.Client("127.0.0.1", int(sys.argv[1]))
client.set_timeout(60.0)
world = client.get_world()
told = open(sys.argv[2], "w")
def tell(snapshot):
    transforms = {}
    for actor in snapshot:
        at = actor.get_transform()
        place, turn = at.location, at.rotation
        transforms[actor.id] = (place.x, place.y, place.z, turn.pitch, turn.yaw, turn.roll)
    told.write(json.dumps({"frame": snapshot.frame, "transforms": transforms}) + "\\n")
number = world.on_tick(tell)
print("WATCHING", flush=True)
sys.stdin.read()
world.remove_on_tick(number)
told.close()
"""


@pytest.fixture
def watcher(loopback, tmp_path):
    """Another client that only looks: every snapshot that it gets, as JSON lines, once it is told to end."""
    file = tmp_path / "snapshots.jsonl"
    command = [sys.executable, "-c", WATCHER, str(loopback.port), str(file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "WATCHING\n"

        def end():
            process.communicate(timeout=60)
            return file

        yield end
        process.kill()


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_minute_with_forty_generated_actors_is_shown_to_the_centimetre(
    loopback, dyncity, finished, backend_named, lines_of, tmp_path, watcher
):
    backend_named("convoy", Path(__file__).with_name("convoy_backend.py"))
    shown, chunks = tmp_path / "shown.jsonl", 38
    with ServerProcess(["--backend", "convoy"], tmp_path / "server.log") as server:
        arguments = ["--server", server.target, "--chunks", str(chunks), "--start", "plan", "--seed", "3"]
        arguments += ["--lidars", "0", "--timeout", "60", "--outputs", "scene"]
        arguments += ["--shown", str(shown), "--out", str(tmp_path / "drive")]
        process = dyncity("cosim", *arguments)
        boxes = {}
        while process.poll() is None:
            for actor in loopback.inspector.actors("vehicle."):
                boxes[actor["type"]] = (actor["box_centre"], actor["box_extent"])
            try:
                process.wait(0.5)
            except subprocess.TimeoutExpired:
                continue
        code, _, complained = finished(process)
    assert code == 0, complained
    told = lines_of(shown)
    assert len(told) == 16 * chunks
    assert told[-1]["time_us"] - told[0]["time_us"] >= 60_000_000
    assert min(len(line["figures"]) for line in told) >= 40
    snapshots = {line["frame"]: line["transforms"] for line in lines_of(watcher())}
    scene = read_scene(tmp_path / "drive" / "scene")
    assert scene.times_us.tolist() == [line["time_us"] for line in told]
    assert assert_shown_as_told(in_the_scene(told, scene), snapshots, boxes) > 40 * len(told)
    assert loopback.inspector.actors() == []
    assert loopback.inspector.world()["settings"]["synchronous_mode"] is False


def test_the_client_s_own_snapshots_hold_the_actors_where_the_tracks_have_them(
    drive_options, tmp_path, lines_of, chunk_with_car
):
    shown = tmp_path / "shown.jsonl"
    with CarlaSimulator(drive_options(shown=shown), "", 2) as simulator:
        boxes, history = {}, {}
        for _ in range(2):
            plan = simulator.plan(16)
            for _ in simulator.follow(plan, chunk_with_car(plan)):
                snapshot = simulator.world.snapshot()
                transforms = {}
                for actor in simulator.world.actors():
                    found = snapshot.actor(actor.id)
                    if found is None or not actor.type_id.startswith("vehicle."):
                        continue
                    box = simulator.world.bounding_box(actor.id)
                    boxes[actor.type_id] = (box.centre_m, np.array(box.size_m) / 2)
                    at = found.transform
                    transforms[str(actor.id)] = (at.x_m, at.y_m, at.z_m, at.pitch_deg, at.yaw_deg, at.roll_deg)
                history[snapshot.frame] = transforms
    assert assert_shown_as_told(lines_of(shown), history, boxes) == 32


def test_an_actor_that_is_refused_at_first_is_shown_as_soon_as_it_is_not(
    loopback, drive_options, tmp_path, lines_of, chunk_with_car
):
    shown = tmp_path / "shown.jsonl"
    with CarlaSimulator(drive_options(shown=shown), "", 2) as simulator:
        # Two ticks of one try on the spot and three above it, and half of a third.
        loopback.inspector.fault("refuse-spawns", count=10)
        plan = simulator.plan(16)
        for _ in simulator.follow(plan, chunk_with_car(plan)):
            pass
        (late,) = simulator.unspawned
    assert (late.attempts, late.shown_later) == (2, True)
    assert [len(line["figures"]) for line in lines_of(shown)] == [0, 0] + [1] * 14
    assert [len(line["unspawned"]) for line in lines_of(shown)] == [1, 1] + [0] * 14


def test_a_car_generated_ahead_left_of_the_ego_stands_ahead_left_in_carla(loopback, drive_options, chunk_with_car):
    with CarlaSimulator(drive_options(), "", 2) as simulator:
        plan = simulator.plan(16)
        for _ in simulator.follow(plan, chunk_with_car(plan, (10.0, 4.0))):
            pass
        (car,) = loopback.inspector.actors("vehicle.", "dyncity:")
        (ego,) = loopback.inspector.actors("vehicle.", "hero")
    ego_from_world = np.linalg.inv(CarlaTransform(*ego["transform"]).matrix)
    ahead_m, right_m = (ego_from_world @ CarlaTransform(*car["transform"]).matrix)[:2, 3]
    # The ego frame is half a metre behind the middle of the car.
    assert ahead_m == pytest.approx(9.5, abs=0.5)
    assert right_m == pytest.approx(-4.0, abs=0.5)


def test_a_spectator_that_follows_looks_over_the_ego_from_behind_and_is_left_alone_otherwise(loopback, drive_options):
    def spectator():
        (actor,) = (actor for actor in loopback.inspector.world()["actors"] if actor["type"] == "spectator")
        return actor["transform"]

    before = spectator()
    with CarlaSimulator(drive_options(), "", 2) as simulator:
        assert len(list(simulator.follow(simulator.plan(16)))) == 16
    assert spectator() == before
    with CarlaSimulator(drive_options(follow=True), "", 2) as simulator:
        *_, last = simulator.follow(simulator.plan(16))
    pose = pose_from_carla(CarlaTransform(*spectator()))
    seen = np.linalg.inv(pose) @ last.pose_world_from_ego
    # Straight ahead, and below the middle of the picture.
    assert seen[0, 3] > 5.0
    assert abs(seen[1, 3]) < 0.01
    assert -2.0 < seen[2, 3] < 0.0
    assert pose[2, 3] - last.pose_world_from_ego[2, 3] == pytest.approx(3.0, abs=0.01)
    assert planar_from_poses(pose)[2] == pytest.approx(planar_from_poses(last.pose_world_from_ego)[2], abs=1e-3)


def test_left_turns_left_in_carla_and_right_turns_right(loopback, drive_options):
    seen = set()
    for seed in range(2, 10):
        with CarlaSimulator(drive_options(), "", seed) as simulator:
            for _ in range(20):
                plan = simulator.plan(16)
                (before,) = loopback.inspector.actors("vehicle.", "hero")
                for _ in simulator.follow(plan):
                    pass
                (after,) = loopback.inspector.actors("vehicle.", "hero")
                turned_deg = (after["transform"][4] - before["transform"][4] + 180) % 360 - 180
                if plan.command is Command.LEFT:
                    assert turned_deg < -5
                elif plan.command is Command.RIGHT:
                    assert turned_deg > 5
                seen.add(plan.command)
        if seen >= {Command.LEFT, Command.RIGHT}:
            return
    pytest.fail(f"only {seen} were driven")


def test_frames_show_the_ego_on_its_plan_and_the_road_under_it(drive_options):
    with CarlaSimulator(drive_options(lidars=2, points_per_sweep=4000), "", 1) as simulator:
        plan = simulator.plan(16)
        frames = list(simulator.follow(plan))
    for frame, pose, time_us in zip(frames, plan.poses_world_from_ego, plan.times_us, strict=True):
        np.testing.assert_allclose(frame.pose_world_from_ego, pose, atol=0.01)
        assert frame.time_us == time_us
    last = frames[-1]
    assert (last.counts > 0).sum() > 1000
    road = last.labels[60:69, 60:69, 0]
    assert (road == 7).mean() > 0.8


@pytest.mark.usefixtures("every_town")
def test_the_ego_keeps_to_its_plans_and_to_the_road_in_every_town(loopback, drive_options, chunk_with_car):
    with CarlaSimulator(drive_options(lidars=2, points_per_sweep=4000), "", 4) as simulator:
        for _ in range(3):
            plan = simulator.plan(16)
            frames = list(simulator.follow(plan, chunk_with_car(plan)))
            last = frames[-1]
            np.testing.assert_allclose(last.pose_world_from_ego, plan.poses_world_from_ego[-1], atol=0.01)
            assert (last.labels[60:69, 60:69, 0] == 7).mean() > 0.8
    assert loopback.inspector.actors() == []


TICKER = """
import sys, time
import carla
client = carla.Client("127.0.0.1", int(sys.argv[1]))
client.set_timeout(60.0)
world = client.get_world()
settings = world.get_settings()
settings.synchronous_mode, settings.fixed_delta_seconds = True, float(sys.argv[2])
world.apply_settings(settings)
library = world.get_blueprint_library()
if len(sys.argv) > 3:
    blueprint = library.find("vehicle.tesla.model3")
    blueprint.set_attribute("role_name", sys.argv[3])
    waypoint = world.get_map().generate_waypoints(20.0)[4]
    place = waypoint.transform
    place.location.z += 0.3
    assert world.try_spawn_actor(blueprint, place) is not None
print("TICKING", flush=True)
while True:
    world.tick(60.0)
    time.sleep(0.01)
"""


@pytest.fixture
def ticker(loopback):
    """Starts another client that ticks the world, with a vehicle of its own when a role name is given."""
    started = []

    def start(step_s, *role):
        command = [sys.executable, "-c", TICKER, str(loopback.port), str(step_s), *role]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout.readline() == "TICKING\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_another_client_ticks_and_its_ego_is_driven_and_given_back(
    loopback, drive_options, ticker, tmp_path, lines_of, chunk_with_car
):
    ticker(0.05, "hero")
    shown = tmp_path / "shown.jsonl"
    (before,) = loopback.inspector.actors("vehicle.", "hero")
    with CarlaSimulator(drive_options("external", shown=shown), "", 5) as simulator:
        for _ in range(2):
            plan = simulator.plan(16)
            frames = list(simulator.follow(plan, chunk_with_car(plan)))
            assert [frame.time_us for frame in frames] == plan.times_us.tolist()
            np.testing.assert_allclose([f.pose_world_from_ego for f in frames], plan.poses_world_from_ego, atol=0.02)
        (driven,) = loopback.inspector.actors("vehicle.", "hero")
        assert driven["simulates_physics"] is False
    figures = [line["figures"] for line in lines_of(shown)]
    assert [len(shown_at_once) for shown_at_once in figures] == [1] * 32
    # Between two chunks too, the same actor stays in the world.
    assert len({figure["actor"] for (figure,) in figures}) == 1
    (after,) = loopback.inspector.actors("vehicle.")
    assert after["id"] == before["id"]
    assert after["simulates_physics"] is True
    assert loopback.inspector.world()["settings"]["fixed_delta_seconds"] == pytest.approx(0.05)


@pytest.fixture
def user(loopback):
    """Another client's world."""
    import carla

    client = carla.Client("127.0.0.1", loopback.port)
    client.set_timeout(60.0)
    return client.get_world()


def change_settings(world, **changes):
    settings = world.get_settings()
    for name, value in changes.items():
        setattr(settings, name, value)
    world.apply_settings(settings)


def wait_for_frames(loopback, frames):
    """Let another client's ticks pass."""
    goal, limit = loopback.inspector.world()["frame"] + frames, time.monotonic() + 120.0
    while loopback.inspector.world()["frame"] < goal:
        assert time.monotonic() < limit, "nobody ticks"
        time.sleep(0.05)


def test_an_ego_is_made_in_a_world_that_another_client_ticks(loopback, drive_options, ticker):
    ticker(0.05)
    with CarlaSimulator(drive_options("external"), "", 5) as simulator:
        plan = simulator.plan(16)
        assert len(list(simulator.follow(plan))) == 16
        assert len(loopback.inspector.actors("vehicle.", "hero")) == 1
    assert loopback.inspector.actors() == []


def test_a_chunk_is_waited_for_however_many_ticks_pass(loopback, drive_options, ticker):
    ticker(0.05, "hero")
    with CarlaSimulator(drive_options("external", lidars=1, points_per_sweep=500), "", 5) as simulator:
        first, second = simulator.plan(16), simulator.plan(16)
        assert len(list(simulator.follow(first))) == 16
        wait_for_frames(loopback, MOST_LATE_TICKS + 50)
        frames = list(simulator.follow(second))
    np.testing.assert_allclose([f.pose_world_from_ego for f in frames], second.poses_world_from_ego, atol=0.02)


def test_another_client_that_begins_to_tick_a_world_that_is_ours_to_tick_is_an_error(loopback, drive_options, ticker):
    with CarlaSimulator(drive_options(), "", 5) as simulator:
        frames = simulator.follow(simulator.plan(16))
        next(frames)
        ticker(0.1)
        with pytest.raises(SimulatorError, match="--tick external"):
            list(frames)
    settings = loopback.inspector.world()["settings"]
    assert settings["synchronous_mode"] is True, "the world that the other one ticks is its own by now"
    assert settings["fixed_delta_seconds"] == pytest.approx(0.1)
    assert loopback.inspector.actors() == []


@pytest.mark.parametrize("ticks", ["own", "external"])
def test_a_step_that_somebody_changes_during_a_drive_is_an_error(loopback, drive_options, ticker, user, ticks):
    if ticks == "external":
        ticker(0.05, "hero")
    with CarlaSimulator(drive_options(ticks), "", 5) as simulator:
        frames = simulator.follow(simulator.plan(16))
        next(frames)
        change_settings(user, fixed_delta_seconds=0.02, no_rendering_mode=True)
        with pytest.raises(SimulatorError, match=r"0\.02 s"):
            list(frames)
    settings = loopback.inspector.world()["settings"]
    assert settings["no_rendering_mode"] is True
    assert settings["synchronous_mode"] is (ticks == "external"), "nobody but us ticks the world otherwise"


def test_settings_survive_the_loading_of_a_map(loopback, drive_options, user, map_file):
    change_settings(user, no_rendering_mode=True, fixed_delta_seconds=0.02)
    before = loopback.inspector.world()["settings"]
    with CarlaSimulator(drive_options(), str(map_file), 5):
        assert loopback.inspector.world()["settings"]["no_rendering_mode"] is True
    assert loopback.inspector.world()["settings"] == before


def test_another_client_s_ticks_survive_the_loading_of_a_map(loopback, drive_options, ticker, map_file):
    ticker(0.05)
    episode = loopback.inspector.world()["episode"]
    with CarlaSimulator(drive_options("external"), str(map_file), 5) as simulator:
        assert len(list(simulator.follow(simulator.plan(16)))) == 16
    world = loopback.inspector.world()
    assert world["episode"] == episode + 1
    assert world["settings"]["synchronous_mode"] is True


def test_a_map_that_is_there_late_is_waited_for_in_a_world_that_stands_still(loopback, drive_options, user, map_file):
    change_settings(user, synchronous_mode=True, fixed_delta_seconds=0.1)
    loopback.inspector.fault("delay-waypoints", seconds=2.0)
    with CarlaSimulator(drive_options(), str(map_file), 5) as simulator:
        assert len(simulator.plan(16)) == 16
    assert loopback.inspector.world()["settings"]["synchronous_mode"] is True


def test_a_world_that_another_client_ticks_is_not_ticked_by_us_too(drive_options, ticker):
    ticker(0.05)
    with pytest.raises(SimulatorError, match="--tick external"):
        CarlaSimulator(drive_options(), "", 1)


def test_ticks_that_do_not_divide_a_frame_are_refused(loopback, drive_options, ticker):
    ticker(0.03)
    with pytest.raises(SimulatorError, match=r"0\.03 s"):
        CarlaSimulator(drive_options("external"), "", 1)
    assert loopback.inspector.actors() == []
