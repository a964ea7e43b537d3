"""What a request knows of a chunk as tensors of its networks, laid out on the canvas."""

import numpy as np
import torch
from jaxtyping import Float, Float64, UInt8
from torch import Tensor

from dyncity_models.backends.anchored.pipeline import AnchoredPipeline
from dyncity_models.conditioning import COMMAND_NONE, CanvasConditions, layout_on_canvas
from dyncity_models.data.latents import COMMANDS, MOVER_FRAMES
from dyncity_models.data.views import known_latent_mask, moved_to_canvas
from dyncity_models.diffusion.inpainting import KnownLatents
from dyncity_models.drive.memory import DriveMemory
from dyncity_models.drive.region import known_latents, settled, with_region
from dyncity_models.hexplane import canvas_poses
from dyncity_sim.domain.conditions import Conditions, VehicleLayout
from dyncity_sim.domain.grid import Grid
from dyncity_sim.domain.occupancy import OccupancySequence


class Canvas:
    """Lays out what is known of a chunk in the flattened ego frame of its anchor frame, for the networks of a pipeline.

    Args:
        pipeline: encodes what is known, on its device.
        grid: of the frames.
    """

    def __init__(self, pipeline: AnchoredPipeline, grid: Grid) -> None:
        self._pipeline, self._grid = pipeline, grid
        self._config = pipeline.model.config.autoencoder

    def conditions(
        self,
        conditions: Conditions,
        planar: Float64[np.ndarray, "T 3"],
        heights_m: Float64[np.ndarray, " T"],
        memory: DriveMemory,
        known: UInt8[np.ndarray, "T X Y Z"],
    ) -> CanvasConditions:
        """All that one chunk is generated from.

        Args:
            conditions: of the request; of these the command and the layout.
            planar: x, y, yaw of the ego in the world in each frame, metres and radians.
            heights_m: of the ego in each frame.
            memory: of the drive, centred on the chunk.
            known: the static world in each frame as the network is shown it, ``UNOBSERVED`` elsewhere.
        """
        device, poses = self._pipeline.device, self.poses(planar)
        known_xy, known_mask = self._known(memory, known, poses, planar, heights_m)
        command = COMMAND_NONE if conditions.command is None else COMMANDS.index(conditions.command)
        return CanvasConditions(
            poses.to(device),
            torch.ones(1, dtype=torch.bool, device=device),
            torch.tensor([command], device=device),
            known_xy,
            known_mask,
            self._movers(memory, planar).to(device),
            self._layout(conditions.layout, poses).to(device),
            torch.tensor([conditions.layout is not None], device=device),
        )

    def settled(
        self,
        region: OccupancySequence,
        known: UInt8[np.ndarray, "T X Y Z"],
        planar: Float64[np.ndarray, "T 3"],
        resamples: int,
    ) -> KnownLatents | None:
        """The latents that a region and the static world around it settle; None where they settle none or all.

        Args:
            region: what is known of the chunk.
            known: the static world in each frame, ``UNOBSERVED`` elsewhere.
            planar: x, y, yaw of the ego in the world in each frame, metres and radians.
            resamples: how often each interval of the sampler is walked.
        """
        poses = self.poses(planar)
        tokens = torch.from_numpy(with_region(known, region))[None]
        masks = settled(tokens, torch.from_numpy(region.observed)[None], poses, self._config)
        return known_latents(self._pipeline.encode(tokens, poses), masks.to(self._pipeline.device), resamples)

    def poses(self, planar: Float64[np.ndarray, "T 3"]) -> Float[Tensor, "1 T 3"]:
        """x, y, yaw of the ego in each frame, in the canvas."""
        anchor_frame = self._config.canvas.anchor_frame
        near_origin = planar - planar[anchor_frame] * np.array([1.0, 1.0, 0.0])
        return canvas_poses(torch.from_numpy(near_origin)[None], anchor_frame).float()

    def _known(
        self,
        memory: DriveMemory,
        known: UInt8[np.ndarray, "T X Y Z"],
        poses: Float[Tensor, "1 T 3"],
        planar: Float64[np.ndarray, "T 3"],
        heights_m: Float64[np.ndarray, " T"],
    ) -> tuple[Float[Tensor, "1 C X Y"], Float[Tensor, "1 1 X Y"]]:
        """(Latents of the known static world, 0 elsewhere, where it is known)."""
        config, canvas, anchor = self._config, self._config.canvas, self._config.canvas.anchor_frame
        known_cells = memory.known_on_canvas(
            planar[anchor], float(heights_m[anchor]), canvas.cells, canvas.half_extent_m, self._grid
        )
        mask = known_latent_mask(torch.from_numpy(known_cells)[None]).float().to(self._pipeline.device)
        if not mask.any():
            cells = config.latent_cells
            return torch.zeros(1, config.latent_channels, cells, cells, device=self._pipeline.device), mask
        return self._pipeline.encode(torch.from_numpy(known)[None], poses).xy * mask, mask

    def _movers(self, memory: DriveMemory, planar: Float64[np.ndarray, "T 3"]) -> Float[Tensor, "1 M C C"]:
        """Where movers were in the last frames before the chunk."""
        config, canvas = self._config, self._config.canvas
        if not len(memory.movers):
            return torch.zeros(1, 2 * len(MOVER_FRAMES), canvas.cells, canvas.cells)
        return moved_to_canvas(
            torch.tensor(memory.movers)[None],
            torch.tensor(memory.movers_planar)[None],
            torch.tensor(planar[canvas.anchor_frame])[None],
            config.grid_half_extent_m,
            canvas.half_extent_m,
            canvas.cells,
        ).float()

    def _layout(self, layout: VehicleLayout | None, poses: Float[Tensor, "1 T 3"]) -> Float[Tensor, "1 P C C"]:
        """Where vehicles are to stand, in pairs of frames."""
        canvas = self._config.canvas
        if layout is None:
            return torch.zeros(1, self._config.pairs, canvas.cells, canvas.cells)
        return layout_on_canvas(torch.from_numpy(layout.cells)[None], poses, self._config)
