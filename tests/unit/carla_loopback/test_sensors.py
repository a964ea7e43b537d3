import struct

import numpy as np
import pytest

pytest.importorskip("carla")
pytest.importorskip("msgpack")

import msgpack
from dyncity_carla.loopback.sensors import SEMANTIC_POINT, SensorSuite, first_point

CAR = "vehicle.tesla.model3"
LIDAR = "sensor.lidar.ray_cast_semantic"


def test_a_sweep_is_laid_out_as_the_client_reads_it(build_world, spawn):
    world = build_world()
    other = spawn(world, CAR, [60.0, 1.75, 0.0, 0.0, 0.0, 0.0])
    options = {"channels": "16", "points_per_second": "64000", "range": "30"}
    lidar = spawn(world, LIDAR, [50.0, 1.75, 1.8, 0.0, 0.0, 0.0], **options)
    world.tick(0.1)
    (message,) = SensorSuite().messages(world, lidar)
    assert struct.unpack_from("<QQ", message) == (10, 1)
    _, channels = struct.unpack_from("<fI", message, 48)
    counts = np.frombuffer(message, "<u4", channels, 56)
    points = np.frombuffer(message, SEMANTIC_POINT, offset=56 + 4 * channels)
    assert channels == 16
    assert counts.sum() == len(points) > 500
    of_other = points[points["id"] == other.id]
    assert of_other["xyz"][:, 0].min() == pytest.approx(10.0 - 2.396, abs=0.01)
    assert set(of_other["tag"].tolist()) == {14}
    elevations = np.degrees(np.arcsin(points["xyz"][:, 2] / np.linalg.norm(points["xyz"], axis=1)))
    assert np.diff(elevations).max() < 0.01, "channel by channel, from the upper down"


def test_a_sensor_measures_as_often_as_its_sensor_tick_says(build_world, spawn):
    world, suite = build_world(), SensorSuite()
    gnss = spawn(world, "sensor.other.gnss", [0.0] * 6, sensor_tick="0.25")
    measured = []
    for _ in range(11):
        world.tick(0.1)
        if suite.messages(world, gnss):
            measured.append(round(world.moment.elapsed_s, 1))
    assert measured == [0.1, 0.4, 0.7, 1.0]


def test_a_collision_is_told_once_for_each_contact(build_world, spawn):
    world, suite = build_world(), SensorSuite()
    car = spawn(world, CAR, [50.0, 1.75, 0.0, 0.0, 0.0, 0.0])
    bumper = spawn(world, "sensor.other.collision", [0.0] * 6, car.id)
    other = spawn(world, "static.prop.container", [56.0, 1.75, 0.0, 0.0, 0.0, 0.0])
    car.control = [1.0, 0.0, 0.0, False, False, False, 0]
    events = []
    for _ in range(20):
        world.tick(0.1)
        events += suite.messages(world, bumper)
    (event,) = events
    actor, hit, impulse = msgpack.unpackb(event[48:])
    assert (actor[0], hit[0]) == (car.id, other.id)
    assert impulse[0] < 0


def test_a_ray_meets_the_roof_and_then_the_road(build_world, spawn):
    world = build_world()
    car = spawn(world, CAR, [50.0, 1.75, 0.0, 0.0, 0.0, 0.0])
    down = ([50.0, 1.75, 10.0], [0.0, 0.0, -1.0], 20.0)
    assert first_point(world, *down) == [pytest.approx([50.0, 1.75, 1.488]), 14]
    world.destroy(car.id)
    assert first_point(world, *down) == [pytest.approx([50.0, 1.75, 0.0], abs=1e-6), 1]
    assert first_point(world, [50.0, 1.75, 10.0], [0.0, 0.0, 1.0], 20.0) is None
