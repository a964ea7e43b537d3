"""The loopback server with the real client library, which runs in processes of its own as it must."""

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from dyncity_carla.loopback import argument_shapes
from dyncity_carla.loopback.process import LoopbackProcess

from dyncity_sim.errors import SimulatorError, UnavailableError

pytest.importorskip("carla")
msgpack = pytest.importorskip("msgpack")

RING_ROAD = Path(__file__).parents[1] / "data" / "ring_road.xodr"
CLIENT = Path(__file__).with_name("carla_client.py")
CARLA_MAPS = Path(__file__).parents[3] / "shared" / "maps" / "carla"
CLIENT_LIMIT_S = 240.0
PHYSICS_FIELDS = [
    "torque_curve",
    "max_rpm",
    "moi",
    "damping_rate_full_throttle",
    "damping_rate_zero_throttle_clutch_engaged",
    "damping_rate_zero_throttle_clutch_disengaged",
    "use_gear_autobox",
    "gear_switch_time",
    "clutch_strength",
    "final_ratio",
    "forward_gears",
    "mass",
    "drag_coefficient",
    "center_of_mass",
    "steering_curve",
    "wheels",
    "use_sweep_wheel_collision",
]
OPENDRIVE_FIELDS = [
    "vertex_distance",
    "max_road_length",
    "wall_height",
    "additional_width",
    "smooth_junctions",
    "enable_mesh_visibility",
    "enable_pedestrian_navigation",
]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def as_client(scenario: str, port: int, *more: str) -> dict[str, Any]:
    """What a client saw that ran to its end."""
    command = [sys.executable, str(CLIENT), scenario, str(port), *more]
    done = subprocess.run(command, capture_output=True, text=True, timeout=CLIENT_LIMIT_S, check=False)
    assert done.returncode == 0, f"{scenario}: status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def loopback(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackProcess]:
    with LoopbackProcess(RING_ROAD, tmp_path_factory.mktemp("loopback") / "server.log", ["--seed", "1"]) as server:
        yield server


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[LoopbackProcess]:
    """A server of this test's own, for faults; nothing moves until a client ticks."""
    with LoopbackProcess(RING_ROAD, tmp_path / "server.log", ["--scenery", "0", "--sync"]) as server:
        yield server


@pytest.fixture(autouse=True)
def _nothing_was_malformed(request: pytest.FixtureRequest) -> Iterator[None]:
    """After every test that shares the server: no violation, no actor left behind, settings as they were."""
    yield
    if "loopback" not in request.fixturenames:
        return
    inspector = request.getfixturevalue("loopback").inspector
    assert inspector.take_violations() == []
    assert inspector.actors() == []
    assert inspector.world()["settings"]["synchronous_mode"] is False


SEE_TICKS = """
import sys
import carla
client = carla.Client(sys.argv[1], int(sys.argv[2]))
client.set_timeout(20.0)
print(client.get_world().wait_for_tick(20.0).frame)
"""


def test_a_server_at_another_address_streams_to_clients_that_reach_it_there(tmp_path: Path):
    with LoopbackProcess(RING_ROAD, tmp_path / "server.log", ["--host", "127.0.0.2"]) as server:
        command = [sys.executable, "-c", SEE_TICKS, "127.0.0.2", str(server.port)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=CLIENT_LIMIT_S, check=True)
        assert server.host == "127.0.0.2"
        assert 0 < int(done.stdout) <= server.inspector.world()["frame"]


def test_a_client_finds_its_way_around(loopback: LoopbackProcess):
    seen = as_client("look_around", loopback.port)
    assert seen["versions"] == ["0.9.16", "0.9.16"]
    assert seen["map"] == "Carla/Maps/ring_road"
    assert seen["spawn_points"] > 20
    assert seen["on_road"] < 0.6
    assert seen["vehicles"] > 30
    assert seen["walkers"] > 40
    assert seen["wheels"] == [4, 2]
    assert seen["altitude"] == 45.0
    assert seen["spectator"] == "spectator"


def test_settings_hold_while_they_are_set_and_are_restored(loopback: LoopbackProcess):
    seen = as_client("settings_are_kept_and_restored", loopback.port)
    assert seen["during"] == [True, 0.1, 16]
    assert seen["after"] == [False, None, 10]
    assert seen["delta_s"] == pytest.approx(0.1)
    assert [frame - seen["frames"][0] for frame in seen["frames"]] == [0, 1, 2, 3, 4]
    assert seen["moved_on"][0] > seen["frames"][-1]


