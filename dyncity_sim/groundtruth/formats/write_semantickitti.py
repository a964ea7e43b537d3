"""SemanticKITTI's layout (Behley et al., ICCV 2019), scans and completion, with boxes beside it.

::

    FOLDER/
      dyncity.json                     names of the label ids, class table, grid, sensors, provenance
      sequences/00/
        velodyne/NNNNNN.bin            float32 x, y, z, remission in the LiDAR frame (x forward, y left, z up)
        labels/NNNNNN.label            uint32: class id in the lower, instance id in the upper 16 bits
        voxels/NNNNNN.bin              cells that the scan hits
        voxels/NNNNNN.label            uint16 class id of each cell, 0 free, C order (X, Y, Z)
        voxels/NNNNNN.invalid          cells that nobody knows, or without a class
        voxels/NNNNNN.occluded         cells that no ray of the frame reaches
        boxes/NNNNNN.json              3D boxes in the LiDAR frame, with track ids
        poses.txt                      3x4 rows, pose of the CAMERA at each scan in the camera frame of the first
        calib.txt                      Tr: 3x4, LiDAR to camera; P0 to P3: 3x4, camera to picture
        times.txt                      seconds since the first scan

Voxels but for their labels are bits, eight to a byte, the first in the highest (semantic-kitti-api, SSCDataset). They
stand in the drive's own grid and the ego frame, or, resampled, in SemanticKITTI's grid of 256 x 256 x 32 cells of
0.2 m in the LiDAR frame; cells outside the drive's grid are then invalid.

The rig's first LiDAR is the one that scans; occluded is what none of its LiDARs reaches. The camera of ``calib.txt``
is a frame and no sensor: it sits in the LiDAR with z forward, x right, y down. Readers get the LiDAR's poses as
``inv(Tr) @ pose @ Tr``, as with the original. There are no pictures: P0 to P3, which readers of KITTI's odometry ask
for, have a focal length of 1, so that what they project to is x / z and y / z.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, UInt32

from dyncity_sim.domain.frames import Pose, inverse, transform_points
from dyncity_sim.domain.grid import SEMANTICKITTI_GRID
from dyncity_sim.domain.ground_truth import Box3D, LabelledDrive, LabelledFrame, LidarSweep
from dyncity_sim.files import json_bytes, whole_folder
from dyncity_sim.groundtruth.formats.describe import check_next, check_whole, quaternion_wxyz, rows
from dyncity_sim.groundtruth.formats.join import join_metadata, move
from dyncity_sim.groundtruth.formats.metadata import check_merged, stored_grid, write_metadata
from dyncity_sim.groundtruth.formats.semantickitti_classes import ACTOR_IDS, NAMES, STATIC_IDS, semantickitti_ids
from dyncity_sim.groundtruth.formats.writer import FrameWriter
from dyncity_sim.groundtruth.resample import Resampling, own_cells

SEQUENCE = "00"

CAMERA_FROM_LIDAR = np.array([[0.0, -1.0, 0.0, 0.0], [0.0, 0.0, -1.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]])


@contextmanager
def open_semantickitti(folder: Path, drive: LabelledDrive, resample: bool = False) -> Iterator[FrameWriter]:
    """Write a drive as sequence 00. An OpenWriter.

    Args:
        folder: must not exist, or be empty.
        drive: what is written.
        resample: take cells over into SemanticKITTI's grid by nearest neighbour.

    Raises:
        InvalidInputError: labels of another taxonomy than CARLASC, other frames than the drive's, or the folder is
            not free.
        StorageError: the disk is full, or the place may not be written to.
    """
    check_merged(drive, "semantickitti")
    mount = drive.rig.lidars[0].pose_ego_from_sensor
    resampling = Resampling(drive.grid, SEMANTICKITTI_GRID, mount) if resample else None
    with whole_folder(folder) as temporary:
        writer = _SemanticKittiWriter(temporary, drive, resampling)
        yield writer
        writer.finish()


def join_semantickitti(parts: Sequence[Path], folder: Path) -> None:
    """Number sequences of single drives from 00 on. A Join."""
    names = [f"{number:02d}" for number in range(len(parts))]
    for part, name in zip(parts, names, strict=True):
        move(part / "sequences" / SEQUENCE, folder / "sequences" / name)
    join_metadata(parts, folder, ("first_pose_world_from_lidar", "first_time_us"), names)


class _SemanticKittiWriter:
    def __init__(self, folder: Path, drive: LabelledDrive, resampling: Resampling | None) -> None:
        self._folder, self._drive, self._resampling = folder, drive, resampling
        self._pose_ego_from_lidar = drive.rig.lidars[0].pose_ego_from_sensor
        self._pose_lidar_from_ego = inverse(self._pose_ego_from_lidar)
        self._sequence = folder / "sequences" / SEQUENCE
        for name in ("velodyne", "labels", "voxels", "boxes"):
            (self._sequence / name).mkdir(parents=True)
        self._count = 0

    def add(self, frame: LabelledFrame) -> None:
        check_next(frame, self._drive, self._count)
        sweep, pose = frame.sweeps[0], self._pose_lidar_from_ego
        self._write("velodyne", ".bin", scan(sweep, pose))
        self._write("labels", ".label", point_labels(frame).astype("<u4").tobytes())
        self._write("boxes", ".json", json_bytes([_box(box, pose) for box in frame.boxes]))
        self._add_voxels(frame)
        self._count += 1

    def finish(self) -> None:
        drive = self._drive
        check_whole(drive, self._count)
        poses = drive.poses_world_from_ego @ self._pose_ego_from_lidar
        seconds = (drive.times_us - drive.times_us[0]) * 1e-6
        (self._sequence / "poses.txt").write_text("".join(pose_row(camera_pose(p, poses[0])) for p in poses))
        calibration = dict.fromkeys(("P0", "P1", "P2", "P3"), np.eye(4)) | {"Tr": CAMERA_FROM_LIDAR}
        lines = [f"{name}: {pose_row(matrix)}" for name, matrix in calibration.items()]
        (self._sequence / "calib.txt").write_text("".join(lines))
        (self._sequence / "times.txt").write_text("".join(f"{s:.6f}\n" for s in seconds))
        notes = {
            "format": "semantickitti",
            "names": {str(number): name for number, name in sorted(NAMES.items())},
            "class_table": STATIC_IDS,
            "actor_table": {kind.value: list(ids) for kind, ids in ACTOR_IDS.items()},
            "first_pose_world_from_lidar": rows(poses[0]),
            "first_time_us": int(drive.times_us[0]),
            **stored_grid(drive, self._resampling),
        }
        write_metadata(self._folder, drive, notes)

    def _add_voxels(self, frame: LabelledFrame) -> None:
        grid, resampling = self._drive.grid, self._resampling
        cells = own_cells(frame, grid) if resampling is None else resampling.cells(frame)
        hit = np.zeros(grid.shape, dtype=np.bool_)
        places = grid.indices(frame.sweeps[0].points_ego_m)
        hit[tuple(places[grid.contains(places)].T)] = True
        if resampling is not None:
            hit = resampling.take(hit, False)
        ids = semantickitti_ids(cells.labels, cells.instances, frame.boxes)
        nameless = (ids == 0) & (cells.labels > 0)
        self._write("voxels", ".bin", _bits(hit))
        self._write("voxels", ".label", ids.astype("<u2").tobytes())
        self._write("voxels", ".invalid", _bits(~cells.known | nameless))
        self._write("voxels", ".occluded", _bits(~cells.seen_by_lidar))

    def _write(self, folder: str, suffix: str, content: bytes) -> None:
        (self._sequence / folder / f"{self._count:06d}{suffix}").write_bytes(content)


def point_labels(frame: LabelledFrame) -> UInt32[np.ndarray, " N"]:
    """Class id in the lower and instance id in the upper 16 bits of each point of the first LiDAR."""
    sweep = frame.sweeps[0]
    ids = semantickitti_ids(sweep.labels, sweep.instances, frame.boxes)
    return ids.astype(np.uint32) | (sweep.instances.astype(np.uint32) << 16)


def scan(sweep: LidarSweep, pose_lidar_from_ego: Pose) -> bytes:
    """A scan as KITTI stores it: float32 x, y, z and intensity in the LiDAR's frame."""
    points = transform_points(pose_lidar_from_ego, sweep.points_ego_m.astype(np.float64))
    return np.column_stack([points, sweep.intensity]).astype("<f4").tobytes()


