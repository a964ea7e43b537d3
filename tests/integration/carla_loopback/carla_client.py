"""What a user of the real ``carla`` library does, one function for each scenario; run as a process of its own.

``python carla_client.py SCENARIO PORT`` prints what it saw as one line of JSON.
"""

import faulthandler
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import carla
import numpy as np

TIMEOUT_S = 30.0
STEP_S = 0.1
POINT = np.dtype([("xyz", "<f4", (3,)), ("cosine", "<f4"), ("id", "<u4"), ("tag", "<u4")])


def connect(port: int, timeout_s: float = TIMEOUT_S) -> carla.Client:
    client = carla.Client("127.0.0.1", port)
    client.set_timeout(timeout_s)
    return client


def synchronous(world: carla.World) -> carla.WorldSettings:
    """Go synchronous; the settings that were there before."""
    before, settings = world.get_settings(), world.get_settings()
    settings.synchronous_mode, settings.fixed_delta_seconds = True, STEP_S
    settings.max_substeps = 16
    world.apply_settings(settings)
    return before


def spawn_car(world: carla.World, role: str = "hero", skip: int = 0) -> carla.Vehicle:
    blueprint = world.get_blueprint_library().find("vehicle.tesla.model3")
    blueprint.set_attribute("role_name", role)
    for place in world.get_map().get_spawn_points()[skip:]:
        car = world.try_spawn_actor(blueprint, place)
        if car is not None:
            return car
    raise RuntimeError("no spawn point is free")


def numbers(transform: carla.Transform) -> list[float]:
    place, turn = transform.location, transform.rotation
    return [place.x, place.y, place.z, turn.pitch, turn.yaw, turn.roll]


def wait_until(done: Callable[[], bool], limit_s: float = 60.0) -> None:
    until = time.monotonic() + limit_s
    while not done() and time.monotonic() < until:
        time.sleep(0.02)


def refused(call: Callable[[], Any]) -> str:
    """What the library says when a call fails; empty when it does not."""
    try:
        call()
    except RuntimeError as error:
        return str(error)
    return ""


def look_around(port: int) -> Any:
    client = connect(port)
    world = client.get_world()
    town = world.get_map()
    return {
        "versions": [client.get_server_version(), client.get_client_version()],
        "map": town.name,
        "maps": client.get_available_maps(),
        "spawn_points": len(town.get_spawn_points()),
        "waypoints": len(town.generate_waypoints(2.0)),
        "on_road": max(
            town.get_waypoint(place.location).transform.location.distance(place.location)
            for place in town.get_spawn_points()
        ),
        "vehicles": len(world.get_blueprint_library().filter("vehicle.*")),
        "walkers": len(world.get_blueprint_library().filter("walker.pedestrian.*")),
        "wheels": [
            int(world.get_blueprint_library().find(name).get_attribute("number_of_wheels"))
            for name in ("vehicle.audi.tt", "vehicle.gazelle.omafiets")
        ],
        "altitude": world.get_weather().sun_altitude_angle,
        "spectator": world.get_spectator().type_id,
    }


def settings_are_kept_and_restored(port: int) -> Any:
    world = connect(port).get_world()
    before = synchronous(world)
    during = world.get_settings()
    frames = [world.tick() for _ in range(5)]
    delta_s = world.get_snapshot().timestamp.delta_seconds
    world.apply_settings(before)
    after = world.get_settings()
    moved_on = [world.wait_for_tick(TIMEOUT_S).frame for _ in range(2)]
    return {
        "during": [during.synchronous_mode, during.fixed_delta_seconds, during.max_substeps],
        "after": [after.synchronous_mode, after.fixed_delta_seconds, after.max_substeps],
        "frames": frames,
        "delta_s": delta_s,
        "moved_on": moved_on,
    }


def spawn_and_destroy(port: int) -> Any:
    world = connect(port).get_world()
    before = synchronous(world)
    car = spawn_car(world, "of-this-test")
    place = car.get_transform()
    world.tick()
    seen = [[a.type_id, a.attributes["role_name"]] for a in world.get_actors().filter("vehicle.*")]
    here = car.get_transform()
    box = car.bounding_box
    blueprint = world.get_blueprint_library().find("vehicle.tesla.model3")
    result = {
        "before_tick": numbers(place),
        "after_tick": numbers(here),
        "seen": seen,
        "extent": [box.extent.x, box.extent.y, box.extent.z, box.location.z],
        "tags": list(car.semantic_tags),
        "in_the_way": world.try_spawn_actor(blueprint, here) is None,
        "message": refused(lambda: world.spawn_actor(blueprint, here)),
        "physics": [len(car.get_physics_control().wheels), car.get_physics_control().wheels[0].max_steer_angle],
        "destroyed": car.destroy(),
    }
    world.tick()
    result["left"] = [a.id for a in world.get_actors() if a.attributes.get("role_name") == "of-this-test"]
    world.apply_settings(before)
    return result


