"""What users of the real client library do, each in a process of its own, and what they see."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from dyncity_carla.loopback import argument_shapes
from dyncity_carla.loopback.process import LoopbackProcess

from dyncity_sim.errors import SimulatorError

PATIENCE_S = 240.0
CARLA_MAPS = Path(__file__).parents[4] / "shared" / "maps" / "carla"

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

SEE_TICKS = """
import sys
import carla
client = carla.Client(sys.argv[1], int(sys.argv[2]))
client.set_timeout(20.0)
print(client.get_world().wait_for_tick(20.0).frame)
"""


def test_a_server_at_another_address_streams_to_clients_that_reach_it_there(serve: Callable[..., LoopbackProcess]):
    with serve("--host", "127.0.0.2") as server:
        command = [sys.executable, "-c", SEE_TICKS, "127.0.0.2", str(server.port)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=True)
        assert server.host == "127.0.0.2"
        assert 0 < int(done.stdout) <= server.inspector.world()["frame"]


def test_a_client_finds_its_way_around(loopback: LoopbackProcess, as_client: Callable[..., Any]):
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


def test_settings_hold_while_they_are_set_and_are_restored(loopback: LoopbackProcess, as_client: Callable[..., Any]):
    seen = as_client("settings_are_kept_and_restored", loopback.port)
    assert seen["during"] == [True, 0.1, 16]
    assert seen["after"] == [False, None, 10]
    assert seen["delta_s"] == pytest.approx(0.1)
    assert [frame - seen["frames"][0] for frame in seen["frames"]] == [0, 1, 2, 3, 4]
    assert seen["moved_on"][0] > seen["frames"][-1]


def test_an_actor_is_spawned_seen_in_the_way_and_destroyed(loopback: LoopbackProcess, as_client: Callable[..., Any]):
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


def test_batches_put_forty_actors_where_they_should_be_at_every_tick(
    loopback: LoopbackProcess, as_client: Callable[..., Any]
):
    seen = as_client("teleport_in_batches", loopback.port)
    assert seen["spawned"] == 40
    assert seen["refusal"] == "Spawn failed because of collision at spawn position"
    assert seen["away_m"] < 0.001
    assert seen["turned_deg"] < 0.01
    assert len(seen["destroy_errors"]) == 1
    assert "4711" in seen["destroy_errors"][0]


def test_controls_move_vehicles_and_walkers(loopback: LoopbackProcess, as_client: Callable[..., Any]):
    seen = as_client("drive", loopback.port)
    assert seen["ahead_m"] > 4
    assert abs(seen["aside_m"]) < 0.01
    assert seen["turned_right_m"] > 0.5
    assert seen["speed_mps"] > 3
    assert seen["throttle"] == 1.0
    assert seen["brake_light"]
    assert seen["walks_mps"] == pytest.approx([0.0, 1.5], abs=1e-3)


def test_a_semantic_lidar_sees_the_car_ahead_to_the_left(loopback: LoopbackProcess, as_client: Callable[..., Any]):
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


def test_collision_gnss_and_imu_are_heard(loopback: LoopbackProcess, as_client: Callable[..., Any]):
    seen = as_client("other_sensors", loopback.port)
    assert seen["collisions"] == [seen["pair"]]
    assert seen["gnss_off"] == pytest.approx([0.0, 0.0], abs=1e-6)
    assert 3 < seen["pushed"] < 5
    assert seen["gravity"] == pytest.approx(9.81, abs=0.01)


def test_the_static_world_is_listed_hit_and_switched_off(loopback: LoopbackProcess, as_client: Callable[..., Any]):
    seen = as_client("environment", loopback.port)
    truth = loopback.inspector.environment()
    assert seen["objects"] == seen["boxes"] == seen["names"] == len(truth)
    assert seen["labels"] == ["Buildings", "Poles", "Vegetation", "Walls"]
    assert seen["roof"][0] == "Buildings"
    assert seen["roof"][1] == pytest.approx(0.0, abs=1e-3)
    assert seen["through"] == "Terrain"
    assert seen["ground"] == ["Roads", pytest.approx(0.0, abs=1e-3)]


def test_debug_shapes_and_weather_are_taken(loopback: LoopbackProcess, as_client: Callable[..., Any]):
    assert as_client("debug_and_weather", loopback.port)["weather"]
    assert loopback.inspector.counts()["draw_debug_shape"] == 5


def test_the_clients_traffic_manager_drives(loopback: LoopbackProcess, as_client: Callable[..., Any]):
    seen = as_client("autopilot", loopback.port)
    assert seen["refusal"] == ""
    assert seen["cars"] >= 3
    assert seen["moved_m"][0] > 10
    assert seen["off_lane_m"] < 1.0


def test_maps_are_loaded_and_made_from_documents(
    loopback: LoopbackProcess, as_client: Callable[..., Any], ring_road: Path
):
    seen = as_client("load_worlds", loopback.port, str(ring_road))
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


def test_fields_travel_in_the_order_that_the_shapes_say(loopback: LoopbackProcess, as_client: Callable[..., Any]):
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


def test_everything_else_that_is_called_is_well_formed(loopback: LoopbackProcess, as_client: Callable[..., Any]):
    seen = as_client("touch_everything", loopback.port)
    assert seen["speed"] == pytest.approx(3.0, abs=1e-3)
    assert seen["place"] == pytest.approx([50.0, -1.75, 2.0, 0.0, 180.0, 0.0], abs=1e-3)
    assert seen["lights"] == 1


def test_the_methods_that_are_graded_as_driven_are_those_that_the_client_calls(
    as_client: Callable[..., Any], serve: Callable[..., LoopbackProcess], ring_road: Path
):
    from dyncity_carla.loopback.methods import Grade
    from dyncity_carla.loopback.server import all_methods

    with serve() as server:
        as_client("everything", server.port, str(ring_road))
        called = set(server.inspector.counts())
    assert called == {method.name for method in all_methods().values() if method.grade is Grade.DRIVEN}


@pytest.mark.parametrize("town", ["Town01", "Town02", "Town04", "Town06"])
def test_a_town_of_carla_is_served(town: str, tmp_path: Path, as_client: Callable[..., Any]):
    file = CARLA_MAPS / f"{town}.xodr"
    if not file.exists():
        pytest.skip(f"{file} is not there")
    with LoopbackProcess(file, tmp_path / "server.log", ["--traffic", "20"]) as server:
        seen = as_client("look_around", server.port)
        assert seen["map"] == f"Carla/Maps/{town}"
        assert seen["spawn_points"] > 50
        assert len(server.inspector.actors("vehicle.")) == 20


def test_the_inspector_knows_where_everything_was(loopback: LoopbackProcess):
    frame = loopback.inspector.world()["frame"]
    frames = loopback.inspector.frames(frame - 3, frame)
    assert [entry["frame"] for entry in frames] == [frame - 3, frame - 2, frame - 1, frame]
    with pytest.raises(SimulatorError, match="one of world, calls"):
        loopback.inspector.ask("meaning")
    with pytest.raises(SimulatorError, match="fault: got 'earthquake'"):
        loopback.inspector.fault("earthquake")