def camera_pose(pose_world_from_lidar: Pose, first_pose_world_from_lidar: Pose) -> Pose:
    """Pose of the camera frame at a scan in the camera frame of the first scan."""
    pose_first_from_lidar = inverse(first_pose_world_from_lidar) @ pose_world_from_lidar
    return CAMERA_FROM_LIDAR @ pose_first_from_lidar @ inverse(CAMERA_FROM_LIDAR)


def pose_row(matrix: Float64[np.ndarray, "R 4"]) -> str:
    """The upper three rows of a matrix as KITTI writes them; adding 0.0 keeps a negative zero out of the file."""
    return " ".join(f"{value + 0.0:.12e}" for value in matrix[:3].reshape(-1)) + "\n"


def _bits(cells: Bool[np.ndarray, "X Y Z"]) -> bytes:
    return np.packbits(cells).tobytes()


def _box(box: Box3D, pose_lidar_from_ego: Pose) -> dict[str, Any]:
    pose = pose_lidar_from_ego @ box.pose_ego_from_actor
    return {
        "track_id": box.track_id,
        "kind": box.kind.value,
        "centre_m": _numbers(pose[:3, 3]),
        "orientation_wxyz": _numbers(quaternion_wxyz(pose)),
        "size_m": _numbers(box.size_m),
        "velocity_mps": _numbers(pose_lidar_from_ego[:3, :3] @ np.asarray(box.velocity_ego_mps)),
        "lidar_points": box.lidar_points,
        "visibility": box.visibility,
    }


def _numbers(values: Any) -> list[float]:
    return [round(float(v), 6) + 0.0 for v in values]
