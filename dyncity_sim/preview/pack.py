"""What the page holds of a drive, small: zlib streams of labels and of differences between points."""

import base64
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from dyncity_sim.domain.frames import Poses
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.scene import Track
from dyncity_sim.errors import InvalidInputError

POINT_UNIT_M = 0.01
"""Points are stored to the centimetre, which a cell of 0.4 m hides."""


@dataclass(frozen=True, eq=False)
class PointCloud:
    """LiDAR points of one frame.

    Attributes:
        points_ego_m: ``(N, 3)`` in the ego frame.
        labels: class of each, ``(N,)``.
    """

    points_ego_m: Float32[np.ndarray, "N 3"]
    labels: UInt8[np.ndarray, " N"]


def packed(array: np.ndarray) -> str:
    """Base64 of the zlib stream of an array's bytes."""
    return base64.b64encode(zlib.compress(array.tobytes(), 9)).decode("ascii")


def packed_sequence(name: str, occupancy: OccupancySequence) -> dict[str, str | None]:
    """Labels in T X Y Z order, and as bits in the same order which of them a sensor saw."""
    observed = None if occupancy.observed is None else packed(np.packbits(occupancy.observed))
    return {"name": name, "labels": packed(occupancy.labels), "observed": observed}


def packed_points(clouds: Sequence[PointCloud]) -> dict[str, Any]:
    """Points frame by frame: low and then high bytes of the differences along x, along y and along z; then labels.

    Differences are between successive points, the first one's to 0, in units of POINT_UNIT_M modulo 2^16: along a
    beam they are small, and zlib makes about half a byte of a point.

    Raises:
        InvalidInputError: a point farther than 327 m along an axis, which 16 bits do not hold.
    """
    return {
        "unit_m": POINT_UNIT_M,
        "counts": [len(cloud.labels) for cloud in clouds],
        "packed": packed(np.concatenate([_point_bytes(cloud) for cloud in clouds])),
    }


def pose_rows(poses: Poses) -> list[list[float]]:
    """Row-major 16 numbers of each pose, to the micrometre."""
    return [[round(float(v), 6) for v in pose.ravel()] for pose in poses]


def packed_tracks(tracks: Sequence[Track], times_us: np.ndarray) -> list[dict[str, Any]]:
    """Tracks with the frames at whose times they have poses; those without any are left out."""
    frame_at = {int(t): frame for frame, t in enumerate(times_us)}
    shown = []
    for track in tracks:
        kept = [i for i, t in enumerate(track.times_us) if int(t) in frame_at]
        if not kept:
            continue
        shown.append(
            {
                "id": track.id,
                "kind": track.kind.value,
                "size_m": track.size_m,
                "frames": [frame_at[int(track.times_us[i])] for i in kept],
                "poses_world_from_actor": pose_rows(track.poses_world_from_actor[kept]),
            }
        )
    return shown


def _point_bytes(cloud: PointCloud) -> UInt8[np.ndarray, " N"]:
    units = np.rint(cloud.points_ego_m.astype(np.float64).T / POINT_UNIT_M)
    if units.size and np.abs(units).max() > np.iinfo(np.int16).max:
        raise InvalidInputError("points", f"{np.abs(cloud.points_ego_m).max():.0f} m away", "at most 327 m")
    steps = np.diff(units.astype(np.int64), axis=1, prepend=0).astype(np.uint16)
    # Bytes of a kind stand together: high ones are nearly all alike.
    halves = np.stack([steps & 0xFF, steps >> 8], axis=1).astype(np.uint8)
    return np.concatenate([halves.ravel(), cloud.labels])
