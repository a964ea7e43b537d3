"""Rendering: from captures to the frames of a recording."""

from typing import Any

import numpy as np

from dyncity_sim.domain.grid import CARLASC_GRID, Grid
from dyncity_sim.domain.recording import RecordedFrame
from dyncity_sumo.scenery import Scenery
from dyncity_sumo.shots import Capture
from dyncity_sumo.visibility import SensorRig, blind_rig, draw_rig


def rig_of(town_seed: int, number: int, blind: bool) -> SensorRig:
    """The sensors of one drive: drive ``number`` of its town, whatever else is rendered."""
    return blind_rig() if blind else draw_rig(np.random.default_rng([town_seed, 5, number]))


def render(scenery: Scenery, capture: Capture, rig: SensorRig, grid: Grid = CARLASC_GRID) -> list[RecordedFrame]:
    """The frames of a capture, seen by one sensor rig."""
    return [scenery.frame(shot.pose_world_from_ego, shot.actors, rig, shot.time_us, grid) for shot in capture.shots]


def drive_notes(town_seed: int, ego_kind: str, manoeuvre: str) -> dict[str, Any]:
    """What a recording says of a drive."""
    return {"town_seed": town_seed, "ego": ego_kind, "manoeuvre": manoeuvre}
