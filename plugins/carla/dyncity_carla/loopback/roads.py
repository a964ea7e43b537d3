"""Roads of an OpenDRIVE document, read by the ``carla`` library: the one module of the loopback that imports it."""

from dataclasses import dataclass

import carla
import numpy as np
from jaxtyping import Float64, UInt8

from dyncity_carla.loopback.geometry import Row, wrapped
from dyncity_sim.errors import MapError

SAMPLE_M = 2.0
"""Lanes are sampled this finely."""

SPAWN_EVERY_M = 24.0
SPAWN_ABOVE_ROAD_M = 0.5

ROAD_TAG, SIDEWALK_TAG = 1, 2
"""Semantic tags (``carla.CityObjectLabel``)."""

MOST_LANES_ASIDE = 8


@dataclass(frozen=True, eq=False)
class LaneSamples:
    """Points on the centre lines of lanes.

    Attributes:
        rows: ``(N, 6)`` transforms, CARLA's frame.
        half_widths_m: ``(N,)``.
        tags: ``(N,)`` semantic tag of the lane's surface.
    """

    rows: Float64[np.ndarray, "N 6"]
    half_widths_m: Float64[np.ndarray, " N"]
    tags: UInt8[np.ndarray, " N"]


class Roads:
    """A road network.

    Args:
        name: of the map, e.g. ``Town01``.
        opendrive: the document.

    Raises:
        MapError: the document cannot be read, or has no lane to drive on.
    """

    def __init__(self, name: str, opendrive: str) -> None:
        self.name = name
        self.opendrive = opendrive
        try:
            self._map = carla.Map(name, opendrive)
            waypoints = self._map.generate_waypoints(SAMPLE_M)
        except RuntimeError as error:
            raise MapError("opendrive", f"{len(opendrive)} characters ({error})", "an OpenDRIVE document") from error
        if not waypoints:
            raise MapError(
                "opendrive",
                f"{len(opendrive)} characters without a driving lane (failed to generate map)",
                "an OpenDRIVE document with at least one lane of type driving",
            )
        self._waypoints: list[carla.Waypoint] = waypoints

    def spawn_rows(self) -> Float64[np.ndarray, "S 6"]:
        """Where vehicles may be spawned: on driving lanes outside junctions, a little above the road."""
        chosen: list[Row] = []
        last: dict[tuple[int, int], float] = {}
        for waypoint in self._waypoints:
            lane = (waypoint.road_id, waypoint.lane_id)
            if waypoint.is_junction or abs(waypoint.s - last.get(lane, -np.inf)) < SPAWN_EVERY_M:
                continue
            last[lane] = waypoint.s
            chosen.append(_row(waypoint) + np.array([0.0, 0.0, SPAWN_ABOVE_ROAD_M, 0.0, 0.0, 0.0]))
        return np.array(chosen).reshape(-1, 6)

    def samples(self) -> LaneSamples:
        """Centre lines of all driving lanes and of the sidewalks beside them."""
        rows = [_row(waypoint) for waypoint in self._waypoints]
        widths = [waypoint.lane_width / 2 for waypoint in self._waypoints]
        tags = [ROAD_TAG] * len(rows)
        for waypoint in self._waypoints:
            for lane in _lanes_to_the_right(waypoint):
                rows.append(_row(lane))
                widths.append(lane.lane_width / 2)
                tags.append(SIDEWALK_TAG if lane.lane_type == carla.LaneType.Sidewalk else ROAD_TAG)
        return LaneSamples(np.array(rows), np.array(widths), np.array(tags, dtype=np.uint8))

    def walk(self, start: Row, length_m: float, step_m: float, rng: np.random.Generator) -> Float64[np.ndarray, "P 6"]:
        """A way along lanes from the lane nearest to ``start``, turning at random; shorter where lanes end."""
        here = self._map.get_waypoint(carla.Location(*start[:3].tolist()))
        rows = [] if here is None else [_row(here)]
        while here is not None and len(rows) * step_m < length_m:
            following = here.next(step_m)
            here = following[int(rng.integers(len(following)))] if following else None
            if here is not None:
                rows.append(_row(here))
        return np.array(rows).reshape(-1, 6)

    def geolocation(self, row: Row) -> tuple[float, float, float]:
        """Latitude, longitude in degrees and altitude in metres."""
        place = self._map.transform_to_geolocation(carla.Location(*row[:3].tolist()))
        return place.latitude, place.longitude, place.altitude


def _row(waypoint: "carla.Waypoint") -> Row:
    place, turn = waypoint.transform.location, waypoint.transform.rotation
    # The library gives pitches of 360 degrees on lanes against the road's direction.
    return np.array([place.x, place.y, place.z, *wrapped(np.array([turn.pitch, turn.yaw, turn.roll]))])


def _lanes_to_the_right(waypoint: "carla.Waypoint") -> list["carla.Waypoint"]:
    """Lanes beyond the edge of the carriageway: shoulders, parking, sidewalks."""
    lanes: list[carla.Waypoint] = []
    lane = waypoint.get_right_lane()
    while lane is not None and lane.lane_type != carla.LaneType.Driving and len(lanes) < MOST_LANES_ASIDE:
        if lane.lane_type in (carla.LaneType.Sidewalk, carla.LaneType.Shoulder, carla.LaneType.Parking):
            lanes.append(lane)
        lane = lane.get_right_lane()
    return lanes
