"""The traffic of a generated chunk: rigid vehicles, steady pedestrians, and those who were there before going on."""

from dataclasses import replace

import numpy as np
from jaxtyping import UInt8

from dyncity_models.drive.bodies import Course
from dyncity_models.drive.driving_on import ways_of
from dyncity_models.drive.forecast import Forecast
from dyncity_models.drive.newcomers import not_there_before, pedestrians_from_nowhere, vehicles_from_nowhere
from dyncity_models.drive.persistence import with_road_users_going_on
from dyncity_models.drive.region import seconds_since
from dyncity_models.drive.rigid_vehicles import with_rigid_vehicles
from dyncity_models.drive.setting_off import setting_off
from dyncity_models.drive.steady_pedestrians import steady_pedestrians, with_pedestrians
from dyncity_sim.domain.frames import planar_from_poses
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.recording import ActorKind
from dyncity_sim.domain.scene import Track
from dyncity_sim.scene.actors.find import find_tracks


def with_traffic(
    chunk: OccupancySequence,
    coming: Forecast | None,
    known: UInt8[np.ndarray, "X Y Z"],
    setting_off_share: float,
    rng: np.random.Generator,
) -> UInt8[np.ndarray, "T X Y Z"]:
    """The labels of a chunk in which vehicles are rigid, pedestrians do not flicker, some who would stand set off, and
    nobody who was there before it vanishes, is held up, or comes from nowhere.

    Args:
        chunk: as generated, without unobserved cells; its classes are those of CARLASC.
        coming: how those before the chunk go on; None where there were none.
        known: what the drive knew of the static world in the first frame, ``UNOBSERVED`` elsewhere.
        setting_off_share: share of the pedestrians who are drawn standing that sets off.
        rng: draws which of them, how fast and where to.
    """
    if coming is None:
        vehicles, walkers = _found_in(chunk)
        chunk = replace(chunk, labels=with_rigid_vehicles(chunk, vehicles))
        labels, pedestrians = steady_pedestrians(chunk, walkers)
        new = np.ones(len(pedestrians), dtype=np.bool_)
    else:
        planar, seconds = planar_from_poses(chunk.poses_world_from_ego), seconds_since(chunk.times_us, coming.frame)
        chunk = replace(chunk, labels=with_road_users_going_on(chunk.labels, coming, planar, seconds))
        vehicles, walkers = _found_in(chunk)
        strangers = np.flatnonzero(pedestrians_from_nowhere(walkers, chunk, coming, seconds, known)).tolist()
        popped_up = vehicles_from_nowhere(vehicles, chunk, coming, seconds, known)
        vehicles = [track for track, gone in zip(vehicles, popped_up, strict=True) if not gone]
        chunk = replace(chunk, labels=with_rigid_vehicles(chunk, vehicles, ways_of(coming, seconds)))
        labels, pedestrians = steady_pedestrians(chunk, walkers, strangers)
        new = not_there_before([one.course for one in pedestrians], chunk, coming, seconds)
    pedestrians = setting_off(pedestrians, new, replace(chunk, labels=labels), setting_off_share, rng)
    labels = with_pedestrians(labels, pedestrians, chunk)
    # Those that the network led into the ego's way may well go on as they would have done.
    return labels if coming is None else with_road_users_going_on(labels, coming.only(~coming.on_foot), planar, seconds)


def _found_in(chunk: OccupancySequence) -> tuple[list[Track], list[Course]]:
    """(Vehicles, where pedestrians are)."""
    vehicles: list[Track] = []
    walkers: list[Course] = []
    for track in find_tracks(chunk):
        if track.kind is ActorKind.PEDESTRIAN:
            walkers.append(Course.of(track, chunk))
        else:
            vehicles.append(track)
    return vehicles, walkers