def test_an_actor_is_spawned_seen_in_the_way_and_destroyed(loopback: LoopbackProcess):
    seen = as_client("spawn_and_destroy", loopback.port)
    assert seen["before_tick"] == [0.0] * 6
    assert seen["seen"] == [["vehicle.tesla.model3", "of-this-test"]]
    assert seen["after_tick"][0] != 0
    assert seen["extent"] == pytest.approx([2.396, 1.082, 0.744, 0.744], abs=1e-4)
    assert seen["tags"] == [14]
    assert seen["in_the_way"]
    assert seen["message"] == "Spawn failed because of collision at spawn position"
    assert seen["physics"] == [4, pytest.approx(70.0)]
    assert seen["destroyed"]
    assert seen["left"] == []


def test_batches_put_forty_actors_where_they_should_be_at_every_tick(loopback: LoopbackProcess):
    seen = as_client("teleport_in_batches", loopback.port)
    assert seen["spawned"] == 40
    assert seen["refusal"] == "Spawn failed because of collision at spawn position"
    assert seen["away_m"] < 0.001
    assert seen["turned_deg"] < 0.01
    assert len(seen["destroy_errors"]) == 1
    assert "4711" in seen["destroy_errors"][0]


def test_controls_move_vehicles_and_walkers(loopback: LoopbackProcess):
    seen = as_client("drive", loopback.port)
    assert seen["ahead_m"] > 4
    assert abs(seen["aside_m"]) < 0.01
    assert seen["turned_right_m"] > 0.5
    assert seen["speed_mps"] > 3
    assert seen["throttle"] == 1.0
    assert seen["brake_light"]
    assert seen["walks_mps"] == pytest.approx([0.0, 1.5], abs=1e-3)


def test_a_semantic_lidar_sees_the_car_ahead_to_the_left(loopback: LoopbackProcess):
    seen = as_client("semantic_lidar", loopback.port)
    assert seen["sweeps"] == seen["frames"]
    assert seen["channels"] == 32
    assert seen["counts"]
    assert {1, 2, 14} <= set(seen["tags"])
    assert seen["ids"]
    assert seen["other_mean"][0] == pytest.approx(10.5, abs=1.0)
    assert seen["other_mean"][1] == pytest.approx(-1.0, abs=0.5)
    assert seen["inside_other"]
    assert seen["road_m"] < 0.01
    assert seen["sensor_above_car_m"] == pytest.approx(1.9, abs=1e-4)


def test_collision_gnss_and_imu_are_heard(loopback: LoopbackProcess):
    seen = as_client("other_sensors", loopback.port)
    assert seen["collisions"] == [seen["pair"]]
    assert seen["gnss_off"] == pytest.approx([0.0, 0.0], abs=1e-6)
    assert 3 < seen["pushed"] < 5
    assert seen["gravity"] == pytest.approx(9.81, abs=0.01)


def test_the_static_world_is_listed_hit_and_switched_off(loopback: LoopbackProcess):
    seen = as_client("environment", loopback.port)
    truth = loopback.inspector.environment()
    assert seen["objects"] == seen["boxes"] == seen["names"] == len(truth)
    assert seen["labels"] == ["Buildings", "Poles", "Vegetation", "Walls"]
    assert seen["roof"][0] == "Buildings"
    assert seen["roof"][1] == pytest.approx(0.0, abs=1e-3)
    assert seen["through"] == "Terrain"
    assert seen["ground"] == ["Roads", pytest.approx(0.0, abs=1e-3)]


def test_debug_shapes_and_weather_are_taken(loopback: LoopbackProcess):
    assert as_client("debug_and_weather", loopback.port)["weather"]
    assert loopback.inspector.counts()["draw_debug_shape"] == 5


def test_the_clients_traffic_manager_drives(loopback: LoopbackProcess):
    seen = as_client("autopilot", loopback.port)
    assert seen["refusal"] == ""
    assert seen["cars"] >= 3
    assert seen["moved_m"][0] > 10
    assert seen["off_lane_m"] < 1.0