def teleport_in_batches(port: int) -> Any:
    """Spawn, teleport, and destroy as a scene player does; the errors in metres and degrees over all ticks."""
    client = connect(port)
    world = client.get_world()
    before = synchronous(world)
    command = carla.command
    blueprint = world.get_blueprint_library().find("vehicle.audi.tt")
    starts = [carla.Transform(carla.Location(8.0 * n, -200.0, 5.0), carla.Rotation(yaw=3.0 * n)) for n in range(40)]
    responses = client.apply_batch_sync(
        [
            command.SpawnActor(blueprint, start).then(command.SetSimulatePhysics(command.FutureActor, False))
            for start in [*starts, starts[0]]
        ],
        True,
    )
    ids = [response.actor_id for response in responses[:40]]
    away_m, turned_deg = 0.0, 0.0
    for tick in range(50):
        wanted = [
            carla.Transform(
                carla.Location(start.location.x, start.location.y + 0.37 * tick, 5.0),
                carla.Rotation(pitch=1.0, yaw=start.rotation.yaw + 1.7 * tick, roll=-2.0),
            )
            for start in starts
        ]
        client.apply_batch_sync([command.ApplyTransform(*pair) for pair in zip(ids, wanted, strict=True)], True)
        snapshot = world.get_snapshot()
        for actor_id, transform in zip(ids, wanted, strict=True):
            got, asked = numbers(snapshot.find(actor_id).get_transform()), numbers(transform)
            away_m = max(away_m, float(np.abs(np.subtract(got[:3], asked[:3])).max()))
            turns = (np.subtract(got[3:], asked[3:]) + 180.0) % 360.0 - 180.0
            turned_deg = max(turned_deg, float(np.abs(turns).max()))
    gone = client.apply_batch_sync([command.DestroyActor(actor_id) for actor_id in [*ids, 4711]], True)
    world.apply_settings(before)
    return {
        "spawned": sum(not response.error for response in responses),
        "refusal": responses[-1].error,
        "away_m": away_m,
        "turned_deg": turned_deg,
        "destroy_errors": [response.error for response in gone if response.error],
    }


def drive(port: int) -> Any:
    world = connect(port).get_world()
    before = synchronous(world)
    car = spawn_car(world)
    world.tick()
    start, forward = car.get_location(), car.get_transform().get_forward_vector()
    right = car.get_transform().get_right_vector()
    car.apply_control(carla.VehicleControl(throttle=1.0))
    for _ in range(20):
        world.tick()
    straight = car.get_location() - start
    speed, control = car.get_velocity().length(), car.get_control().throttle
    car.apply_control(carla.VehicleControl(throttle=0.5, steer=0.3))
    for _ in range(15):
        world.tick()
    turned = car.get_location() - start
    car.set_light_state(carla.VehicleLightState.Brake)
    walker = world.spawn_actor(
        world.get_blueprint_library().filter("walker.pedestrian.*")[0],
        carla.Transform(start + carla.Location(x=3 * right.x, y=3 * right.y, z=3.0)),
    )
    walker.apply_control(carla.WalkerControl(carla.Vector3D(0.0, 1.0, 0.0), 1.5))
    for _ in range(20):
        world.tick()
    result = {
        "ahead_m": straight.x * forward.x + straight.y * forward.y,
        "aside_m": straight.x * right.x + straight.y * right.y,
        "turned_right_m": turned.x * right.x + turned.y * right.y,
        "speed_mps": speed,
        "throttle": control,
        "brake_light": car.get_light_state() == carla.VehicleLightState.Brake,
        "walks_mps": [walker.get_velocity().x, walker.get_velocity().y],
    }
    for actor in (walker, car):
        actor.destroy()
    world.apply_settings(before)
    return result


