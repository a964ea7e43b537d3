"""What sensors send: LiDAR sweeps, GNSS, IMU, collisions."""

from dataclasses import dataclass, field

import msgpack
import numpy as np

from dyncity_carla.loopback.actors import Actor
from dyncity_carla.loopback.geometry import matrix_from_row, overlapping
from dyncity_carla.loopback.lidar import Boxes, Hits, LidarModel, cast
from dyncity_carla.loopback.motion import GRAVITY_MPS2
from dyncity_carla.loopback.records import sensor_header
from dyncity_carla.loopback.sensor_attributes import COLLISION, GNSS, IMU, LIDAR, SEMANTIC_LIDAR
from dyncity_carla.loopback.world import World

ATTENUATION_PER_M = 0.004
"""Of a LiDAR's intensity."""

SEMANTIC_POINT = np.dtype([("xyz", "<f4", (3,)), ("cosine", "<f4"), ("id", "<u4"), ("tag", "<u4")])
LIDAR_POINT = np.dtype([("xyz", "<f4", (3,)), ("intensity", "<f4")])
TIME_TOLERANCE_S = 1e-6


@dataclass
class _Memory:
    """What a sensor keeps between its messages."""

    measured_at_s: float | None = None
    angle_deg: float = 0.0
    touching: set[int] = field(default_factory=set)


class SensorSuite:
    """Makes the messages of every sensor that has a subscriber."""

    def __init__(self) -> None:
        self._memories: dict[int, _Memory] = {}
        self._boxes: tuple[tuple[int, int], Boxes] | None = None

    def messages(self, world: World, sensor: Actor) -> list[bytes]:
        """What a sensor sends in this frame: nothing between its ticks, one message, or one for each collision."""
        memory = self._memories.setdefault(sensor.id, _Memory())
        delta_s = world.moment.delta_s
        period_s = float(sensor.attributes.get("sensor_tick", "0"))
        if memory.measured_at_s is not None and period_s > 0:
            delta_s = world.moment.elapsed_s - memory.measured_at_s
            if delta_s < period_s - TIME_TOLERANCE_S:
                return []
        memory.measured_at_s = world.moment.elapsed_s
        payloads = self._payloads(world, sensor, memory, delta_s)
        head = sensor_header(_stream_type(sensor), world.moment, world.actors.transforms[sensor.row])
        return [head + payload for payload in payloads]

    def forget(self, world: World) -> None:
        """Drop what was kept for sensors that are gone."""
        self._memories = {key: kept for key, kept in self._memories.items() if world.actors.get(key) is not None}

    def _payloads(self, world: World, sensor: Actor, memory: _Memory, delta_s: float) -> list[bytes]:
        kind = _stream_type(sensor)
        if kind in (SEMANTIC_LIDAR, LIDAR):
            return [self._lidar(world, sensor, memory, delta_s, kind)]
        if kind == GNSS:
            return [msgpack.packb(list(world.roads.geolocation(world.actors.transforms[sensor.row])))]
        if kind == IMU:
            return [msgpack.packb(_inertia(world, sensor))]
        assert kind == COLLISION
        return _collisions(world, sensor, memory)

    def _lidar(self, world: World, sensor: Actor, memory: _Memory, delta_s: float, kind: int) -> bytes:
        model = LidarModel.from_attributes(sensor.attributes)
        azimuths, memory.angle_deg = model.sweep(memory.angle_deg, delta_s)
        pose = matrix_from_row(world.actors.transforms[sensor.row])
        hits = cast(pose, model.elevations_deg(), azimuths, model.range_m, self._solid(world), world.ground.cells)
        head = np.float32(np.radians(memory.angle_deg)).tobytes() + np.uint32(model.channels).tobytes()
        return head + hits.counts.astype("<u4").tobytes() + _points(hits, kind).tobytes()

    def _solid(self, world: World) -> Boxes:
        """Every solid box of this frame; all LiDARs of a frame share it."""
        key = (world.episode_id, world.moment.frame)
        if self._boxes is None or self._boxes[0] != key:
            self._boxes = (key, solid_boxes(world))
        return self._boxes[1]


