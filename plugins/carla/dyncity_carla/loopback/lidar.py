"""A rotating LiDAR against boxes and the ground, in numpy: which ray hits what, how far away.

Frames are CARLA's: left-handed, x forward, y right, z up.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, UInt8, UInt32

from dyncity_carla.loopback.geometry import wrapped

HeightsAndTags = tuple[Float64[np.ndarray, " P"], UInt8[np.ndarray, " P"]]
GROUND_STEPS = 4
GROUND_TOLERANCE_M = 1e-3
NEVER_ZERO = 1e-12


@dataclass(frozen=True)
class LidarModel:
    """What a LiDAR's attributes say; angles in degrees.

    Attributes:
        channels: lasers, from the upper angle down to the lower.
        range_m: farthest hit.
        points_per_second: over all channels.
        rotation_hz: turns per second.
        upper_deg: elevation of the first channel.
        lower_deg: elevation of the last.
        horizontal_deg: field of view.
    """

    channels: int
    range_m: float
    points_per_second: int
    rotation_hz: float
    upper_deg: float
    lower_deg: float
    horizontal_deg: float

    @classmethod
    def from_attributes(cls, attributes: dict[str, str]) -> "LidarModel":
        """The model of a blueprint's attributes."""
        return cls(
            int(attributes["channels"]),
            float(attributes["range"]),
            int(attributes["points_per_second"]),
            float(attributes["rotation_frequency"]),
            float(attributes["upper_fov"]),
            float(attributes["lower_fov"]),
            float(attributes["horizontal_fov"]),
        )

    def elevations_deg(self) -> Float64[np.ndarray, " C"]:
        """Elevation of each channel."""
        return np.linspace(self.upper_deg, self.lower_deg, self.channels)

    def sweep(self, from_deg: float, delta_s: float) -> tuple[Float64[np.ndarray, " H"], float]:
        """Azimuths measured in ``delta_s`` by every channel, and where the next sweep begins, in degrees."""
        columns = round(self.points_per_second * delta_s / self.channels)
        turned_deg = self.rotation_hz * self.horizontal_deg * delta_s
        steps = from_deg + turned_deg / max(columns, 1) * np.arange(columns)
        azimuths = np.fmod(steps, self.horizontal_deg) - self.horizontal_deg / 2
        return azimuths, float(np.fmod(from_deg + turned_deg, self.horizontal_deg))


@dataclass(frozen=True, eq=False)
class Boxes:
    """Solid boxes in the world.

    Attributes:
        centres: ``(N, 3)``.
        rotations: ``(N, 3, 3)`` world from box.
        extents: ``(N, 3)`` half sizes.
        tags: ``(N,)`` semantic tags.
        ids: ``(N,)`` object ids; 0 for what is no actor.
    """

    centres: Float64[np.ndarray, "N 3"]
    rotations: Float64[np.ndarray, "N 3 3"]
    extents: Float64[np.ndarray, "N 3"]
    tags: UInt8[np.ndarray, " N"]
    ids: UInt32[np.ndarray, " N"]


@dataclass(frozen=True, eq=False)
class Hits:
    """What the rays hit, channel by channel; rays that hit nothing are left out.

    Attributes:
        counts: ``(C,)`` hits of each channel.
        points: ``(P, 3)`` in the sensor's frame.
        cosines: ``(P,)`` of the angle between ray and surface normal.
        ids: ``(P,)`` object ids.
        tags: ``(P,)`` semantic tags.
    """

    counts: UInt32[np.ndarray, " C"]
    points: Float64[np.ndarray, "P 3"]
    cosines: Float64[np.ndarray, " P"]
    ids: UInt32[np.ndarray, " P"]
    tags: UInt8[np.ndarray, " P"]


