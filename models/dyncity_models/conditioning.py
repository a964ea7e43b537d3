"""Conditions of a chunk as tensors on its canvas, and how each can be withheld."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from dyncity_models.config import AutoencoderConfig
from dyncity_models.hexplane import cell_centres, invert, sampling_grid
from dyncity_models.layers import Mlp
from dyncity_sim.domain.conditions import CONDITIONS

COMMAND_NONE = 4
"""Index of the withheld command; 0 to 3 are STATIC, FORWARD, LEFT, RIGHT."""

MOVER_CHANNELS = 4
"""Vehicles one and six frames before the chunk, then pedestrians one and six frames before it."""

PUSHED = ("plan", "layout", "command")
"""Conditions that one guidance scale for all is meant for; what is known already is not to be exaggerated."""

PLAN_SCALE = (0.1, 0.1, 1.0)
"""Factors that bring x, y (metres) and yaw (radians) of a plan near unit range."""

PATH_CHANNELS = 3
"""Nearness to the ego path (two radii) and the time at which it passes."""


@dataclass(frozen=True)
class CanvasConditions:
    """Everything a chunk is generated from, on its canvas.

    Attributes:
        canvas_from_ego: planar poses of the ego plan, ``(B, T, 3)`` metres and radians.
        plan_given: False where the network must not see the plan, ``(B,)``.
        command: 0 to 3, or ``COMMAND_NONE``, ``(B,)``.
        known_xy: normalised latents of the known static world, 0 where unknown, ``(B, C, X, Y)``.
        known_mask: 1 where ``known_xy`` says something, ``(B, 1, X, Y)``.
        movers: where movers were before the chunk, ``(B, MOVER_CHANNELS, 2X, 2Y)`` in [0, 1].
        layout: where vehicles stand in each pair of frames, ``(B, P, 2X, 2Y)`` in [0, 1].
        layout_given: False where the network must not see the layout, ``(B,)``. A layout that is given and empty
            says that there is no vehicle.
    """

    canvas_from_ego: Float[Tensor, "B T 3"]
    plan_given: Bool[Tensor, " B"]
    command: Int64[Tensor, " B"]
    known_xy: Float[Tensor, "B C X Y"]
    known_mask: Float[Tensor, "B 1 X Y"]
    movers: Float[Tensor, "B M X2 Y2"]
    layout: Float[Tensor, "B P X2 Y2"]
    layout_given: Bool[Tensor, " B"]

    def __len__(self) -> int:
        return len(self.command)

    def repeated(self, times: int) -> "CanvasConditions":
        """The same conditions for several candidates of each chunk."""
        return CanvasConditions(*(value.repeat_interleave(times, dim=0) for value in vars(self).values()))

    @classmethod
    def stacked(cls, parts: Sequence["CanvasConditions"]) -> "CanvasConditions":
        """Several batches as one."""
        return cls(*(torch.cat(values) for values in zip(*(vars(part).values() for part in parts), strict=True)))

    def begins_drive(self) -> Bool[Tensor, " B"]:
        """Where nothing is known of what was there before the chunk."""
        return ~(self.known_mask.flatten(1).any(dim=1) | self.movers.flatten(1).any(dim=1))

    def given(self) -> tuple[str, ...]:
        """Names of the conditions that some chunk has, in the order in which guidance adds them."""
        there = {
            "continuation": not self.begins_drive().all(),
            "plan": self.plan_given.any(),
            "layout": self.layout_given.any(),
            "command": (self.command != COMMAND_NONE).any(),
        }
        return tuple(name for name in CONDITIONS if there.get(name, False))

    def without(self, *names: str) -> "CanvasConditions":
        """The same with some conditions given for no chunk."""
        blank: dict[str, Tensor] = {}
        if "continuation" in names:
            blank |= {name: torch.zeros_like(getattr(self, name)) for name in ("known_xy", "known_mask", "movers")}
        if "plan" in names:
            blank["plan_given"] = torch.zeros_like(self.plan_given)
        if "layout" in names:
            blank["layout_given"] = torch.zeros_like(self.layout_given)
        if "command" in names:
            blank["command"] = torch.full_like(self.command, COMMAND_NONE)
        return replace(self, **blank)

    def without_known(self, dropped: Bool[Tensor, " B"]) -> "CanvasConditions":
        """Start of a drive where ``dropped``: nothing known, no movers."""
        keep = (~dropped).to(self.known_xy.dtype)[:, None, None, None]
        return replace(
            self, known_xy=self.known_xy * keep, known_mask=self.known_mask * keep, movers=self.movers * keep
        )


def path_maps(canvas_from_ego: Float[Tensor, "B T 3"], cells: int, half_extent_m: float) -> Float[Tensor, "B 3 X Y"]:
    """The ego path drawn on the canvas: Gaussians of its distance (1.5 m, 5 m) and the passing time in [-1, 1]."""
    centres = cell_centres(cells, half_extent_m, canvas_from_ego.device)
    offsets = centres[None, None] - canvas_from_ego[:, :, None, None, :2]
    distance_m, passing = offsets.norm(dim=-1).min(dim=1)
    near, far = (torch.exp(-0.5 * (distance_m / radius_m).square()) for radius_m in (1.5, 5.0))
    time = passing.float() / (canvas_from_ego.shape[1] - 1) * 2 - 1
    return torch.stack([near, far, time * far], dim=1)


def layout_on_canvas(
    layout_BTXY: Bool[Tensor, "B T X Y"], canvas_from_ego: Float[Tensor, "B T 3"], config: AutoencoderConfig
) -> Float[Tensor, "B P C C"]:
    """Layouts of vehicles in ego frames drawn on the canvas: the most of each pair of frames, 0 where none looks."""
    canvas = config.canvas
    ego_from_canvas = invert(canvas_from_ego).flatten(0, 1)
    grid = sampling_grid(ego_from_canvas, canvas.cells, canvas.half_extent_m, config.grid_half_extent_m)
    frames = layout_BTXY.to(grid.dtype).flatten(0, 1)[:, None]
    drawn = F.grid_sample(frames, grid, padding_mode="zeros", align_corners=False)
    return drawn.view(len(layout_BTXY), config.pairs, 2, canvas.cells, canvas.cells).amax(dim=2)


class ConditionEmbedding(nn.Module):
    """Plan and command as one vector; a withheld plan is a learned vector of its own."""

    def __init__(self, frames: int, width: int) -> None:
        super().__init__()
        self.plan = Mlp(frames * 3, width, width)
        self.no_plan = nn.Parameter(torch.zeros(width))
        self.command = nn.Embedding(COMMAND_NONE + 1, width)
        nn.init.normal_(self.command.weight, std=0.02)

    def forward(self, conditions: CanvasConditions) -> Float[Tensor, "B D"]:
        """Embed the conditions that hold for the whole chunk."""
        scale = conditions.canvas_from_ego.new_tensor(PLAN_SCALE)
        plan = self.plan((conditions.canvas_from_ego * scale).flatten(1))
        plan = torch.where(conditions.plan_given[:, None], plan, self.no_plan.to(plan.dtype))
        return plan + self.command(conditions.command)