def semantic_lidar(port: int) -> Any:
    world = connect(port).get_world()
    before = synchronous(world)
    library = world.get_blueprint_library()
    car = spawn_car(world)
    ahead = car.get_transform()
    world.tick()
    ahead = carla.Transform(
        car.get_transform().transform(carla.Location(x=12.0, y=-1.0, z=0.3)), car.get_transform().rotation
    )
    other = world.spawn_actor(library.find("vehicle.audi.a2"), ahead)
    blueprint = library.find("sensor.lidar.ray_cast_semantic")
    options = {"channels": 32, "points_per_second": 200000, "range": 40, "upper_fov": 5, "lower_fov": -25}
    for name, value in options.items():
        blueprint.set_attribute(name, str(value))
    lidar = world.spawn_actor(blueprint, carla.Transform(carla.Location(z=1.9)), attach_to=car)
    sweeps: list[carla.SemanticLidarMeasurement] = []
    lidar.listen(sweeps.append)
    time.sleep(0.5)
    frames = [world.tick() for _ in range(6)]
    wait_until(lambda: len(sweeps) >= len(frames))
    points = np.frombuffer(sweeps[-1].raw_data, POINT)
    of_other = points["xyz"][points["id"] == other.id]
    sensor = sweeps[-1].transform
    in_world = [sensor.transform(carla.Location(*map(float, xyz))) for xyz in of_other[:200]]
    box = other.bounding_box
    result = {
        "frames": frames,
        "sweeps": [sweep.frame for sweep in sweeps],
        "channels": sweeps[-1].channels,
        "counts": sum(sweeps[-1].get_point_count(n) for n in range(sweeps[-1].channels)) == len(points),
        "tags": sorted(set(points["tag"].tolist())),
        "ids": sorted(set(points["id"].tolist()) - {0}) == sorted({car.id, other.id}),
        "other_mean": of_other.mean(axis=0).tolist(),
        "inside_other": all(
            carla.BoundingBox(
                box.location, carla.Vector3D(box.extent.x + 0.01, box.extent.y + 0.01, box.extent.z + 0.01)
            ).contains(point, other.get_transform())
            for point in in_world
        ),
        "road_m": float(np.abs(points["xyz"][points["tag"] == 1][:, 2] + sensor.location.z).max()),
        "sensor_above_car_m": sensor.location.z - car.get_location().z,
    }
    for sensor_actor in (lidar,):
        sensor_actor.stop()
        sensor_actor.destroy()
    for actor in (other, car):
        actor.destroy()
    world.apply_settings(before)
    return result


def other_sensors(port: int) -> Any:
    world = connect(port).get_world()
    before = synchronous(world)
    library = world.get_blueprint_library()
    car = spawn_car(world)
    world.tick()
    place = car.get_transform()
    other = world.spawn_actor(
        library.find("vehicle.audi.a2"),
        carla.Transform(place.transform(carla.Location(x=12.0, z=0.3)), place.rotation),
    )
    heard: dict[str, list[Any]] = {name: [] for name in ("collision", "gnss", "imu")}
    sensors = [
        world.spawn_actor(library.find(f"sensor.other.{name}"), carla.Transform(), attach_to=car) for name in heard
    ]
    sensors[0].listen(lambda event: heard["collision"].append([event.actor.id, event.other_actor.id]))
    sensors[1].listen(lambda fix: heard["gnss"].append([fix.latitude, fix.longitude, fix.altitude]))
    sensors[2].listen(lambda felt: heard["imu"].append([felt.accelerometer.x, felt.accelerometer.z, felt.compass]))
    time.sleep(0.5)
    car.apply_control(carla.VehicleControl(throttle=1.0))
    for _ in range(30):
        world.tick()
    wait_until(lambda: bool(heard["collision"]) and len(heard["imu"]) >= 30)
    expected = world.get_map().transform_to_geolocation(car.get_location())
    result = {
        "collisions": heard["collision"],
        "pair": [car.id, other.id],
        "gnss_off": [heard["gnss"][-1][0] - expected.latitude, heard["gnss"][-1][1] - expected.longitude],
        "pushed": max(felt[0] for felt in heard["imu"]),
        "gravity": heard["imu"][-1][1],
    }
    for sensor in sensors:
        sensor.stop()
        sensor.destroy()
    for actor in (other, car):
        actor.destroy()
    world.apply_settings(before)
    return result


def environment(port: int) -> Any:
    world = connect(port).get_world()
    objects = world.get_environment_objects(carla.CityObjectLabel.Any)
    buildings = world.get_environment_objects(carla.CityObjectLabel.Buildings)
    first = buildings[0]
    middle = first.transform.location
    above = carla.Location(middle.x, middle.y, 60.0)
    seen = world.cast_ray(above, carla.Location(middle.x, middle.y, -1.0))
    world.enable_environment_objects({first.id}, False)
    wait_until(lambda: True)
    through = world.cast_ray(above, carla.Location(middle.x, middle.y, -1.0))
    world.enable_environment_objects({first.id}, True)
    ground = world.ground_projection(carla.Location(100.0, 1.75, 5.0), 20.0)
    return {
        "objects": len(objects),
        "boxes": len(world.get_level_bbs(carla.CityObjectLabel.Any)),
        "labels": sorted({str(thing.type) for thing in objects}),
        "roof": [
            str(seen[0].label),
            seen[0].location.z - (first.bounding_box.location.z + first.bounding_box.extent.z),
        ],
        "through": str(through[0].label),
        "ground": [str(ground.label), ground.location.z],
        "names": len(world.get_names_of_all_objects()),
    }