def cast(
    pose_world_from_sensor: Float64[np.ndarray, "4 4"],
    elevations_deg: Float64[np.ndarray, " C"],
    azimuths_deg: Float64[np.ndarray, " H"],
    range_m: float,
    boxes: Boxes,
    ground: Callable[[np.ndarray], HeightsAndTags],
) -> Hits:
    """First hit of every ray; a box around the sensor itself is looked through.

    Args:
        pose_world_from_sensor: where the sensor is.
        elevations_deg: of the channels.
        azimuths_deg: of the columns; positive to the right.
        range_m: what is farther is not hit.
        boxes: everything but the ground.
        ground: height and tag below places ``(P, 3)``.
    """
    rotation, origin = pose_world_from_sensor[:3, :3], pose_world_from_sensor[:3, 3]
    directions = _directions(elevations_deg, azimuths_deg)
    shape = directions.shape[:2]
    distances, cosines = np.full(shape, range_m), np.zeros(shape)
    ids, tags = np.zeros(shape, dtype=np.uint32), np.zeros(shape, dtype=np.uint8)
    _hit_ground(origin, directions @ rotation.T, distances, cosines, tags, ground)
    centres = (boxes.centres - origin) @ rotation
    radii = np.linalg.norm(boxes.extents, axis=1)
    for n in np.flatnonzero(np.linalg.norm(centres, axis=1) - radii < range_m):
        rows, columns = _in_sight(centres[n], radii[n], elevations_deg, azimuths_deg)
        if not len(rows) or not len(columns):
            continue
        window = np.ix_(rows, columns)
        turn = boxes.rotations[n].T @ rotation
        distance, cosine = _slabs(-(turn @ centres[n]), directions[window] @ turn.T, boxes.extents[n])
        nearer = distance < distances[window]
        for grid, values in ((distances, distance), (cosines, cosine)):
            grid[window] = np.where(nearer, values, grid[window])
        ids[window] = np.where(nearer, boxes.ids[n], ids[window])
        tags[window] = np.where(nearer, boxes.tags[n], tags[window])
    hit = tags > 0
    points = directions[hit] * distances[hit][:, None]
    return Hits(hit.sum(axis=1).astype(np.uint32), points, cosines[hit], ids[hit], tags[hit])


def _directions(elevations_deg: np.ndarray, azimuths_deg: np.ndarray) -> Float64[np.ndarray, "C H 3"]:
    up, around = np.radians(elevations_deg)[:, None], np.radians(azimuths_deg)[None, :]
    flat = np.cos(up)
    return np.stack([flat * np.cos(around), flat * np.sin(around), np.sin(up) + 0 * around], axis=-1)


def _hit_ground(
    origin: np.ndarray,
    directions: np.ndarray,
    distances: np.ndarray,
    cosines: np.ndarray,
    tags: np.ndarray,
    ground: Callable[[np.ndarray], HeightsAndTags],
) -> None:
    """Write the ground's hits into ``distances``, ``cosines``, and ``tags``; heights are looked up where rays land."""
    below, _ = ground(origin[None])
    falling = directions[..., 2] < -NEVER_ZERO
    steep = directions[falling]
    farthest = distances[falling]
    heights = np.full(len(steep), below[0])
    kinds = np.zeros(len(steep), dtype=np.uint8)
    for _ in range(GROUND_STEPS):
        reach = np.minimum((heights - origin[2]) / steep[:, 2], farthest)
        places = origin + steep * np.maximum(reach, 0.0)[:, None]
        places[:, 2] = heights
        before, (heights, kinds) = heights, ground(places)
        if np.abs(heights - before).max(initial=0.0) < GROUND_TOLERANCE_M:
            break
    reach = (heights - origin[2]) / steep[:, 2]
    lands = (reach > 0) & (reach < farthest)
    distances[falling] = np.where(lands, reach, farthest)
    cosines[falling] = np.where(lands, -steep[:, 2], 0.0)
    tags[falling] = np.where(lands, kinds, 0)


def _in_sight(
    centre: np.ndarray, radius: float, elevations_deg: np.ndarray, azimuths_deg: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Channels and columns whose rays may come near a ball, in the sensor's frame."""
    away = float(np.hypot(centre[0], centre[1]))
    if away <= radius:
        return np.arange(len(elevations_deg)), np.arange(len(azimuths_deg))
    width = np.degrees(np.arcsin(radius / away))
    off = wrapped(azimuths_deg - np.degrees(np.arctan2(centre[1], centre[0])))
    highest = np.degrees(np.arctan2(centre[2] + radius, away - radius if centre[2] + radius > 0 else away + radius))
    lowest = np.degrees(np.arctan2(centre[2] - radius, away - radius if centre[2] - radius < 0 else away + radius))
    rows = np.flatnonzero((elevations_deg >= lowest) & (elevations_deg <= highest))
    return rows, np.flatnonzero(np.abs(off) <= width)


def _slabs(origin: np.ndarray, directions: np.ndarray, extent: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance to a box around zero along rays in its frame, infinite where missed, and cosine to the face hit."""
    safe = np.where(np.abs(directions) < NEVER_ZERO, NEVER_ZERO, directions)
    one, other = (-extent - origin) / safe, (extent - origin) / safe
    enters, leaves = np.minimum(one, other), np.maximum(one, other)
    distance = np.maximum(np.maximum(enters[..., 0], enters[..., 1]), enters[..., 2])
    hit = (distance <= np.minimum(np.minimum(leaves[..., 0], leaves[..., 1]), leaves[..., 2])) & (distance > 0)
    first, second = enters[..., 0] == distance, enters[..., 1] == distance
    cosine = np.where(first, directions[..., 0], np.where(second, directions[..., 1], directions[..., 2]))
    return np.where(hit, distance, np.inf), np.abs(cosine)