def solid_boxes(world: World) -> Boxes:
    """Boxes of all solid actors and of the scenery that is switched on."""
    actors = [actor for actor in world.actors if actor.blueprint.is_solid]
    poses = [matrix_from_row(world.actors.transforms[actor.row]) for actor in actors]
    centres = [pose[:3, 3] + pose[:3, 2] * a.blueprint.box_height_m for pose, a in zip(poses, actors, strict=True)]
    scenery, on = world.scenery, world.scenery.enabled
    yaws = np.radians(scenery.yaws_deg[on])
    upright = np.zeros((len(yaws), 3, 3))
    upright[:, 0, 0] = upright[:, 1, 1] = np.cos(yaws)
    upright[:, 1, 0], upright[:, 0, 1] = np.sin(yaws), -np.sin(yaws)
    upright[:, 2, 2] = 1.0
    return Boxes(
        np.concatenate([np.array(centres).reshape(-1, 3), scenery.centres[on]]),
        np.concatenate([np.array([pose[:3, :3] for pose in poses]).reshape(-1, 3, 3), upright]),
        np.concatenate([np.array([a.blueprint.extent_m for a in actors]).reshape(-1, 3), scenery.extents[on]]),
        np.concatenate([np.array([a.blueprint.semantic_tag for a in actors], dtype=np.uint8), scenery.tags[on]]),
        np.concatenate([np.array([a.id for a in actors], dtype=np.uint32), np.zeros(int(on.sum()), dtype=np.uint32)]),
    )


def first_point(world: World, origin: list[float], direction: list[float], reach_m: float) -> list[object] | None:
    """The LabelledPoint where a ray first meets a box or the ground, or None."""
    x, y, z = direction
    flat = float(np.hypot(x, y))
    if flat == 0 and z == 0:
        return None
    aim = matrix_from_row(np.array([*origin, np.degrees(np.arctan2(z, flat)), np.degrees(np.arctan2(y, x)), 0.0]))
    zero = np.zeros(1)
    hits = cast(aim, zero, zero, reach_m, solid_boxes(world), world.ground.cells)
    if not len(hits.points):
        return None
    return [(aim[:3, :3] @ hits.points[0] + aim[:3, 3]).tolist(), int(hits.tags[0])]


def _points(hits: Hits, kind: int) -> np.ndarray:
    points = np.zeros(len(hits.points), dtype=SEMANTIC_POINT if kind == SEMANTIC_LIDAR else LIDAR_POINT)
    points["xyz"] = hits.points
    if kind == SEMANTIC_LIDAR:
        points["cosine"], points["id"], points["tag"] = hits.cosines, hits.ids, hits.tags
    else:
        points["intensity"] = np.exp(-ATTENUATION_PER_M * np.linalg.norm(hits.points, axis=1))
    return points


def _inertia(world: World, sensor: Actor) -> list[object]:
    """Accelerometer (m/s2, gravity included) and gyroscope (rad/s) in the sensor's frame, compass (rad from north)."""
    carrier = world.actors.get(sensor.parent) or sensor
    row = world.actors.transforms[sensor.row]
    turn = matrix_from_row(row)[:3, :3]
    felt = turn.T @ (world.actors.accelerations[carrier.row] + np.array([0.0, 0.0, GRAVITY_MPS2]))
    turning = turn.T @ np.radians(world.actors.angular_velocities[carrier.row])
    return [felt.tolist(), turning.tolist(), float(np.radians(row[4] + 90.0) % (2 * np.pi))]


def _collisions(world: World, sensor: Actor, memory: _Memory) -> list[bytes]:
    """One event for each actor that the sensor's parent has begun to touch."""
    parent = world.actors.get(sensor.parent)
    if parent is None or not parent.collides or not parent.simulates_physics:
        return []
    others = [a for a in world.actors if a is not parent and a.blueprint.is_solid and a.collides]
    centres, yaws, extents = world.actors.boxes([parent, *others])
    touching = overlapping(centres[0], yaws[0], extents[0], centres[1:], yaws[1:], extents[1:])
    met = {other.id: other for other, touches in zip(others, touching.tolist(), strict=True) if touches}
    new = [other for other_id, other in met.items() if other_id not in memory.touching]
    memory.touching = set(met)
    impulse = (-world.actors.velocities[parent.row]).tolist()
    return [msgpack.packb([parent.wire(0), other.wire(0), impulse]) for other in new]


def _stream_type(sensor: Actor) -> int:
    kind = sensor.blueprint.stream_type
    assert kind is not None, "only sensors are asked for messages"
    return kind
