"""Boxes as KITTI tracks them: in a level camera, with their rectangle in its image (Geiger et al., CVPR 2012)."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from dyncity_sim.domain.frames import inverse, wrap_angle
from dyncity_sim.domain.ground_truth import Box3D
from dyncity_sim.domain.recording import ActorKind
from dyncity_sim.domain.sensors import CameraSensor
from dyncity_sim.groundtruth.formats.pictures import opencv_intrinsics

TYPE_OF_KIND = {
    ActorKind.CAR: "Car",
    ActorKind.VAN: "Van",
    ActorKind.BUS: "Misc",
    ActorKind.TRUCK: "Truck",
    ActorKind.MOTORCYCLE: "Misc",
    ActorKind.BICYCLE: "Cyclist",
    ActorKind.PEDESTRIAN: "Pedestrian",
}
"""KITTI has neither buses nor motorcycles; riders count to their two-wheelers here."""

OCCLUSION_LEVELS = (0.8, 0.4)
"""From this visible share on an actor is fully visible (0), partly occluded (1); below, largely occluded (2)."""

TRUNCATION_LEVELS = (0.01, 0.5)
"""From this share of its rectangle outside the image on an actor is partly (1), largely truncated (2)."""

NEAR_M = 0.1
"""What lies nearer to the camera's plane than this, or behind it, is cut off before projection."""

_CORNERS = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-1.0, 0.0) for z in (-0.5, 0.5)])
_EDGES = [(a, b) for a in range(8) for b in range(a + 1, 8) if (np.abs(_CORNERS[a] - _CORNERS[b]) > 0).sum() == 1]


@dataclass(frozen=True)
class KittiBox:
    """One line of a label file but for frame and id, in KITTI's order.

    Attributes:
        type: KITTI's class.
        truncated: 0, 1 or 2, see TRUNCATION_LEVELS.
        occluded: 0, 1 or 2, see OCCLUSION_LEVELS; 3 is unknown.
        alpha_rad: heading relative to the ray from the camera, in [-pi, pi).
        rectangle_px: left, top, right, bottom within the image.
        dimensions_m: height, width, length.
        location_m: middle of the underside in the camera's frame.
        rotation_y_rad: heading about the camera's y axis, in [-pi, pi); 0 heads along its x axis.
    """

    type: str
    truncated: int
    occluded: int
    alpha_rad: float
    rectangle_px: tuple[float, float, float, float]
    dimensions_m: tuple[float, float, float]
    location_m: tuple[float, float, float]
    rotation_y_rad: float


def kitti_box(box: Box3D, camera: CameraSensor) -> KittiBox | None:
    """A box as a level camera sees it; None where it is farther than that sees, or not in the image."""
    pose = inverse(camera.pose_ego_from_sensor) @ box.pose_ego_from_actor
    length_m, width_m, height_m = box.size_m
    underside = pose[:3, 3] - pose[:3, :3] @ np.array([0.0, 0.0, height_m / 2])
    if underside[2] > camera.max_range_m:
        return None
    heading = pose[:3, 0]
    rotation_y = float(wrap_angle(np.arctan2(-heading[2], heading[0])))
    dimensions = (height_m, width_m, length_m)
    full = _rectangle(corners(dimensions, underside, rotation_y), camera)
    if full is None:
        return None
    size = np.array([camera.width, camera.height])
    lower, upper = (np.clip(edge, 0.0, size - 1.0) for edge in full)
    if not (upper > lower).all():
        return None
    hidden = 1 - float(np.prod(upper - lower) / np.prod(full[1] - full[0]))
    x, y, z = (float(v) for v in underside)
    return KittiBox(
        TYPE_OF_KIND[box.kind],
        sum(hidden >= level for level in TRUNCATION_LEVELS),
        3 if box.visibility is None else sum(box.visibility < level for level in OCCLUSION_LEVELS),
        float(wrap_angle(rotation_y - np.arctan2(x, z))),
        (float(lower[0]), float(lower[1]), float(upper[0]), float(upper[1])),
        dimensions,
        (x, y, z),
        rotation_y,
    )


def projection(camera: CameraSensor) -> Float64[np.ndarray, "3 4"]:
    """KITTI's matrix P, which takes points of the camera's frame to pixels; those are counted as OpenCV does."""
    return np.column_stack([opencv_intrinsics(camera), np.zeros(3)])


def corners(
    dimensions_m: tuple[float, float, float], location_m: Float64[np.ndarray, " 3"], rotation_y_rad: float
) -> Float64[np.ndarray, "8 3"]:
    """Corners of a box in the camera's frame, out of what a label file says of it."""
    height_m, width_m, length_m = dimensions_m
    cos, sin = np.cos(rotation_y_rad), np.sin(rotation_y_rad)
    turn = np.array([[cos, 0.0, sin], [0.0, 1.0, 0.0], [-sin, 0.0, cos]])
    return _CORNERS * np.array([length_m, height_m, width_m]) @ turn.T + location_m


def _rectangle(
    points_m: Float64[np.ndarray, "8 3"], camera: CameraSensor
) -> tuple[Float64[np.ndarray, " 2"], Float64[np.ndarray, " 2"]] | None:
    """Least and greatest pixel of what of a box lies before the camera, wherever it is in the image's plane."""
    ahead = points_m[:, 2] >= NEAR_M
    if not ahead.any():
        return None
    visible = [points_m[ahead]]
    for a, b in _EDGES:
        if ahead[a] != ahead[b]:
            along = (NEAR_M - points_m[a, 2]) / (points_m[b, 2] - points_m[a, 2])
            visible.append((points_m[a] + along * (points_m[b] - points_m[a]))[None])
    homogeneous = np.concatenate(visible) @ projection(camera)[:, :3].T
    pixels = homogeneous[:, :2] / homogeneous[:, 2:]
    return pixels.min(axis=0), pixels.max(axis=0)
