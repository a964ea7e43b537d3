"""CarlaSC's files (MotionSC, Wilson et al. 2022; UMich-CURLY/3DMapping), written frame by frame.

::

    <sequence>/cartesian/
        evaluation/NNNNNN.label   uint32 raw class of each cell, C order (X, Y, Z); 0 where nothing was seen
        evaluation/NNNNNN.bin     float32 count of samples in each cell; 0 = never observed, excluded from scores
        velodyne/NNNNNN.bin       float32 x, y, z, intensity of the points of a sweep
        labels/NNNNNN.label       uint32 raw class of each point
        poses.txt                 3x4 row-major, each frame's LiDAR relative to the first one's
        times.txt                 seconds, one line per frame
        params.json               grid; here also "handedness" and where the first frame stands in the world
        instances/NNNNNN.instance uint32 actor id of each cell (ours)
        boxes.json                boxes of the actors of each frame (ours)

CarlaSC comes from CARLA's left-handed frames: y grows to the right, in its grids as in its poses. Everything in this
project is right-handed, so axis Y of the grids and y of the points are mirrored, and poses go through ``S M S`` with
``S = diag(1, -1, 1, 1)``.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8, UInt16

from dyncity_sim.domain.frames import Pose, Poses, inverse, mirrored_poses, planar_from_poses
from dyncity_sim.domain.grid import Grid
from dyncity_sim.domain.recording import ActorKind
from dyncity_sim.files import json_bytes

CHANNELS = 25
"""What CarlaSC's own params.json calls num_channels."""

Bounds = tuple[float, float, float]


def mirrored_bounds(lower_m: Bounds, upper_m: Bounds) -> tuple[Bounds, Bounds]:
    """Corners of a grid in the right-handed frame as corners in the left-handed one, and back."""
    return (lower_m[0], 0.0 - upper_m[1], lower_m[2]), (upper_m[0], 0.0 - lower_m[1], upper_m[2])


def mirrored_box(
    number: int,
    kind: ActorKind,
    pose_ego_from_actor: Pose,
    size_m: tuple[float, float, float],
    speed_mps: float,
) -> dict[str, Any]:
    """A box in the left-handed ego frame: centre, yaw (clockwise from above), size."""
    pose = mirrored_poses(pose_ego_from_actor)
    return {
        "id": number,
        "kind": kind.value,
        "centre_m": pose[:3, 3].tolist(),
        "yaw_rad": float(planar_from_poses(pose)[2]),
        "size_m": list(size_m),
        "speed_mps": speed_mps,
    }


class CarlaScFiles:
    """Writes one sequence of right-handed frames.

    Args:
        cartesian: a folder that does not exist.
        grid: of all frames.
        attribution: credit that goes with them.
    """

    def __init__(self, cartesian: Path, grid: Grid, attribution: str) -> None:
        for name in ("evaluation", "instances"):
            (cartesian / name).mkdir(parents=True)
        self._cartesian, self._grid, self._attribution = cartesian, grid, attribution
        self._poses: list[Pose] = []
        self._times_us: list[int] = []
        self._boxes: list[list[dict[str, Any]]] = []

    def add(
        self,
        raw_labels: UInt8[np.ndarray, "X Y Z"],
        counts: Float32[np.ndarray, "X Y Z"],
        instances: UInt16[np.ndarray, "X Y Z"],
        boxes: Sequence[dict[str, Any]],
        pose_world_from_ego: Pose,
        time_us: int,
    ) -> None:
        """Write the cells of the next frame; ``boxes`` are ``mirrored_box``'s."""
        seen = np.where(counts > 0, raw_labels, 0)
        self._write("evaluation", ".label", _flipped(seen, "<u4"))
        self._write("evaluation", ".bin", _flipped(counts, "<f4"))
        self._write("instances", ".instance", _flipped(instances, "<u4"))
        self._poses.append(pose_world_from_ego)
        self._times_us.append(time_us)
        self._boxes.append(list(boxes))

    def add_points(
        self,
        points_ego_m: Float32[np.ndarray, "N 3"],
        intensity: Float32[np.ndarray, " N"],
        raw_labels: UInt8[np.ndarray, " N"],
    ) -> None:
        """Write the points of the next frame; call it before ``add``."""
        for name in ("velodyne", "labels"):
            (self._cartesian / name).mkdir(exist_ok=True)
        points = np.column_stack([points_ego_m * np.array([1, -1, 1], dtype=np.float32), intensity])
        self._write("velodyne", ".bin", points.astype("<f4"))
        self._write("labels", ".label", raw_labels.astype("<u4"))

    def finish(self) -> None:
        """Write what is of all frames."""
        poses: Poses = np.stack(self._poses)
        lower_m, upper_m = mirrored_bounds(self._grid.lower_m, self._grid.upper_m)
        params = {
            "grid_size": list(self._grid.shape),
            "min_bound": [round(edge, 9) for edge in lower_m],
            "max_bound": [round(edge, 9) for edge in upper_m],
            "num_channels": CHANNELS,
            "coordinates": "cartesian",
            "handedness": "left",
            "pose_world_from_first": poses[0].tolist(),
            "attribution": self._attribution,
        }
        # Published copies have it in either place.
        for folder in (self._cartesian, self._cartesian / "evaluation"):
            (folder / "params.json").write_bytes(json_bytes(params))
        (self._cartesian / "boxes.json").write_bytes(json_bytes(self._boxes))
        relative = mirrored_poses(inverse(poses[0]) @ poses)
        lines = (" ".join(repr(float(value)) for value in pose[:3].ravel()) for pose in relative)
        (self._cartesian / "poses.txt").write_text("".join(f"{line}\n" for line in lines), encoding="ascii")
        seconds = (f"{time_us / 1e6:.6f}\n" for time_us in self._times_us)
        (self._cartesian / "times.txt").write_text("".join(seconds), encoding="ascii")

    def _write(self, folder: str, suffix: str, array: np.ndarray) -> None:
        (self._cartesian / folder / f"{len(self._poses):06d}{suffix}").write_bytes(array.tobytes())


def _flipped(array: np.ndarray, dtype: str) -> np.ndarray:
    return np.ascontiguousarray(array[:, ::-1], dtype=dtype)
