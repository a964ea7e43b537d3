"""A chunk that is known in part: what that teaches a drive, and which latent cells it settles."""

from dataclasses import replace

import numpy as np
import torch
from einops import reduce
from jaxtyping import Bool, Float, Float64, Int64, UInt8
from torch import Tensor
from torch.nn import functional as F

from dyncity_models.config import AutoencoderConfig
from dyncity_models.data.clips import UNOBSERVED
from dyncity_models.data.latents import MOVER_FRAMES
from dyncity_models.data.views import mover_columns
from dyncity_models.diffusion.inpainting import KnownLatents
from dyncity_models.drive.forecast import Forecast
from dyncity_models.drive.memory import DriveMemory
from dyncity_models.drive.one_frame import forecast
from dyncity_models.drive.onward import onward
from dyncity_models.hexplane import Planes, invert, sampling_grid
from dyncity_sim.domain.conditions import Conditions, VehicleLayout
from dyncity_sim.domain.grid import EGO_LOWER_M, FRAME_RATE_HZ, Grid
from dyncity_sim.domain.occupancy import OccupancySequence

KNOWN_SHARE = 0.95
"""Share of the grid cells that fall on a latent cell which must be known for the latent cell to be."""


def taught(
    memory: DriveMemory,
    region: OccupancySequence,
    planar: Float64[np.ndarray, "T 3"],
    heights_m: Float64[np.ndarray, " T"],
    coming: Forecast | None = None,
) -> DriveMemory:
    """The memory with the static cells that a region knows, over what it held of them before.

    All frames with known cells vote. Where nothing is known of movers before the chunk, those of the first known
    frame stand in for them, as if at rest.

    Args:
        memory: of the drive.
        region: what is known of the chunk.
        planar: x, y, yaw of the ego in each frame.
        heights_m: of the ego in each frame.
        coming: how the vehicles of a region of one frame drive: what they leave is free, and they were on their way
            before the chunk.
    """
    known = _known(region)
    frames = np.flatnonzero(known.any(axis=(1, 2, 3)))
    tokens = np.where(known, region.labels, UNOBSERVED)[frames].astype(np.uint8)
    if coming is not None:
        tokens[0, coming.leaving & (region.grid.centres(2) > EGO_LOWER_M[2])] = 0
    blank = replace(memory, labels=np.full_like(memory.labels, UNOBSERVED))
    shown = blank.learn(tokens, planar[frames], heights_m[frames], region.grid, voting_frames=len(frames)).labels
    learned = replace(memory, labels=np.where(shown == UNOBSERVED, memory.labels, shown))
    if len(memory.movers):
        return learned
    first = torch.from_numpy(region.labels[frames[:1]]).where(torch.from_numpy(known[frames[:1]]), UNOBSERVED)
    movers = mover_columns(first.repeat(len(MOVER_FRAMES), 1, 1, 1)[None])[0].numpy()
    if coming is not None:
        since_known = seconds_since(region.times_us, int(frames[0]))[0]
        vehicles = coming.seen_from(
            planar[frames].repeat(len(MOVER_FRAMES), axis=0), np.array(MOVER_FRAMES) / FRAME_RATE_HZ + since_known
        )
        movers[: len(MOVER_FRAMES)] = vehicles.any(axis=-1)
    return replace(learned, movers=movers, movers_planar=np.tile(planar[frames[0]], (len(movers), 1)))


def with_region(labels: UInt8[np.ndarray, "T X Y Z"], region: OccupancySequence | None) -> UInt8[np.ndarray, "T X Y Z"]:
    """Labels with the known cells of a region, if there is one, as they are known."""
    return labels if region is None else np.where(_known(region), region.labels, labels).astype(np.uint8)


def whole_frame(region: OccupancySequence) -> int | None:
    """The one frame that a region consists of, or None: other regions say of vehicles where they go."""
    known = _known(region)
    frames = np.flatnonzero(known.any(axis=(1, 2, 3)))
    return int(frames[0]) if len(frames) == 1 and known[frames[0]].mean() >= KNOWN_SHARE else None


def seconds_since(times_us: Int64[np.ndarray, " T"], frame: int) -> Float64[np.ndarray, " T"]:
    """Times of the frames of a chunk since one of them; -1 is the last one before the chunk."""
    known_us = times_us[frame] if frame >= 0 else times_us[0] + frame * 1_000_000 / FRAME_RATE_HZ
    return np.asarray((times_us - known_us) * 1e-6)


