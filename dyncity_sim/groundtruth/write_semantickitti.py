"""SemanticKITTI's layout (Behley et al., ICCV 2019), with boxes beside it.

::

    FOLDER/
      classes.json                     names of the label ids, taxonomy, grid-independent conventions
      sequences/00/
        velodyne/NNNNNN.bin            float32 x, y, z, remission in the LiDAR frame (x forward, y left, z up)
        labels/NNNNNN.label            uint32: class id in the lower, instance id in the upper 16 bits
        boxes/NNNNNN.json              3D boxes in the LiDAR frame, with track ids
        poses.txt                      3x4 rows, pose of the CAMERA at each scan in the camera frame of the first
        calib.txt                      Tr: 3x4, LiDAR to camera
        times.txt                      seconds since the first scan

The camera of ``calib.txt`` is a frame and no sensor: it sits in the LiDAR with z forward, x right, y down.
Readers get the LiDAR's poses as ``inv(Tr) @ pose @ Tr``, as with the original. Remission is the cosine of
the angle of incidence.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, UInt32
from scipy.spatial.transform import Rotation

from dyncity_sim.domain.frames import Pose, inverse
from dyncity_sim.domain.ground_truth import Box3D, LabelledFrame
from dyncity_sim.domain.recording import ActorKind
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.errors import InvalidInputError
from dyncity_sim.files import whole_folder

CAMERA_FROM_LIDAR = np.array([[0.0, -1.0, 0.0, 0.0], [0.0, 0.0, -1.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]])

MOVING_SPEED_MPS = 0.5
"""From this speed on an actor's points carry the id of the moving form of their class."""

STATIC_IDS = {
    "free": 0,
    "building": 50,
    "barrier": 51,
    "other": 99,
    "pedestrian": 30,
    "pole": 80,
    "road": 40,
    "ground": 72,
    "sidewalk": 48,
    "vegetation": 70,
    "vehicle": 10,
    "unused": 0,
}
"""SemanticKITTI id of each of our classes, for points without a track."""

ACTOR_IDS = {
    ActorKind.CAR: (10, 252),
    ActorKind.VAN: (20, 259),
    ActorKind.BUS: (13, 257),
    ActorKind.TRUCK: (18, 258),
    ActorKind.MOTORCYCLE: (15, 255),
    ActorKind.BICYCLE: (11, 253),
    ActorKind.PEDESTRIAN: (30, 254),
}
"""Ids of a standing and of a moving actor; moving two-wheelers have only the id of their riders."""

RIDER_IDS = {ActorKind.MOTORCYCLE: (32, 255), ActorKind.BICYCLE: (31, 253)}
"""Ids of pedestrian points on a two-wheeler, standing and moving."""

NAMES = {
    0: "unlabeled",
    10: "car",
    11: "bicycle",
    13: "bus",
    15: "motorcycle",
    18: "truck",
    20: "other-vehicle",
    30: "person",
    31: "bicyclist",
    32: "motorcyclist",
    40: "road",
    48: "sidewalk",
    50: "building",
    51: "fence",
    70: "vegetation",
    72: "terrain",
    80: "pole",
    99: "other-object",
    252: "moving-car",
    253: "moving-bicyclist",
    254: "moving-person",
    255: "moving-motorcyclist",
    257: "moving-bus",
    258: "moving-truck",
    259: "moving-other-vehicle",
}
"""Names of the ids in use (semantic-kitti-api, ``config/semantic-kitti.yaml``)."""