def debug_and_weather(port: int) -> Any:
    world = connect(port).get_world()
    here, there, red = carla.Location(1, 2, 3), carla.Location(4, 5, 6), carla.Color(255, 0, 0)
    world.debug.draw_box(carla.BoundingBox(here, carla.Vector3D(1, 1, 1)), carla.Rotation(), 0.1, red, 1.0)
    world.debug.draw_point(here)
    world.debug.draw_line(here, there)
    world.debug.draw_arrow(here, there)
    world.debug.draw_string(here, "here")
    world.set_weather(carla.WeatherParameters.HardRainSunset)
    wait_until(lambda: world.get_weather() == carla.WeatherParameters.HardRainSunset)
    return {"weather": world.get_weather() == carla.WeatherParameters.HardRainSunset}


def autopilot(port: int) -> Any:
    client = connect(port)
    world = client.get_world()
    before = synchronous(world)
    manager = client.get_trafficmanager(port + 1 if port < 65000 else port - 1000)
    manager.set_synchronous_mode(True)
    manager.set_random_device_seed(7)
    blueprint = world.get_blueprint_library().find("vehicle.audi.tt")
    places = world.get_map().get_spawn_points()[::9]
    cars = [car for car in (world.try_spawn_actor(blueprint, place) for place in places) if car is not None]
    world.tick()
    start = [car.get_location() for car in cars]
    for car in cars[1:]:
        car.set_autopilot(True, manager.get_port())
    command = carla.command
    (response,) = client.apply_batch_sync([command.SetAutopilot(cars[0], True, manager.get_port())], False)
    for _ in range(80):
        # The library's traffic manager can miss the next tick while it is still going to sleep after the last one.
        time.sleep(0.05)
        world.tick()
    moved = sorted(car.get_location().distance(place) for car, place in zip(cars, start, strict=True))
    off_lane = max(
        world.get_map().get_waypoint(car.get_location()).transform.location.distance(car.get_location()) for car in cars
    )
    for car in cars:
        car.set_autopilot(False, manager.get_port())
    time.sleep(0.5)
    manager.set_synchronous_mode(False)
    client.apply_batch_sync([carla.command.DestroyActor(car) for car in cars], True)
    world.apply_settings(before)
    return {"refusal": response.error, "cars": len(cars), "moved_m": moved, "off_lane_m": off_lane}


def load_worlds(port: int, opendrive_file: str) -> Any:
    client = connect(port)
    world = client.get_world()
    home, first = world.get_map().name, world.id
    car = spawn_car(world, "of-the-old-episode")
    again = client.load_world(home.split("/")[-1])
    opendrive = Path(opendrive_file).read_text(encoding="utf-8")
    made = client.generate_opendrive_world(opendrive, carla.OpendriveGenerationParameters(vertex_distance=2.0))
    wait_until(lambda: len(made.get_map().generate_waypoints(2.0)) > 0)
    result = {
        "episodes": [first, again.id, made.id],
        "made": [made.get_map().name, len(made.get_map().generate_waypoints(2.0))],
        "cars_left": len(again.get_actors([car.id])),
        "empty": refused(lambda: client.generate_opendrive_world("<OpenDRIVE></OpenDRIVE>")),
        "unknown": refused(lambda: client.load_world("Atlantis")),
    }
    reloaded = client.reload_world().get_map().name
    made = client.load_world(home.split("/")[-1])
    result["afterwards"] = [reloaded, made.get_map().name, client.get_available_maps()]
    made.unload_map_layer(carla.MapLayer.Buildings)
    made.load_map_layer(carla.MapLayer.Buildings)
    made.freeze_all_traffic_lights(True)
    made.reset_all_traffic_lights()
    result["recorder"] = refused(lambda: client.start_recorder("drive.log"))
    client.stop_recorder()
    # The library does not wait for an answer to the last call, and a client that goes away at once may not send it.
    client.get_server_version()
    return result