def layout_of(vehicles: Bool[np.ndarray, "T X Y Z"], region: OccupancySequence) -> VehicleLayout:
    """The layout of cells with vehicles along a region's frames."""
    labels = np.where(vehicles, region.taxonomy.index("vehicle"), 0).astype(np.uint8)
    return VehicleLayout.of(replace(region, labels=labels, observed=None))


def road_users_to_come(
    conditions: Conditions,
    memory: DriveMemory,
    planar: Float64[np.ndarray, "T 3"],
    heights_m: Float64[np.ndarray, " T"],
    grid: Grid,
    seed: int,
) -> Forecast | None:
    """Where vehicles and pedestrians go, where only the drive so far, or one whole frame, says it; else None.

    A drive so far in which nobody was says that, too.

    Args:
        conditions: of the request.
        memory: of its continuation.
        planar: x, y, yaw of the ego in each frame.
        heights_m: of the ego in each frame.
        grid: of the frames.
        seed: draws what one frame does not say.
    """
    region = conditions.known_region
    if conditions.layout is not None or (region is not None and conditions.continuation is not None):
        return None
    if region is None:
        return onward(memory, planar, heights_m, grid) if len(memory.movers_planar) else None
    frame = whole_frame(region)
    return None if frame is None else forecast(region, frame, planar, np.random.default_rng(seed))


def known_latents(values: Planes, masks: Planes, resamples: int) -> KnownLatents | None:
    """What sampling is told of the planes of one chunk; None where no cell is settled, or none is left open.

    Args:
        values: normalised planes of what is known.
        masks: of settled cells, as ``settled`` gives them.
        resamples: how often each interval of the sampler is walked.
    """
    mask = Planes(*(m.expand_as(v) for m, v in zip(masks, values, strict=True))).flat() > 0
    return None if mask.all() or not mask.any() else KnownLatents(values.flat(), mask, resamples)


def settled(
    tokens_BTXYZ: UInt8[Tensor, "B T X Y Z"],
    known_BTXYZ: Bool[Tensor, "B T X Y Z"],
    canvas_from_ego: Float[Tensor, "B T 3"],
    config: AutoencoderConfig,
) -> Planes:
    """Masks (1 or 0, one channel) of the latent cells that a region settles.

    A cell of xy is settled when ``KNOWN_SHARE`` of the grid cells that fall on it, over all frames, are known, be it
    from the region or from the drive. A cell of tx or ty stands for two frames and a whole line across the canvas: it
    is settled when that share of the grid cells on the line is known in both frames from the region itself, since the
    drive knows nothing of movers. Where no grid reaches, nothing is.

    Args:
        tokens_BTXYZ: the chunk as it is encoded, ``UNOBSERVED`` where nothing is known.
        known_BTXYZ: cells of the region.
        canvas_from_ego: planar poses of the frames.
        config: shapes.
    """
    static, inside = _on_canvas((tokens_BTXYZ != UNOBSERVED).float().mean(dim=-1), canvas_from_ego, config)
    frames, _ = _on_canvas(known_BTXYZ.float().mean(dim=-1), canvas_from_ego, config)
    cells = config.latent_cells

    def settles(known: Tensor, axes: str) -> Tensor:
        sizes = {"p": config.pairs, "x": cells, "y": cells}
        found, reached = (reduce(m, f"b (p two) (x a) (y c) -> b {axes}", "sum", **sizes) for m in (known, inside))
        return ((found >= KNOWN_SHARE * reached) & (reached > 0)).float()[:, None]

    return Planes(settles(static, "x y"), settles(frames, "p x"), settles(frames, "p y"))


def _on_canvas(
    known_BTXY: Float[Tensor, "B T X Y"], canvas_from_ego: Float[Tensor, "B T 3"], config: AutoencoderConfig
) -> tuple[Float[Tensor, "B T C C"], Float[Tensor, "B T C C"]]:
    """Columns drawn on a canvas of half its cells' size; where on it there are any."""
    cells, canvas = 2 * config.canvas.cells, config.canvas
    grid = sampling_grid(invert(canvas_from_ego).flatten(0, 1), cells, canvas.half_extent_m, config.grid_half_extent_m)
    inside = (grid.abs().amax(dim=-1) <= 1.0).float()
    drawn = F.grid_sample(known_BTXY.flatten(0, 1)[:, None], grid, mode="nearest", align_corners=False)[:, 0]
    count = len(known_BTXY)
    return (drawn * inside).unflatten(0, (count, -1)), inside.unflatten(0, (count, -1))


def _known(region: OccupancySequence) -> Bool[np.ndarray, "T X Y Z"]:
    assert region.observed is not None, "conditions check that a region leaves something unknown"
    return region.observed
