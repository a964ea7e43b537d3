"""KITTI tracking's layout (Geiger et al., CVPR 2012; its tracking devkit), one sequence.

::

    FOLDER/
      label_02/0000.txt                   a line for each actor in the image and frame
      calib/0000.txt                      P0 to P3, R_rect, Tr_velo_cam, Tr_imu_velo
      velodyne/0000/NNNNNN.bin            float32 x, y, z, reflectance in the LiDAR frame
      oxts/0000.txt                       ego poses and velocities
      evaluate_tracking.seqmap.training   length of the sequence
      dyncity.json                        class table, levels, image size, times, sensors, provenance

The rig's first camera is all four of KITTI's, its first LiDAR is the Velodyne, the ego frame is the IMU's. There are
no pictures. Actors outside the image are in no line. Boxes have a yaw alone: what an actor leans in the camera's frame
is lost. ``oxts`` puts the first frame at latitude and longitude 0, which are no place but make the devkit's Mercator
formula give the poses back, in metres from there (``oxts_origin_world_m``): it scales by the first latitude's cosine.
What nobody knows (accelerations, turn rates, accuracies) is nan.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple
from pathlib import Path

import numpy as np
from jaxtyping import Float64
from scipy.spatial.transform import Rotation

from dyncity_sim.domain.frames import Poses, inverse
from dyncity_sim.domain.ground_truth import LabelledDrive, LabelledFrame
from dyncity_sim.domain.sensors import CameraSensor, SensorRig
from dyncity_sim.errors import InvalidInputError
from dyncity_sim.files import whole_folder
from dyncity_sim.groundtruth.formats.describe import check_next, check_whole
from dyncity_sim.groundtruth.formats.join import join_metadata, move
from dyncity_sim.groundtruth.formats.kitti_boxes import (
    OCCLUSION_LEVELS,
    TRUNCATION_LEVELS,
    TYPE_OF_KIND,
    KittiBox,
    kitti_box,
    projection,
)
from dyncity_sim.groundtruth.formats.metadata import write_metadata
from dyncity_sim.groundtruth.formats.write_semantickitti import pose_row, scan
from dyncity_sim.groundtruth.formats.writer import FrameWriter

LEVEL_WITHIN_RAD = np.deg2rad(1.0)
"""A camera that is tilted by more has no upright boxes."""

EARTH_RADIUS_M = 6378137.0
"""Of the devkit's Mercator projection."""

SEQUENCE = "0000"

SEQMAP = "evaluate_tracking.seqmap.training"


@contextmanager
def open_kitti(folder: Path, drive: LabelledDrive) -> Iterator[FrameWriter]:
    """Write a drive as sequence 0000. An OpenWriter.

    Raises:
        InvalidInputError: the rig has no camera or its first one is tilted; other frames than the drive's, or the
            folder is not free.
        StorageError: the disk is full, or the place may not be written to.
    """
    camera = level_camera(drive.rig)
    with whole_folder(folder) as temporary:
        writer = _KittiWriter(temporary, drive, camera)
        yield writer
        writer.finish()


def join_kitti(parts: Sequence[Path], folder: Path) -> None:
    """Number sequences of single drives from 0000 on. A Join."""
    names = [f"{number:04d}" for number in range(len(parts))]
    for part, name in zip(parts, names, strict=True):
        move(part / "velodyne" / SEQUENCE, folder / "velodyne" / name)
        for kind in ("label_02", "calib", "oxts"):
            move(part / kind / f"{SEQUENCE}.txt", folder / kind / f"{name}.txt")
    lengths = [(part / SEQMAP).read_text(encoding="ascii").removeprefix(SEQUENCE) for part in parts]
    seqmap = "".join(name + length for name, length in zip(names, lengths, strict=True))
    (folder / SEQMAP).write_text(seqmap, encoding="ascii")
    join_metadata(parts, folder, ("oxts_origin_world_m", "times_us"), names)


def level_camera(rig: SensorRig) -> CameraSensor:
    """The rig's first camera.

    Raises:
        InvalidInputError: there is none, or it is tilted.
    """
    if not rig.cameras:
        raise InvalidInputError(
            "rig for kitti", f"{rig.name!r}, without a camera", "at least one camera", "Name another rig: --sensors."
        )
    camera = rig.cameras[0]
    tilt_rad = float(np.arccos(np.clip(-camera.pose_ego_from_sensor[2, 1], -1.0, 1.0)))
    if tilt_rad > LEVEL_WITHIN_RAD:
        raise InvalidInputError(
            f"{camera.name} for kitti",
            f"a camera tilted by {np.rad2deg(tilt_rad):.1f} degrees",
            f"at most {np.rad2deg(LEVEL_WITHIN_RAD):g}, since KITTI's boxes turn about its y axis alone",
            "Mount it level, or put a level camera first in the rig.",
        )
    return camera


