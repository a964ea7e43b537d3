"""How well two frames agree about the static world, once their poses are taken into account."""

import numpy as np
from jaxtyping import Bool, UInt8

from dyncity_sim.domain.frames import Pose, inverse, transform_points
from dyncity_sim.domain.grid import Grid
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.taxonomy import Taxonomy
from dyncity_sim.errors import InvalidInputError


def static_agreement(
    first_labels: UInt8[np.ndarray, "X Y Z"],
    second_labels: UInt8[np.ndarray, "X Y Z"],
    pose_first_from_second: Pose,
    grid: Grid,
    taxonomy: Taxonomy,
    mask: Bool[np.ndarray, "X Y Z"] | None = None,
    first_mask: Bool[np.ndarray, "X Y Z"] | None = None,
) -> float:
    """Share of the second frame's static occupied cells that have the same class in the first frame.

    Each cell's centre is carried into the first frame and compared with the cell that holds it; cells
    that leave the grid do not count.

    Args:
        first_labels: labels that are looked up.
        second_labels: labels whose static occupied cells are asked about.
        pose_first_from_second: ego frame of the second in that of the first.
        grid: grid of both.
        taxonomy: classes of both; those that move are left out.
        mask: cells of the second frame that count, or None for all (``observed`` of a recording).
        first_mask: cells of the first frame that may be looked up, or None for all.

    Returns:
        A number in [0, 1], or NaN when no cell can be compared.
    """
    for name, array in (("first_labels", first_labels), ("second_labels", second_labels)):
        if array.shape != grid.shape:
            raise InvalidInputError(name, f"shape {array.shape}", f"{grid.shape}, the grid's")
    static = np.ones(256, dtype=np.bool_)
    static[[0, *taxonomy.moving_labels]] = False
    asked = static[second_labels]
    if mask is not None:
        asked &= mask
    source = np.nonzero(asked)
    centres = np.stack([grid.centres(axis)[source[axis]] for axis in range(3)], axis=-1)
    target = grid.indices(transform_points(pose_first_from_second, centres))
    inside = grid.contains(target)
    found = tuple(target[inside].T)
    same = first_labels[found] == second_labels[source][inside]
    if first_mask is not None:
        same = same[first_mask[found]]
    return float(same.mean()) if same.size else float("nan")


def agreement_between_frames(occupancy: OccupancySequence, first: int, second: int) -> float:
    """``static_agreement`` of two frames of one sequence, over what both observed."""
    poses = occupancy.poses_world_from_ego
    observed = occupancy.observed
    return static_agreement(
        occupancy.labels[first],
        occupancy.labels[second],
        inverse(poses[first]) @ poses[second],
        occupancy.grid,
        occupancy.taxonomy,
        None if observed is None else observed[second],
        None if observed is None else observed[first],
    )
