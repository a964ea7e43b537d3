"""Depth, semantic and instance images: one ray through the middle of each pixel, cast through the voxels."""

import numpy as np
from jaxtyping import Float64

from dyncity_sim.domain.ground_truth import CameraImages
from dyncity_sim.domain.sensors import CameraSensor
from dyncity_sim.groundtruth.sensors.rays import Rays, Seen, Surroundings, by_track, cast, check_free


def camera_images(around: Surroundings, camera: CameraSensor) -> tuple[CameraImages, Seen]:
    """What ``camera`` sees in a frame; where a pixel's ray leaves the grid, nothing is.

    Raises:
        InvalidInputError: the camera stands outside the grid or inside an occupied cell.
        MissingExtraError: numba is not installed.
    """
    rays = camera_rays(camera)
    check_free(around.labels, rays.origins_m[:1], around, camera)
    seen = np.zeros(around.labels.shape, dtype=np.bool_)
    crossed = np.zeros(int(around.instances.max()) + 1, dtype=np.int64)
    some = len(crossed) > 1
    hits = cast(around.labels, around.grid, rays, seen, around.instances if some else None, crossed if some else None)
    shape = camera.height, camera.width
    nothing = hits.cells < 0
    # Index -1 of rays without a hit reads the last cell, which is blanked.
    labels = np.where(nothing, np.uint8(0), around.labels.reshape(-1)[hits.cells])
    instances = np.where(nothing, np.uint16(0), around.instances.reshape(-1)[hits.cells])
    images = CameraImages(
        depth_m=hits.distances.astype(np.float32).reshape(shape),
        labels=labels.reshape(shape),
        instances=instances.reshape(shape),
    )
    return images, Seen(seen, by_track(instances, len(crossed)), crossed)


def camera_rays(camera: CameraSensor) -> Rays:
    """Rays through the middle of each pixel, row by row; distances along them are depths along the camera's z."""
    u, v = np.meshgrid(np.arange(camera.width) + 0.5, np.arange(camera.height) + 0.5)
    pixels: Float64[np.ndarray, "R 3"] = np.stack([u, v, np.ones_like(u)], axis=-1).reshape(-1, 3)
    rotation = camera.pose_ego_from_sensor[:3, :3] @ np.linalg.inv(camera.intrinsics)
    count = len(pixels)
    return Rays(np.tile(camera.position_ego_m, (count, 1)), pixels @ rotation.T, np.full(count, camera.max_range_m))