def test_maps_are_loaded_and_made_from_documents(loopback: LoopbackProcess):
    seen = as_client("load_worlds", loopback.port, str(RING_ROAD))
    assert len(set(seen["episodes"])) == 3
    assert seen["made"][0] == "Carla/Maps/OpenDriveMap"
    assert seen["made"][1] > 700
    assert seen["cars_left"] == 0
    assert seen["afterwards"] == [
        "Carla/Maps/OpenDriveMap",
        "Carla/Maps/ring_road",
        ["/Game/Carla/Maps/ring_road", "/Game/Carla/Maps/OpenDriveMap"],
    ]
    assert "failed to generate map" in seen["empty"]
    assert seen["unknown"] == "map not found"
    assert seen["recorder"] == "the loopback server keeps no recordings"


def test_fields_travel_in_the_order_that_the_shapes_say(loopback: LoopbackProcess):
    sent = as_client("send_distinct_values", loopback.port)

    def last(method: str) -> list[Any]:
        return loopback.inspector.calls(method)[-1]["args"]

    def named(shape_fields: Sequence[str], values: list[Any]) -> dict[str, Any]:
        return {field: value for field, value in zip(shape_fields, values, strict=True) if field in sent}

    _, _, physics = last("apply_physics_control")
    seen = named(argument_shapes.WHEEL_FIELDS, physics[15][0][:-1]) | named(PHYSICS_FIELDS, physics)
    seen |= named(argument_shapes.WEATHER_FIELDS, loopback.inspector.calls("set_weather_parameters")[-2]["args"][1])
    seen |= named(OPENDRIVE_FIELDS, last("copy_opendrive_to_file")[2])
    assert seen == pytest.approx(sent)
    assert len(seen) == 9 + 10 + 14 + 4


def test_everything_else_that_is_called_is_well_formed(loopback: LoopbackProcess):
    seen = as_client("touch_everything", loopback.port)
    assert seen["speed"] == pytest.approx(3.0, abs=1e-3)
    assert seen["place"] == pytest.approx([50.0, -1.75, 2.0, 0.0, 180.0, 0.0], abs=1e-3)
    assert seen["lights"] == 1


def test_the_methods_that_are_graded_as_driven_are_those_that_the_client_calls(tmp_path: Path):
    from dyncity_carla.loopback.methods import Grade
    from dyncity_carla.loopback.server import all_methods

    with LoopbackProcess(RING_ROAD, tmp_path / "server.log") as server:
        as_client("everything", server.port, str(RING_ROAD))
        called = set(server.inspector.counts())
    assert called == {method.name for method in all_methods().values() if method.grade is Grade.DRIVEN}


@pytest.mark.parametrize("town", ["Town01", "Town02", "Town04", "Town06"])
def test_a_town_of_carla_is_served(town: str, tmp_path: Path):
    file = CARLA_MAPS / f"{town}.xodr"
    if not file.exists():
        pytest.skip(f"{file} is not there")
    with LoopbackProcess(file, tmp_path / "server.log", ["--traffic", "20"]) as server:
        seen = as_client("look_around", server.port)
        assert seen["map"] == f"Carla/Maps/{town}"
        assert seen["spawn_points"] > 50
        assert len(server.inspector.actors("vehicle.")) == 20


# What goes wrong on demand.


def test_death_mid_tick_ends_a_tick_within_the_clients_timeout(fresh: LoopbackProcess):
    fresh.inspector.fault("die", in_ticks=8)
    seen = as_client("tick_until_failure", fresh.port, "50")
    assert seen["done"] == 7
    assert "time-out" in seen["message"]
    assert seen["seconds"] < 30
    assert fresh.exit_status == 70


def test_a_slow_reply_costs_one_call(fresh: LoopbackProcess):
    fresh.inspector.fault("slow", method="tick_cue", seconds=6.0, count=1)
    assert "time-out" in as_client("tick_until_failure", fresh.port, "3")["message"]
    assert as_client("tick_until_failure", fresh.port, "3")["done"] == 3


def test_a_stall_holds_everything_up_and_then_all_goes_on(fresh: LoopbackProcess):
    fresh.inspector.fault("stall", seconds=8.0)
    began = time.monotonic()
    assert fresh.inspector.world()["frame"] >= 0
    assert time.monotonic() - began < 5.0, "the inspection channel is not held up"
    time.sleep(6.0)
    assert as_client("tick_until_failure", fresh.port, "3")["done"] == 3


