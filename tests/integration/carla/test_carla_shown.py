"""Generated actors are shown where their tracks have them, by what clients and the server tell of it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from dyncity_carla.frames import CarlaTransform, mirrored_points, pose_from_carla
from dyncity_carla.simulator import CarlaSimulator
from dyncity_carla.timeline import Timeline

from dyncity_sim.cosim.server_process import ServerProcess
from dyncity_sim.domain.frames import planar_from_poses, transform_points
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
