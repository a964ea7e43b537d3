"""The road network as the client library reads it: waypoints in our frame, and whether a map is one at all."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64

from dyncity_carla.client_objects import transform_of
from dyncity_carla.frames import mirrored_points, pose_from_carla
from dyncity_carla.ports import LaneKey, RoadMap, Waypoint
from dyncity_sim.domain.frames import Pose
from dyncity_sim.errors import MapError

FARTHEST_LANE_M = 15.0
"""A place farther than this from every driving lane is on none."""

SAMPLING_M = 5.0


class CarlaWaypoint:
    """A ``carla.Waypoint`` in our frame."""

    def __init__(self, waypoint: Any) -> None:
        self._waypoint = waypoint
        self._pose = pose_from_carla(transform_of(waypoint.transform))

    @property
    def pose_world_from_lane(self) -> Pose:
        """Right-handed: x along the lane, y to its left."""
        return self._pose

    @property
    def lane(self) -> LaneKey:
        """Which lane it lies on."""
        return LaneKey(
            self._waypoint.road_id, self._waypoint.section_id, self._waypoint.lane_id, float(self._waypoint.s)
        )

    @property
    def is_junction(self) -> bool:
        """Whether it lies inside of a junction."""
        return bool(self._waypoint.is_junction)

    @property
    def width_m(self) -> float:
        """Width of the lane here."""
        return float(self._waypoint.lane_width)

    def next(self, distance_m: float) -> Sequence[Waypoint]:
        """The places so far on, one for each way that the lane takes."""
        return [CarlaWaypoint(waypoint) for waypoint in self._waypoint.next(distance_m)]


class CarlaRoads:
    """A ``carla.Map`` that has lanes to drive on.

    Args:
        carla_map: as the client library made it, from a server or from a document.
        make_location: ``carla.Location``.

    Raises:
        MapError: the map has no driving lane, as one of an empty or damaged OpenDRIVE document.
    """

    def __init__(self, carla_map: Any, make_location: Any) -> None:
        self._map, self._make_location = carla_map, make_location
        self.opendrive = str(carla_map.to_opendrive())
        if not carla_map.generate_waypoints(SAMPLING_M):
            raise MapError(
                "map",
                f"{carla_map.name or 'a map'} without a single lane to drive on",
                "an OpenDRIVE road network with driving lanes",
                "The document is empty or damaged: load another town, or check the file with netconvert.",
            )

    def nearest(self, location: Float64[np.ndarray, " 3"]) -> Waypoint | None:
        """The driving lane nearest to a right-handed place, within FARTHEST_LANE_M; None off every road."""
        x_m, y_m, z_m = (float(value) for value in mirrored_points(location))
        found = self._map.get_waypoint(self._make_location(x_m, y_m, z_m), True)
        if found is None:
            return None
        waypoint = CarlaWaypoint(found)
        away_m = float(np.linalg.norm(waypoint.pose_world_from_lane[:2, 3] - location[:2]))
        return waypoint if away_m <= FARTHEST_LANE_M else None

    def waypoints(self, spacing_m: float) -> Sequence[Waypoint]:
        """Waypoints along every driving lane, in the order of the document."""
        return [CarlaWaypoint(waypoint) for waypoint in self._map.generate_waypoints(spacing_m)]


def roads_of_document(name: str, opendrive: str) -> RoadMap:
    """The road network of an OpenDRIVE document, without a server.

    Raises:
        MapError: the document cannot be read, or has no driving lane.
        MissingExtraError: CARLA's client library is not installed.
    """
    from dyncity_carla.world import import_carla

    carla = import_carla()
    try:
        return CarlaRoads(carla.Map(name, opendrive), carla.Location)
    except RuntimeError as error:
        raise MapError("OpenDRIVE", f"{name}: {error}", "a road network that CARLA's client can read") from error