def test_a_dropped_connection_ends_in_a_timeout(fresh: LoopbackProcess):
    fresh.inspector.fault("drop", channel="rpc", in_ticks=6)
    seen = as_client("tick_until_failure", fresh.port, "50")
    assert seen["done"] == 5
    assert "time-out" in seen["message"]
    assert as_client("tick_until_failure", fresh.port, "3")["done"] == 3


def test_lost_sensor_frames_are_lost(fresh: LoopbackProcess):
    fresh.inspector.fault("lose-sensor-frames", count=100)
    command = [sys.executable, str(CLIENT), "semantic_lidar", str(fresh.port)]
    client = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        until = time.monotonic() + 120
        while fresh.inspector.counts().get("tick_cue", 0) < 8 and time.monotonic() < until:
            time.sleep(0.1)
        assert fresh.inspector.counts()["tick_cue"] >= 8
        assert client.poll() is None, "it waits for sweeps that never come"
    finally:
        os.killpg(client.pid, signal.SIGKILL)
        client.communicate()


def test_full_spawn_points_refuse_and_are_free_again(fresh: LoopbackProcess):
    fresh.inspector.fault("refuse-spawns")
    assert as_client("spawn_on_every_point", fresh.port)["spawned"] == 0
    fresh.inspector.clear_faults()
    seen = as_client("spawn_on_every_point", fresh.port)
    assert seen["spawned"] == seen["points"] == seen["destroyed"]


def test_another_version_is_told(fresh: LoopbackProcess):
    fresh.inspector.fault("version", text="0.9.13")
    assert as_client("first_map", fresh.port)["version"] == "0.9.13"


def test_an_empty_document_fails_as_in_carla(fresh: LoopbackProcess):
    fresh.inspector.fault("empty-opendrive")
    assert as_client("first_map", fresh.port)["failure"] == "failed to generate map"


def test_lanes_that_come_late_appear_to_a_client_that_polls(tmp_path: Path):
    with LoopbackProcess(RING_ROAD, tmp_path / "server.log") as server:
        server.inspector.fault("delay-waypoints", seconds=CLIENT_LIMIT_S)
        with ThreadPoolExecutor() as executor:
            client = executor.submit(as_client, "first_map", server.port)
            while server.inspector.counts().get("get_map_data", 0) < 2 and not client.done():
                time.sleep(0.02)
            server.inspector.clear_faults()
            seen = client.result()
    assert seen["at_first"] == 0
    assert seen["waypoints"] > 700
    assert seen["spawn_points"] > 20


def test_faults_can_be_on_from_the_start(tmp_path: Path):
    arguments = ["--fault", "version:text=0.9.12", "--fault", "refuse-spawns:count=3"]
    with LoopbackProcess(RING_ROAD, tmp_path / "server.log", arguments) as server:
        assert as_client("first_map", server.port)["version"] == "0.9.12"


# Strictness, by a client of our own that does not keep to the wire.


def call(port: int, *messages: object) -> list[Any]:
    """Replies to raw messages, one for each."""
    with socket.create_connection(("127.0.0.1", port), 30) as connection:
        connection.sendall(b"".join(msgpack.packb(message) for message in messages))
        unpacker = msgpack.Unpacker()
        replies: list[Any] = []
        while len(replies) < len(messages) and (data := connection.recv(65536)):
            unpacker.feed(data)
            replies.extend(unpacker)
    return replies


@pytest.mark.parametrize(
    ("method", "arguments", "wrong"),
    [
        ("tick_cue", [], "an array that begins with Metadata"),
        ("tick_cue", [[False], 1], "got 1 arguments, expected 0"),
        ("destroy_actor", [[False], "seven"], r"args\[0\]: got 'seven'"),
        ("set_actor_transform", [[True], 30, [[0, 0], [0, 0, 0]]], "args\\[1\\].location: got"),
        ("fly_to_the_moon", [[False]], "no such method"),
    ],
)
def test_a_malformed_call_is_answered_with_an_error_and_logged(
    fresh: LoopbackProcess, method: str, arguments: list[object], wrong: str
):
    ((kind, number, error, result),) = call(fresh.port, [0, 9, method, arguments])
    assert (kind, number, result) == (1, 9, None)
    (violation,) = fresh.inspector.take_violations()
    assert error in violation
    with pytest.raises(AssertionError, match=wrong):
        raise AssertionError(violation)
    assert fresh.inspector.calls(method)[-1]["args"] == arguments


