"""The traffic of a generated chunk: rigid vehicles, steady pedestrians, and those who were there before going on."""

from dataclasses import replace

import numpy as np
from jaxtyping import Float64, UInt8

from dyncity_models.drive.driving_on import ways_of
from dyncity_models.drive.forecast import Forecast
from dyncity_models.drive.persistence import with_road_users_going_on
from dyncity_models.drive.region import seconds_since
from dyncity_models.drive.rigid_vehicles import with_rigid_vehicles
from dyncity_models.drive.steady_pedestrians import with_steady_pedestrians
from dyncity_sim.domain.frames import planar_from_poses
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.recording import ActorKind
from dyncity_sim.scene.actors.find import find_tracks


def with_traffic(chunk: OccupancySequence, coming: Forecast | None) -> UInt8[np.ndarray, "T X Y Z"]:
    """The labels of a chunk in which vehicles are rigid, pedestrians do not flicker, and nobody who was there before it
    vanishes or is held up.

    Args:
        chunk: as generated, without unobserved cells; its classes are those of CARLASC.
        coming: how those before the chunk go on; None where there were none.
    """
    if coming is None:
        return _steady(chunk, None)
    planar, seconds = planar_from_poses(chunk.poses_world_from_ego), seconds_since(chunk.times_us, coming.frame)
    chunk = replace(chunk, labels=with_road_users_going_on(chunk.labels, coming, planar, seconds))
    labels = _steady(chunk, ways_of(coming, seconds))
    # Those that the network led into the ego's way may well go on as they would have done.
    return with_road_users_going_on(labels, coming.only(~coming.on_foot), planar, seconds)


def _steady(chunk: OccupancySequence, ways: Float64[np.ndarray, "T N 3"] | None) -> UInt8[np.ndarray, "T X Y Z"]:
    tracks = find_tracks(chunk)
    vehicles, walkers = (
        [track for track in tracks if (track.kind is ActorKind.PEDESTRIAN) == on_foot] for on_foot in (False, True)
    )
    labels = with_rigid_vehicles(chunk, vehicles, ways)
    return with_steady_pedestrians(replace(chunk, labels=labels), walkers)
