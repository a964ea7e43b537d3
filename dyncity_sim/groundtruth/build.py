"""Occupancy and its scene to labelled frames."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from dyncity_sim.domain.ground_truth import LabelledDrive, LabelledFrame
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.scene import Provenance, Track
from dyncity_sim.domain.sensors import SensorRig
from dyncity_sim.errors import InvalidInputError
from dyncity_sim.groundtruth.boxes import boxes_in_frame, instance_cells
from dyncity_sim.groundtruth.lidar import HDL64, lidar_sweep

HDL64_RIG = SensorRig("hdl64", (HDL64,))
"""One LiDAR at the ego frame's origin, no camera."""


def labelled_drive(
    occupancy: OccupancySequence,
    tracks: tuple[Track, ...],
    provenance: Provenance,
    rig: SensorRig = HDL64_RIG,
    name: str = "drive",
) -> LabelledDrive:
    """What writers know of a drive before its first frame."""
    return LabelledDrive(
        name,
        occupancy.grid,
        occupancy.taxonomy,
        rig,
        occupancy.poses_world_from_ego,
        occupancy.times_us,
        tracks,
        provenance,
    )


def labelled_frames(occupancy: OccupancySequence, drive: LabelledDrive) -> Iterator[LabelledFrame]:
    """Ground truth of each frame, one at a time.

    Raises:
        InvalidInputError: ``drive`` was not made from this occupancy, or a sensor has no free place.
        MissingExtraError: numba is not installed.
    """
    if not np.array_equal(drive.times_us, occupancy.times_us):
        raise InvalidInputError(
            "drive.times_us", f"{len(drive)} other times", f"those of the {len(occupancy)} frames of occupancy"
        )
    for number, (labels, pose, time_us) in enumerate(
        zip(occupancy.labels, occupancy.poses_world_from_ego, occupancy.times_us, strict=True)
    ):
        boxes = boxes_in_frame(drive.tracks, pose, int(time_us), occupancy.grid)
        instances = instance_cells(labels, boxes, occupancy.grid, occupancy.taxonomy)
        velocities = {box.track_id: box.velocity_ego_mps for box in boxes}
        sweeps = tuple(lidar_sweep(labels, instances, velocities, occupancy.grid, lidar) for lidar in drive.rig.lidars)
        hits = np.bincount(np.concatenate([sweep.instances for sweep in sweeps]), minlength=2**16)
        yield LabelledFrame(
            labels=labels,
            observed=None if occupancy.observed is None else occupancy.observed[number],
            instances=instances,
            seen_by_lidar=np.zeros(labels.shape, dtype=np.bool_),
            seen_by_camera=None,
            sweeps=sweeps,
            images=(),
            boxes=tuple(replace(box, lidar_points=int(hits[box.track_id])) for box in boxes),
            pose_world_from_ego=pose,
            time_us=int(time_us),
        )