def write_semantickitti(frames: Iterable[LabelledFrame], folder: Path, attribution: str = "") -> None:
    """Write labelled frames as sequence 00. The folder appears whole or not at all; same input, same bytes.

    Raises:
        InvalidInputError: no frame, or the folder holds something already.
        StorageError: the disk is full, or the place may not be written to.
    """
    with whole_folder(folder) as temporary:
        sequence = temporary / "sequences" / "00"
        for name in ("velodyne", "labels", "boxes"):
            (sequence / name).mkdir(parents=True)
        poses, times_us = [], []
        for number, frame in enumerate(frames):
            (sequence / "velodyne" / f"{number:06d}.bin").write_bytes(_scan(frame))
            (sequence / "labels" / f"{number:06d}.label").write_bytes(semantickitti_labels(frame).tobytes())
            (sequence / "boxes" / f"{number:06d}.json").write_bytes(_json([_box(b) for b in frame.boxes]))
            poses.append(frame.pose_world_from_ego)
            times_us.append(frame.time_us)
        if not poses:
            raise InvalidInputError("frames", "none", "at least one")
        (sequence / "poses.txt").write_text("".join(_row(camera_pose(p, poses[0])) for p in poses))
        (sequence / "calib.txt").write_text("Tr: " + _row(CAMERA_FROM_LIDAR))
        (sequence / "times.txt").write_text("".join(f"{(t - times_us[0]) * 1e-6:.6f}\n" for t in times_us))
        (temporary / "classes.json").write_bytes(_json(_classes(poses[0], times_us[0], attribution)))


def semantickitti_labels(frame: LabelledFrame) -> UInt32[np.ndarray, " N"]:
    """Class id in the lower and instance id in the upper 16 bits of each point of the sweep."""
    sweep = frame.sweeps[0]
    ids = np.array([STATIC_IDS[name] for name in CARLASC.names], dtype=np.uint32)[sweep.labels]
    for box in frame.boxes:
        moving = int(np.linalg.norm(box.velocity_ego_mps) >= MOVING_SPEED_MPS)
        own = sweep.instances == box.track_id
        ids[own] = ACTOR_IDS[box.kind][moving]
        if box.kind in RIDER_IDS:
            ids[own & (sweep.labels == CARLASC.index("pedestrian"))] = RIDER_IDS[box.kind][moving]
    return ids | (sweep.instances.astype(np.uint32) << 16)


def camera_pose(pose_world_from_ego: Pose, first_pose_world_from_ego: Pose) -> Pose:
    """Pose of the camera frame at a scan in the camera frame of the first scan."""
    pose_first_from_ego = inverse(first_pose_world_from_ego) @ pose_world_from_ego
    return CAMERA_FROM_LIDAR @ pose_first_from_ego @ inverse(CAMERA_FROM_LIDAR)


def _scan(frame: LabelledFrame) -> bytes:
    scan = np.column_stack([frame.sweeps[0].points_ego_m, frame.sweeps[0].intensity])
    return scan.astype("<f4").tobytes()


def _row(pose: Float64[np.ndarray, "4 4"]) -> str:
    # Adding 0.0 keeps a negative zero out of the file.
    return " ".join(f"{value + 0.0:.9e}" for value in pose[:3].reshape(-1)) + "\n"


def _box(box: Box3D) -> dict[str, Any]:
    quaternion = Rotation.from_matrix(box.pose_ego_from_actor[:3, :3]).as_quat(canonical=True)[[3, 0, 1, 2]]
    return {
        "track_id": box.track_id,
        "kind": box.kind.value,
        "centre_m": _numbers(box.pose_ego_from_actor[:3, 3]),
        "orientation_wxyz": _numbers(quaternion),
        "size_m": _numbers(box.size_m),
        "velocity_mps": _numbers(box.velocity_ego_mps),
        "lidar_points": box.lidar_points,
    }


def _classes(first_pose: Pose, first_time_us: int, attribution: str) -> dict[str, Any]:
    return {
        "names": {str(number): name for number, name in sorted(NAMES.items())},
        "from_taxonomy": {"id": CARLASC.id, "ids": STATIC_IDS},
        "first_pose_world_from_lidar": [_numbers(row) for row in first_pose],
        "first_time_us": first_time_us,
        "attribution": attribution,
        "generated": True,
    }


def _numbers(values: Any) -> list[float]:
    return [round(float(v), 6) + 0.0 for v in values]


def _json(content: Any) -> bytes:
    return (json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()
