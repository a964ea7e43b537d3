"""A chunk that is known in part: what is known of its static world in every frame, and which latents that settles."""

import numpy as np
from einops import reduce
from jaxtyping import Bool, Float64, UInt8
from torch import Tensor
from torch.nn import functional as F

from dyncity_models.reference.config import PLANES, ReferenceAutoencoderConfig
from dyncity_models.reference.planes import HexPlanes
from dyncity_sim.domain.frames import Pose, inverse, transform_points
from dyncity_sim.domain.grid import Grid
from dyncity_sim.domain.occupancy import OccupancySequence

KNOWN_SHARE = 0.95
"""Share of the grid cells that fall on a latent cell which must be known for the latent cell to be."""


def carried(
    region: OccupancySequence,
) -> tuple[UInt8[np.ndarray, "T X Y Z"], Bool[np.ndarray, "T X Y Z"]]:
    """The region's static cells brought to the frames that do not know them, and where anything is known then.

    A cell of a frame takes its label from the frame next to it in time that knows what is there, movers excepted, by
    the poses (nearest cell, heights to whole cells). Where nothing is known, labels are free, as in published data.
    """
    assert region.observed is not None, "conditions check that a region leaves something unknown"
    observed, frames = region.observed, range(len(region))
    known = observed.copy()
    labels = np.where(observed, region.labels, 0).astype(np.uint8)
    still = observed & ~np.isin(region.labels, region.taxonomy.moving_labels)
    sources = [frame for frame in frames if still[frame].any()]
    for frame in frames:
        for source in sorted(sources, key=lambda other: abs(other - frame)):
            if source == frame or known[frame].all():
                continue
            pose = inverse(region.poses_world_from_ego[source]) @ region.poses_world_from_ego[frame]
            index, inside = _cells_there(pose, region.grid)
            taken = ~known[frame] & inside & still[source][index]
            labels[frame][taken] = region.labels[source][index][taken]
            known[frame] |= taken
    return labels, known


def settled(
    observed_TXYZ: Bool[Tensor, "T X Y Z"],
    known_TXYZ: Bool[Tensor, "T X Y Z"],
    config: ReferenceAutoencoderConfig,
) -> HexPlanes:
    """Masks of the latent cells that a region settles, one channel each, 1 or 0.

    A latent cell is settled when ``KNOWN_SHARE`` of the grid cells that fall on it are known, and those that fall on
    its neighbours along x and y, too, because the encoder's convolutions reach that far. (All of them would be too
    much to ask: a handful of cells under movers, or beyond a border, would set a street free.) For xy, xz and yz, which
    hold what does not change, cells that were carried from other frames are known; for tx, ty and tz only what the
    region knows of their own frames, or nothing would be left of what moves.

    Args:
        observed_TXYZ: cells of the region.
        known_TXYZ: those and the static ones that were carried.
        config: shapes.
    """
    sizes = config.plane_cells

    def settles(plane: str) -> Tensor:
        cells = observed_TXYZ if "t" in plane else known_TXYZ
        share = reduce(
            cells.float(),
            f"(t a) (x b) (y c) (z d) -> {' '.join(plane)}",
            "mean",
            t=sizes["t"],
            x=sizes["x"],
            y=sizes["y"],
            z=sizes["z"],
        )
        reach = (3 if plane[0] in "xy" else 1, 3 if plane[1] in "xy" else 1)
        unknown = (share < KNOWN_SHARE).float()[None, None]
        return 1.0 - F.max_pool2d(unknown, reach, stride=1, padding=(reach[0] // 2, reach[1] // 2))

    return HexPlanes(*map(settles, PLANES))


def _cells_there(
    there_from_here: Pose, grid: Grid
) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray], Bool[np.ndarray, "X Y Z"]]:
    """For each cell of a frame the one of another frame at the same place, column by column, and whether it has one."""
    x_m, y_m = np.meshgrid(grid.centres(0), grid.centres(1), indexing="ij")
    points: Float64[np.ndarray, "X Y 3"] = np.stack([x_m, y_m, np.zeros_like(x_m)], axis=-1)
    columns = grid.indices(transform_points(there_from_here, points.reshape(-1, 3)).reshape(points.shape))
    lift = round(float(there_from_here[2, 3]) / grid.voxel_size_m[2])
    layers = np.arange(grid.shape[2]) + lift
    full = np.empty((*grid.shape, 3), dtype=np.int64)
    full[..., :2], full[..., 2] = columns[:, :, None, :2], layers
    inside = grid.contains(full)
    x, y, z = (full[..., axis].clip(0, grid.shape[axis] - 1) for axis in range(3))
    return (x, y, z), inside
