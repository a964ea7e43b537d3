"""Occupancy and its scene to labelled frames."""

import os
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from dyncity_sim.domain.base_frame import mounted
from dyncity_sim.domain.ground_truth import LabelledDrive, LabelledFrame, LidarSweep
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.scene import Provenance, Track
from dyncity_sim.domain.sensors import LidarSensor, Scan, SensorRig
from dyncity_sim.errors import InvalidInputError
from dyncity_sim.groundtruth.boxes import boxes_in_frame, instance_cells, labelled_boxes
from dyncity_sim.groundtruth.sensors.camera import camera_images
from dyncity_sim.groundtruth.sensors.lidar import lidar_sweep
from dyncity_sim.groundtruth.sensors.motion import motion_of, turn_of
from dyncity_sim.groundtruth.sensors.rays import Seen, Surroundings, check_rig
from dyncity_sim.groundtruth.sensors.rig import DEFAULT_RIG, read_rig
from dyncity_sim.groundtruth.sensors.visibility import seen_cells, visibility


def labelled_drive(
    occupancy: OccupancySequence,
    tracks: tuple[Track, ...],
    provenance: Provenance,
    rig: SensorRig | None = None,
    name: str = "drive",
    seed: int = 0,
) -> LabelledDrive:
    """What writers know of a drive before its first frame; without a rig, one LiDAR 1.8 m above the road.

    Raises:
        InvalidInputError: a sensor stands outside the grid, or as LabelledDrive.
    """
    rig = mounted(read_rig(DEFAULT_RIG), occupancy.grid) if rig is None else rig
    check_rig(rig, occupancy.grid)
    return LabelledDrive(
        name,
        occupancy.grid,
        occupancy.taxonomy,
        rig,
        occupancy.poses_world_from_ego,
        occupancy.times_us,
        tracks,
        provenance,
        seed,
    )


def labelled_frames(
    occupancy: OccupancySequence, drive: LabelledDrive, threads: int | None = None
) -> Iterator[LabelledFrame]:
    """Ground truth of each frame, one at a time.

    Args:
        occupancy: what the drive was made from.
        drive: what is the same for all its frames.
        threads: how many sensors are computed at once; None for as many as there are processors. They change nothing
            of what comes out.

    Raises:
        InvalidInputError: ``drive`` was not made from this occupancy, or a sensor has no free place.
        MissingExtraError: numba is not installed.
    """
    if not np.array_equal(drive.times_us, occupancy.times_us):
        raise InvalidInputError(
            "drive.times_us", f"{len(drive)} other times", f"those of the {len(occupancy)} frames of occupancy"
        )
    with ThreadPoolExecutor(os.cpu_count() if threads is None else threads) as pool:
        for number in range(len(occupancy)):
            yield _labelled_frame(occupancy, drive, number, pool)


def _labelled_frame(occupancy: OccupancySequence, drive: LabelledDrive, number: int, pool: Executor) -> LabelledFrame:
    labels, time_us = occupancy.labels[number], int(occupancy.times_us[number])
    pose = occupancy.poses_world_from_ego[number]
    reaching = boxes_in_frame(drive.tracks, pose, time_us, occupancy.grid)
    instances = instance_cells(labels, reaching, occupancy.grid, occupancy.taxonomy)
    boxes = labelled_boxes(reaching, instances, occupancy.grid)
    around = Surroundings(labels, instances, occupancy.grid, occupancy.taxonomy, number)
    present = {box.track_id for box in boxes}
    tracks = [track for track in drive.tracks if track.id in present]
    motions = {track.id: motion_of(track, time_us, pose) for track in tracks}

    def sweep(sensor_number: int, sensor: LidarSensor) -> tuple[LidarSweep, Seen]:
        rng = np.random.default_rng([drive.seed, number, sensor_number])
        rolling = sensor.scan is Scan.ROLLING
        turn = turn_of(sensor, time_us, drive.poses_world_from_ego, drive.times_us, tracks) if rolling else None
        return lidar_sweep(around, sensor, motions, rng, turn)

    swept = [pool.submit(sweep, *numbered) for numbered in enumerate(drive.rig.lidars)]
    taken = [pool.submit(camera_images, around, camera) for camera in drive.rig.cameras]
    sweeps, seen_by_lidars = zip(*(task.result() for task in swept), strict=True)
    images, seen_by_cameras = zip(*(task.result() for task in taken), strict=True) if taken else ((), ())
    seen = (*seen_by_lidars, *seen_by_cameras)
    points = np.bincount(np.concatenate([sweep.instances for sweep in sweeps]), minlength=2**16)
    return LabelledFrame(
        labels=labels,
        observed=None if occupancy.observed is None else occupancy.observed[number],
        instances=instances,
        seen_by_lidar=seen_cells(seen_by_lidars),
        seen_by_camera=seen_cells(seen_by_cameras) if seen_by_cameras else None,
        sweeps=sweeps,
        images=images,
        boxes=tuple(
            replace(box, lidar_points=int(points[box.track_id]), visibility=visibility(box.track_id, seen))
            for box in boxes
        ),
        pose_world_from_ego=pose,
        time_us=time_us,
    )