def send_distinct_values(port: int) -> Any:
    """Every number of some classes set to a value of its own; by name, what was sent."""
    client = connect(port)
    world = client.get_world()
    sent: dict[str, float] = {}

    def fill(thing: object) -> None:
        for name in dir(thing):
            if not name.startswith("_") and type(getattr(thing, name)) is float:
                sent[name] = float(len(sent) + 1)
                setattr(thing, name, sent[name])

    before = world.get_weather()
    weather, parameters = carla.WeatherParameters(), carla.OpendriveGenerationParameters()
    fill(weather)
    fill(parameters)
    world.set_weather(weather)
    refused(lambda: client.generate_opendrive_world("<OpenDRIVE></OpenDRIVE>", parameters))
    car = spawn_car(world)
    physics = car.get_physics_control()
    wheels = physics.wheels
    fill(wheels[0])
    physics.wheels = wheels
    fill(physics)
    car.apply_physics_control(physics)
    car.destroy()
    world.set_weather(before)
    wait_until(lambda: world.get_weather() == before)
    return sent


def touch_everything(port: int) -> Any:
    """Calls that other scenarios leave out; the server's log says whether each was well-formed."""
    world = connect(port).get_world()
    before = synchronous(world)
    car = spawn_car(world)
    world.tick()
    car.set_location(carla.Location(100.0, 1.75, 0.3))
    car.set_target_velocity(carla.Vector3D(5.0, 0.0, 0.0))
    car.set_target_angular_velocity(carla.Vector3D())
    car.set_enable_gravity(False)
    car.set_collisions(True)
    car.apply_physics_control(car.get_physics_control())
    for push in (car.add_force, car.add_impulse, car.add_torque, car.add_angular_impulse):
        push(carla.Vector3D(1.0, 0.0, 0.0))
    car.apply_ackermann_control(carla.VehicleAckermannControl())
    car.enable_constant_velocity(carla.Vector3D(3.0, 0.0, 0.0))
    for _ in range(10):
        world.tick()
    speed = car.get_velocity().length()
    car.disable_constant_velocity()
    car.set_simulate_physics(False)
    car.set_transform(carla.Transform(carla.Location(50.0, -1.75, 2.0), carla.Rotation(yaw=180.0)))
    world.tick()
    place = numbers(car.get_transform())
    lights = world.get_vehicles_light_states()
    car.destroy()
    world.apply_settings(before)
    return {"speed": speed, "place": place, "lights": len(lights)}


def everything(port: int, opendrive_file: str) -> Any:
    """All of the above, one after the other; the methods that ought to be called are."""
    for scenario in (
        look_around,
        settings_are_kept_and_restored,
        spawn_and_destroy,
        teleport_in_batches,
        drive,
        semantic_lidar,
        other_sensors,
        environment,
        debug_and_weather,
        touch_everything,
        send_distinct_values,
    ):
        scenario(port)
    load_worlds(port, opendrive_file)
    # Last, since the library crashes when a map is loaded in a process that has a traffic manager.
    autopilot(port)
    return {}


def tick_until_failure(port: int, ticks: str) -> Any:
    """Tick a synchronous server on; how many ticks were done, what ended it, and how long the last one took."""
    world = connect(port, 3.0).get_world()
    done, message, began = 0, "", time.monotonic()
    for _ in range(int(ticks)):
        began = time.monotonic()
        message = refused(world.tick)
        if message:
            break
        done += 1
    return {"done": done, "message": message, "seconds": time.monotonic() - began}


def first_map(port: int) -> Any:
    """What a script sees that asks for the map until it has lanes."""
    client = connect(port, 3.0)
    result: dict[str, Any] = {"version": client.get_server_version()}
    world = client.get_world()
    result["failure"] = refused(world.get_map)
    if not result["failure"]:
        result["at_first"] = len(world.get_map().generate_waypoints(2.0))
        wait_until(lambda: len(world.get_map().generate_waypoints(2.0)) > 0)
        result["waypoints"] = len(world.get_map().generate_waypoints(2.0))
        result["spawn_points"] = len(world.get_map().get_spawn_points())
    return result


def spawn_on_every_point(port: int) -> Any:
    world = connect(port).get_world()
    blueprint = world.get_blueprint_library().find("vehicle.audi.tt")
    cars = [world.try_spawn_actor(blueprint, place) for place in world.get_map().get_spawn_points()]
    spawned = [car for car in cars if car is not None]
    return {"points": len(cars), "spawned": len(spawned), "destroyed": sum(car.destroy() for car in spawned)}


def main() -> None:
    faulthandler.enable()
    scenario, port, *more = sys.argv[1:]
    sys.stdout.write("\n" + json.dumps(globals()[scenario](int(port), *more)) + "\n")
    sys.stdout.flush()
    # Without the library's destructors, which crash when a frame of the world's own clock arrives meanwhile.
    os._exit(0)


if __name__ == "__main__":
    main()
