"""How far boxes of tracks lie in each other; no two things are in one place."""

import numpy as np
from jaxtyping import Float64

from dyncity_sim.domain.frames import planar_from_poses
from dyncity_sim.domain.scene import Track

SAMPLES = 16
"""Points along each side of a box that shares of its area are counted by."""


def overlap_shares(first: Track, second: Track) -> Float64[np.ndarray, " N"]:
    """Share of the smaller box, seen from above, that lies in the other, at each time that both are seen at.

    Counted over SAMPLES x SAMPLES points, so exact to about 1 / SAMPLES.
    """
    _, rows, other_rows = np.intersect1d(first.times_us, second.times_us, return_indices=True)
    small, large = (first, rows), (second, other_rows)
    if np.prod(first.size_m[:2]) > np.prod(second.size_m[:2]):
        small, large = large, small
    poses, others = (track.poses_world_from_actor[chosen] for track, chosen in (small, large))
    reach_m = (np.hypot(*small[0].size_m[:2]) + np.hypot(*large[0].size_m[:2])) / 2
    shares = np.zeros(len(rows))
    near = np.linalg.norm(poses[:, :2, 3] - others[:, :2, 3], axis=1) < reach_m
    if near.any():
        shares[near] = _shares(planar_from_poses(poses[near]), small[0], planar_from_poses(others[near]), large[0])
    return shares


def _shares(
    planar: Float64[np.ndarray, "N 3"], small: Track, others: Float64[np.ndarray, "N 3"], large: Track
) -> Float64[np.ndarray, " N"]:
    side = (np.arange(SAMPLES) + 0.5) / SAMPLES - 0.5
    points = np.stack(np.meshgrid(*(side * edge_m for edge_m in small.size_m[:2])), axis=-1).reshape(-1, 2)
    # Between the two boxes, for world coordinates may be far larger than they are.
    offset = planar[:, :2] - others[:, :2]
    turned = _rotations(planar[:, 2] - others[:, 2])
    inside = points @ np.swapaxes(turned, 1, 2) + (offset[:, None] @ _rotations(others[:, 2]))
    held: Float64[np.ndarray, " N"] = (np.abs(inside) <= np.array(large.size_m[:2]) / 2).all(axis=-1).mean(axis=-1)
    return held


def _rotations(angles_rad: Float64[np.ndarray, " N"]) -> Float64[np.ndarray, "N 2 2"]:
    cos, sin = np.cos(angles_rad), np.sin(angles_rad)
    return np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)
