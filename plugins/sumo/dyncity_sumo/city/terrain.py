"""Ground heights: the road's own height carried sideways, a kerb, and gentle ground behind it."""

import numpy as np
from jaxtyping import Bool, Float32, Float64
from PIL import Image
from scipy.ndimage import distance_transform_edt, gaussian_filter

from dyncity_sim.errors import MapError
from dyncity_sumo.city.canvas import ROAD, ROAD_LINE
from dyncity_sumo.columns import StaticColumns
from dyncity_sumo.roads import LaneKind, Streets

COARSE_CELLS = 10
"""Columns along the edge of one cell of the coarse height field: 2 m, on which roads are smooth."""

KERB_M = 0.12
"""Height of pavements and of all other ground over the road beside it."""

RELIEF_M = 0.25
"""Mean rise of the ground far from roads over the height of the nearest road."""

HIGHEST_M = 327.0
"""Columns hold heights in centimetres, in 16 bits."""


def set_heights(columns: StaticColumns, network: Streets, rng: np.random.Generator) -> None:
    """Fill ``columns.ground_cm`` from the lanes' heights and the surfaces painted so far.

    Raises:
        MapError: the ground is higher or lower than columns can hold.
    """
    on_road = (columns.ground_class == ROAD) | (columns.ground_class == ROAD_LINE)
    coarse = _road_field(columns, network) + _relief(on_road, rng)
    fine = _enlarged(coarse, columns.shape)
    np.add(fine, np.float32(KERB_M), out=fine, where=~on_road)
    _check_heights(fine, network)
    fine[columns.ground_class == 0] = 0.0
    fine *= 100.0
    columns.ground_cm[...] = np.rint(fine, out=fine).astype(np.int16)


def _road_field(columns: StaticColumns, network: Streets) -> Float32[np.ndarray, "CX CY"]:
    """Height of the nearest lane on the coarse grid, smoothed where no lane is; flat networks give a constant."""
    shape = _coarse_shape(columns.shape)
    lanes = network.lanes_of(LaneKind.DRIVING, LaneKind.INTERNAL)
    points_m = np.concatenate([_densified(lane.centreline_m) for lane in lanes])
    if np.ptp(points_m[:, 2]) < 0.01:
        return np.full(shape, points_m[0, 2], np.float32)
    size_m = columns.cell_m * COARSE_CELLS
    cells = np.clip(((points_m[:, :2] - columns.origin_m) / size_m).astype(np.int64), 0, np.array(shape) - 1)
    lowest = np.full(shape, np.inf)
    # Under a bridge the lower road counts: columns hold one surface.
    np.minimum.at(lowest, (cells[:, 0], cells[:, 1]), points_m[:, 2])
    known = np.isfinite(lowest)
    nearest = distance_transform_edt(~known, return_distances=False, return_indices=True)
    field = lowest[tuple(nearest)]
    return gaussian_filter(field, sigma=2.0, mode="nearest").astype(np.float32)


def _relief(on_road: Bool[np.ndarray, "NX NY"], rng: np.random.Generator) -> Float32[np.ndarray, "CX CY"]:
    """Smooth bumps that fade in from 6 to 20 m away from the road; they only rise, since grids end just below it."""
    shape = _coarse_shape(on_road.shape)
    half = COARSE_CELLS // 2
    sampled = np.zeros(shape, np.bool_)
    picked = on_road[half::COARSE_CELLS, half::COARSE_CELLS]
    sampled[: picked.shape[0], : picked.shape[1]] = picked
    distance_m = distance_transform_edt(~sampled) * 2.0
    noise = gaussian_filter(rng.standard_normal(shape), sigma=6.0, mode="wrap")
    rise_m = RELIEF_M * np.clip(1.0 + noise / max(float(noise.std()), 1e-9), 0.0, 2.5)
    return (rise_m * np.clip((distance_m - 6.0) / 14.0, 0.0, 1.0)).astype(np.float32)


def _densified(points_m: Float64[np.ndarray, "N 3"]) -> Float64[np.ndarray, "M 3"]:
    """Points along a polyline, at most 1 m apart."""
    along_m = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points_m, axis=0), axis=1))])
    at_m = np.linspace(0.0, along_m[-1], int(along_m[-1]) + 2)
    return np.stack([np.interp(at_m, along_m, points_m[:, axis]) for axis in range(3)], axis=1)


def _coarse_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    return -(-shape[0] // COARSE_CELLS), -(-shape[1] // COARSE_CELLS)


def _enlarged(coarse: Float32[np.ndarray, "CX CY"], shape: tuple[int, int]) -> Float32[np.ndarray, "NX NY"]:
    size = (coarse.shape[1] * COARSE_CELLS, coarse.shape[0] * COARSE_CELLS)
    image = Image.fromarray(coarse).resize(size, Image.Resampling.BILINEAR)
    return np.array(image, dtype=np.float32)[: shape[0], : shape[1]]


def _check_heights(height_m: Float32[np.ndarray, "NX NY"], network: Streets) -> None:
    lowest_m, highest_m = float(height_m.min()), float(height_m.max())
    if max(-lowest_m, highest_m) > HIGHEST_M:
        raise MapError(
            "map",
            f"{network.name}: ground from {lowest_m:.0f} to {highest_m:.0f} m",
            f"heights of at most {HIGHEST_M:g} m above or below 0",
            "Lower it: netconvert -s IN.net.xml --offset.z=-500 -o OUT.net.xml",
        )
