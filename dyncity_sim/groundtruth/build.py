"""Occupancy and its scene to labelled frames."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from dyncity_sim.domain.ground_truth import LabelledFrame, LidarSensor
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.scene import Scene
from dyncity_sim.errors import InvalidInputError
from dyncity_sim.groundtruth.boxes import boxes_in_frame, instance_cells
from dyncity_sim.groundtruth.lidar import HDL64, lidar_sweep


def labelled_frames(occupancy: OccupancySequence, scene: Scene, sensor: LidarSensor = HDL64) -> Iterator[LabelledFrame]:
    """Ground truth of each frame, one at a time.

    Raises:
        InvalidInputError: the scene was not made from this occupancy, or the sensor has no free place.
        MissingExtraError: numba is not installed.
    """
    if not np.array_equal(scene.times_us, occupancy.times_us):
        raise InvalidInputError(
            "scene.times_us", f"{len(scene.times_us)} other times", f"those of the {len(occupancy)} frames of occupancy"
        )
    frames = zip(occupancy.labels, occupancy.poses_world_from_ego, occupancy.times_us, strict=True)
    for labels, pose, time_us in frames:
        boxes = boxes_in_frame(scene.tracks, pose, int(time_us), occupancy.grid)
        instances = instance_cells(labels, boxes, occupancy.grid, occupancy.taxonomy)
        sweep = lidar_sweep(labels, instances, occupancy.grid, sensor)
        hits = np.bincount(sweep.instances, minlength=1)
        counted = tuple(replace(b, lidar_points=int(hits[b.track_id]) if b.track_id < len(hits) else 0) for b in boxes)
        yield LabelledFrame(sweep, counted, pose, int(time_us))
