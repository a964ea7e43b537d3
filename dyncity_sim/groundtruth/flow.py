"""Occupancy flow: how fast what fills each cell moves over ground."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float32

from dyncity_sim.domain.grid import Grid
from dyncity_sim.domain.ground_truth import LabelledFrame
from dyncity_sim.domain.scene import Track
from dyncity_sim.domain.taxonomy import Taxonomy
from dyncity_sim.groundtruth.sensors.motion import motion_of


def occupancy_flow(
    frame: LabelledFrame, tracks: Mapping[int, Track], grid: Grid, taxonomy: Taxonomy
) -> Float32[np.ndarray, "X Y Z 3"]:
    """Velocity over ground of what fills each cell, metres per second along the axes of the ego frame.

    A track's cells move with its box as a rigid body, ``v + w x (p - c)`` at each cell's centre ``p``, and not with
    the ego. Free and static cells have velocity 0. Cells of moving classes without a track are NaN, and those that the
    source does not know: nobody knows.

    Args:
        frame: one frame of a drive.
        tracks: the drive's tracks by id.
        grid: of the frame.
        taxonomy: of the frame.
    """
    flow = np.zeros((*grid.shape, 3), dtype=np.float32)
    flow[np.isin(frame.labels, taxonomy.moving_labels) & (frame.instances == 0)] = np.nan
    for box in frame.boxes:
        cells = np.argwhere(frame.instances == box.track_id)
        centres = np.asarray(grid.lower_m) + (cells + 0.5) * np.asarray(grid.voxel_size_m)
        motion = motion_of(tracks[box.track_id], frame.time_us, frame.pose_world_from_ego)
        flow[tuple(cells.T)] = motion.velocities(centres)
    if frame.observed is not None:
        flow[~frame.observed] = np.nan
    return flow