class _KittiWriter:
    def __init__(self, folder: Path, drive: LabelledDrive, camera: CameraSensor) -> None:
        self._folder, self._drive, self._camera = folder, drive, camera
        self._pose_lidar_from_ego = inverse(drive.rig.lidars[0].pose_ego_from_sensor)
        self._scans = folder / "velodyne" / SEQUENCE
        self._scans.mkdir(parents=True)
        self._lines: list[str] = []
        self._count = 0

    def add(self, frame: LabelledFrame) -> None:
        check_next(frame, self._drive, self._count)
        (self._scans / f"{self._count:06d}.bin").write_bytes(scan(frame.sweeps[0], self._pose_lidar_from_ego))
        for box in frame.boxes:
            seen = kitti_box(box, self._camera)
            if seen is not None:
                self._lines.append(f"{self._count} {box.track_id} {_line(seen)}\n")
        self._count += 1

    def finish(self) -> None:
        drive = self._drive
        check_whole(drive, self._count)
        self._write("label_02", "".join(self._lines))
        self._write("calib", self._calibration())
        packets = oxts_packets(drive.poses_world_from_ego, drive.times_us * 1e-6)
        self._write("oxts", "".join(" ".join(f"{v + 0.0:.16g}" for v in packet) + " 0 0 0 0 0\n" for packet in packets))
        seqmap = f"{SEQUENCE} empty 000000 {len(drive):06d}\n"
        (self._folder / SEQMAP).write_text(seqmap, encoding="ascii")
        notes = {
            "format": "kitti-tracking",
            "actor_table": {kind.value: name for kind, name in TYPE_OF_KIND.items()},
            "occluded_below_visibility": list(OCCLUSION_LEVELS),
            "truncated_from_share": list(TRUNCATION_LEVELS),
            "camera": self._camera.name,
            "image_size": [self._camera.width, self._camera.height],
            "oxts_origin_world_m": [*drive.poses_world_from_ego[0, :2, 3].tolist(), 0.0],
            "times_us": [int(t) for t in drive.times_us],
        }
        write_metadata(self._folder, drive, notes)

    def _write(self, folder: str, content: str) -> None:
        (self._folder / folder).mkdir()
        (self._folder / folder / f"{SEQUENCE}.txt").write_text(content, encoding="ascii")

    def _calibration(self) -> str:
        pose_lidar_from_ego = self._pose_lidar_from_ego
        camera_from_lidar = inverse(self._camera.pose_ego_from_sensor) @ inverse(pose_lidar_from_ego)
        rectification = " ".join(f"{value:.12e}" for value in np.eye(3).ravel())
        lines = [f"P{number}: {pose_row(projection(self._camera))}" for number in range(4)]
        lines += [f"R_rect {rectification}\n", f"Tr_velo_cam {pose_row(camera_from_lidar)}"]
        return "".join([*lines, f"Tr_imu_velo {pose_row(pose_lidar_from_ego)}"])


def oxts_packets(poses_world_from_ego: Poses, times_s: Float64[np.ndarray, " T"]) -> Float64[np.ndarray, "T 25"]:
    """The measured fields of KITTI's OXTS packets: latitude to velocity accuracy (its ``dataformat.txt``).

    Latitude and longitude count from the first pose, altitude from the world's origin. Velocities are differences of
    positions; without a second frame they are nan, as is all that poses do not say.
    """
    x, y = (poses_world_from_ego[:, :2, 3] - poses_world_from_ego[0, :2, 3]).T
    rotations = poses_world_from_ego[:, :3, :3]
    packets = np.full((len(x), 25), np.nan)
    packets[:, 0] = np.rad2deg(2 * np.arctan(np.exp(y / EARTH_RADIUS_M)) - np.pi / 2)
    packets[:, 1] = np.rad2deg(x / EARTH_RADIUS_M)
    packets[:, 2] = poses_world_from_ego[:, 2, 3]
    packets[:, 3:6] = Rotation.from_matrix(rotations).as_euler("ZYX")[:, ::-1]
    if len(x) > 1:
        velocities = np.gradient(poses_world_from_ego[:, :3, 3], times_s, axis=0)
        packets[:, 6:8] = velocities[:, 1::-1]
        packets[:, 8:11] = np.einsum("tji,tj->ti", rotations, velocities)
    return packets


def _line(box: KittiBox) -> str:
    kind, truncated, occluded, alpha, *rest = astuple(box)
    values = [alpha, *(value for part in rest for value in (part if isinstance(part, tuple) else (part,)))]
    return f"{kind} {truncated} {occluded} " + " ".join(f"{value + 0.0:.6f}" for value in values)