def test_what_is_not_a_request_ends_the_connection(fresh: LoopbackProcess):
    assert call(fresh.port, {"not": "a request"}) == []
    assert "not MessagePack-RPC" in fresh.inspector.take_violations()[0]


def test_violations_fail_the_test_that_runs_the_server(tmp_path: Path):
    server = LoopbackProcess(RING_ROAD, tmp_path / "server.log", ["--scenery", "0"])
    with pytest.raises(SimulatorError, match="no such method"), server:
        call(server.port, [0, 1, "fly_to_the_moon", [[False]]])
    assert server.exit_status == 1
    assert "violation: fly_to_the_moon" in (tmp_path / "server.log").read_text(encoding="utf-8")


def test_the_server_ends_with_the_test_that_started_it_when_that_is_killed(tmp_path: Path):
    starter = (
        "import sys, time; from pathlib import Path; from dyncity_carla.loopback.process import LoopbackProcess\n"
        "with LoopbackProcess(Path(sys.argv[1]), Path(sys.argv[2])) as server:\n"
        "    print(server.port, flush=True); time.sleep(600)\n"
    )
    command = [sys.executable, "-c", starter, str(RING_ROAD), str(tmp_path / "server.log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as test:
        assert test.stdout is not None
        port = int(test.stdout.readline())
        test.kill()
    until, there = time.monotonic() + 60, True
    while there and time.monotonic() < until:
        time.sleep(0.2)
        with socket.socket() as connection:
            there = connection.connect_ex(("127.0.0.1", port)) == 0
    assert not there


def test_without_strictness_violations_are_only_logged(tmp_path: Path):
    with LoopbackProcess(RING_ROAD, tmp_path / "server.log", ["--no-strict"]) as server:
        call(server.port, [0, 1, "fly_to_the_moon", [[False]]])
        assert len(server.inspector.take_violations()) == 1
    assert server.exit_status == 0


def until_subscribers(server: LoopbackProcess, expected: dict[str, int]) -> None:
    until = time.monotonic() + 30
    while server.inspector.world()["subscribers"] != expected and time.monotonic() < until:
        time.sleep(0.05)
    assert server.inspector.world()["subscribers"] == expected


def test_a_stream_ends_with_its_subscriber(fresh: LoopbackProcess):
    ((_, _, _, ((_, token),)),) = call(fresh.port, [0, 1, "get_sensor_token", [[False], 1]])
    stream_id, port = struct.unpack_from("<IH", token[0])
    with socket.create_connection(("127.0.0.1", port), 30) as connection:
        connection.sendall(struct.pack("<I", stream_id))
        until_subscribers(fresh, {"1": 1})
        call(fresh.port, [0, 2, "tick_cue", [[False]]])
        (size,) = struct.unpack("<I", connection.recv(4, socket.MSG_WAITALL))
        assert len(connection.recv(size, socket.MSG_WAITALL)) == size == 48 + 36 + 119
    until_subscribers(fresh, {})


def test_a_tick_does_not_wait_for_ever_for_a_subscription(fresh: LoopbackProcess):
    asked = [0, 1, "get_episode_info", [[False]]], [0, 2, "tick_cue", [[False]]]
    before = fresh.inspector.world()["frame"]
    assert call(fresh.port, *asked)[1][3][0][1] == before + 1


def test_the_inspector_knows_where_everything_was(loopback: LoopbackProcess):
    frame = loopback.inspector.world()["frame"]
    frames = loopback.inspector.frames(frame - 3, frame)
    assert [entry["frame"] for entry in frames] == [frame - 3, frame - 2, frame - 1, frame]
    with pytest.raises(SimulatorError, match="one of world, calls"):
        loopback.inspector.ask("meaning")
    with pytest.raises(SimulatorError, match="fault: got 'earthquake'"):
        loopback.inspector.fault("earthquake")


@pytest.mark.parametrize("content", ["", "<OpenDRIVE></OpenDRIVE>"])
def test_a_map_without_lanes_ends_the_start_with_a_message(content: str, tmp_path: Path):
    (tmp_path / "empty.xodr").write_text(content, encoding="utf-8")
    with (
        pytest.raises(UnavailableError, match="expected an OpenDRIVE document"),
        LoopbackProcess(tmp_path / "empty.xodr", tmp_path / "server.log"),
    ):
        pass
