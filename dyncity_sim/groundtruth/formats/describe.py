"""What files say of a drive beside its frames, and what a frame must be to be the drive's next."""

from dataclasses import asdict
from typing import Any

import numpy as np
from jaxtyping import Float64
from scipy.spatial.transform import Rotation

from dyncity_sim.domain.frames import Pose
from dyncity_sim.domain.grid import Grid
from dyncity_sim.domain.ground_truth import Box3D, LabelledDrive, LabelledFrame
from dyncity_sim.domain.sensors import CameraSensor, LidarSensor
from dyncity_sim.errors import InvalidInputError


def described(drive: LabelledDrive) -> dict[str, Any]:
    """Grid, classes, sensors and provenance as plain JSON values; lengths in metres, angles in radians."""
    return {
        "name": drive.name,
        "frames": len(drive),
        "grid": grid_json(drive.grid),
        "taxonomy": {
            "id": drive.taxonomy.id,
            "classes": [
                {"label": label, "name": c.name, "colour": list(c.colour), "moves": c.moves}
                for label, c in enumerate(drive.taxonomy.classes)
            ],
        },
        "rig": {
            "name": drive.rig.name,
            "seed": drive.seed,
            "lidars": [_lidar(lidar) for lidar in drive.rig.lidars],
            "cameras": [_camera(camera) for camera in drive.rig.cameras],
        },
        "provenance": {
            "generator": "dyncity-sim",
            "model_id": drive.provenance.model_id,
            "seeds": list(drive.provenance.seeds),
            "attribution": drive.provenance.attribution,
            "taxonomy": drive.provenance.taxonomy_id,
        },
    }


def described_box(box: Box3D) -> dict[str, Any]:
    """One box as plain JSON values, in the ego frame."""
    return {
        "track_id": box.track_id,
        "kind": box.kind.value,
        "pose_ego_from_actor": rows(box.pose_ego_from_actor),
        "size_m": [float(v) for v in box.size_m],
        "velocity_ego_mps": [float(v) for v in box.velocity_ego_mps],
        "lidar_points": box.lidar_points,
        "visibility": box.visibility,
    }


def grid_json(grid: Grid) -> dict[str, Any]:
    """A grid as plain JSON values."""
    return {"shape": list(grid.shape), "lower_m": list(grid.lower_m), "voxel_size_m": list(grid.voxel_size_m)}


def rows(matrix: Pose) -> list[list[float]]:
    """A matrix as lists."""
    return [[float(v) for v in row] for row in matrix]


def quaternion_wxyz(pose: Pose) -> Float64[np.ndarray, " 4"]:
    """Rotation of a pose as a unit quaternion (w, x, y, z), w not negative."""
    return np.asarray(Rotation.from_matrix(pose[:3, :3]).as_quat(canonical=True)[[3, 0, 1, 2]])


def check_next(frame: LabelledFrame, drive: LabelledDrive, number: int) -> None:
    """Raise InvalidInputError where ``frame`` is not frame ``number`` of ``drive``."""
    if number >= len(drive) or frame.time_us != drive.times_us[number]:
        there = f"{drive.times_us[number]} us" if number < len(drive) else f"no more than {len(drive)} frames"
        raise InvalidInputError(f"frame {number} time_us", frame.time_us, f"{there}, as the drive has")
    if not np.array_equal(frame.pose_world_from_ego, drive.poses_world_from_ego[number]):
        raise InvalidInputError(f"frame {number} pose_world_from_ego", "another pose", "the drive's")
    if frame.labels.shape != drive.grid.shape:
        raise InvalidInputError(f"frame {number} labels", f"shape {frame.labels.shape}", f"{drive.grid.shape}")
    drive.taxonomy.check(frame.labels, f"frame {number} labels")
    got = len(frame.sweeps), len(frame.images)
    if got != (len(drive.rig.lidars), len(drive.rig.cameras)):
        raise InvalidInputError(f"frame {number}", f"{got[0]} sweeps and {got[1]} images", "one for each sensor")
    for camera, images in zip(drive.rig.cameras, frame.images, strict=True):
        if images.labels.shape != (camera.height, camera.width):
            raise InvalidInputError(
                f"frame {number} {camera.name}", f"shape {images.labels.shape}", f"({camera.height}, {camera.width})"
            )


def check_whole(drive: LabelledDrive, frames: int) -> None:
    """Raise InvalidInputError unless all frames of ``drive`` have come."""
    if frames != len(drive):
        raise InvalidInputError("frames", f"{frames}", f"all {len(drive)} of the drive")


def _lidar(lidar: LidarSensor) -> dict[str, Any]:
    return {
        "name": lidar.name,
        "elevations_rad": [float(v) for v in lidar.elevations_rad],
        "azimuth_steps": lidar.azimuth_steps,
        "pose_ego_from_sensor": rows(lidar.pose_ego_from_sensor),
        "min_range_m": lidar.min_range_m,
        "max_range_m": lidar.max_range_m,
        "scan": lidar.scan.value,
        "period_s": lidar.period_s,
        "reflectivity": dict(lidar.reflectivity),
        "falloff_m": lidar.falloff_m,
        "range_noise_m": lidar.range_noise_m,
        "dropout": asdict(lidar.dropout),
    }


def _camera(camera: CameraSensor) -> dict[str, Any]:
    return {
        "name": camera.name,
        "width": camera.width,
        "height": camera.height,
        "intrinsics": rows(camera.intrinsics),
        "pixel_centres": "the middle of the upper left pixel is (0.5, 0.5)",
        "pose_ego_from_sensor": rows(camera.pose_ego_from_sensor),
        "max_range_m": camera.max_range_m,
    }
