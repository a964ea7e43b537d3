"""Conditions of the transformer and their embeddings."""

from dataclasses import dataclass, replace

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from dyncity_models.reference.config import CONDITIONS, ReferenceAutoencoderConfig, ReferenceTransformerConfig

COMMANDS = 4
"""STATIC, FORWARD, LEFT, RIGHT."""


@dataclass(frozen=True)
class ReferenceConditions:
    """What chunks are generated from; None where a condition is given for none of them.

    Attributes:
        trajectory: metres and radians in the convention the weights were trained with, ``(B, T, 3)``.
        command: 0 to 3, ``(B,)``.
        layout: 1 where vehicles are, at any resolution, ``(B, T, X, Y)``.
        hexplane: rollout of the chunk before, ``(B, C, H, W)``; its padding is not read.
        region: rollout of the chunk itself where it is known, 0 elsewhere, and as the last channel where that is; see
            ``known_part``; ``(B, C + 1, H, W)``.
        dropped: for a condition's name, the samples that must not see it, ``(B,)``.
    """

    trajectory: Float[Tensor, "B T 3"] | None = None
    command: Int64[Tensor, " B"] | None = None
    layout: Float[Tensor, "B T X Y"] | None = None
    hexplane: Float[Tensor, "B C H W"] | None = None
    region: Float[Tensor, "B C1 H W"] | None = None
    dropped: dict[str, Bool[Tensor, " B"]] | None = None

    def without(self, *names: str) -> "ReferenceConditions":
        """The same with some conditions given for no sample."""
        return replace(self, **dict.fromkeys(names, None))

    def given(self) -> tuple[str, ...]:
        """Names of the conditions that are given."""
        return tuple(name for name in CONDITIONS if getattr(self, name) is not None)

    def randomly_dropped(
        self, batch: int, probability: float = 0.1, generator: torch.Generator | None = None
    ) -> "ReferenceConditions":
        """Each condition hidden from each sample independently, for training with guidance.

        Draws are made on the generator's device, where the conditions must be.
        """
        device = None if generator is None else generator.device
        draws = {name: torch.rand(batch, generator=generator, device=device) < probability for name in CONDITIONS}
        return replace(self, dropped=draws)


@dataclass(frozen=True)
class EmbeddedConditions:
    """Embeddings ready to be added to that of the diffusion step.

    Attributes:
        everywhere: what holds for the whole chunk, ``(B, D)`` or ``(1, D)``.
        per_token: what holds for single tokens, ``(B, L, D)``; None without plane conditions, and then modulation
            is computed once per sample instead of once per token.
    """

    everywhere: Float[Tensor, "B D"]
    per_token: Float[Tensor, "B L D"] | None


class ConditionEmbedding(nn.Module):
    """Embeds the conditions that the weights know; asking for another one is a mistake of the caller."""

    def __init__(self, config: ReferenceTransformerConfig, planes: ReferenceAutoencoderConfig) -> None:
        super().__init__()
        self.config, self.planes = config, planes
        width, patch = config.width, config.patch
        self.trajectory = self.command = self.layout = self.hexplane = self.region = None
        if "trajectory" in config.conditions:
            self.trajectory = nn.Sequential(
                nn.Linear(3 * planes.frames, width),
                nn.ReLU(),
                nn.Linear(width, width),
                nn.ReLU(),
                nn.Linear(width, width),
            )
        if "command" in config.conditions:
            self.command = nn.Embedding(COMMANDS, width)
        if "layout" in config.conditions:
            # One channel, the same for all of a token's; the position embedding tells them apart.
            self.layout = nn.Conv2d(planes.frames, 1, patch, stride=patch)
        if "hexplane" in config.conditions:
            self.hexplane = nn.Conv2d(planes.latent_channels, width, patch, stride=patch)
        if "region" in config.conditions:
            self.region = nn.Conv2d(planes.latent_channels + 1, width, patch, stride=patch)

    def forward(
        self,
        conditions: ReferenceConditions,
        positions_1LD: Float[Tensor, "1 L D"],
        tokens: Int64[Tensor, " M"],
    ) -> EmbeddedConditions:
        """Embed.

        A withheld trajectory or command is 0 after its embedder. A withheld layout, HexPlane or region is the position
        embedding alone, which is added to a given one, too.
        """
        everywhere = positions_1LD.new_zeros(1, self.config.width)
        if self.trajectory is not None and conditions.trajectory is not None:
            vector = self.trajectory(conditions.trajectory.flatten(1))
            everywhere = everywhere + vector * _kept(conditions, "trajectory", vector)
        if self.command is not None and conditions.command is not None:
            vector = self.command(conditions.command)
            everywhere = everywhere + vector * _kept(conditions, "command", vector)
        planes = []
        if self.hexplane is not None:
            planes.append(self._tokens(self.hexplane, conditions.hexplane, conditions, "hexplane"))
        if self.layout is not None:
            layout = None if conditions.layout is None else self.laid_out(conditions.layout)
            planes.append(self._tokens(self.layout, layout, conditions, "layout"))
        if self.region is not None:
            planes.append(self._tokens(self.region, conditions.region, conditions, "region"))
        if not planes:
            return EmbeddedConditions(everywhere, None)
        per_token = sum((plane + positions_1LD for plane in planes), positions_1LD.new_zeros(()))
        return EmbeddedConditions(everywhere, per_token[:, tokens])

    def _tokens(
        self, embed: nn.Conv2d, image: Tensor | None, conditions: ReferenceConditions, name: str
    ) -> Float[Tensor, "B L D"] | Float[Tensor, ""]:
        if image is None:
            return embed.weight.new_zeros(())
        tokens = rearrange(embed(image), "b d h w -> b (h w) d")
        return tokens * _kept(conditions, name, tokens)

    def laid_out(self, layout_BTXY: Float[Tensor, "B T X Y"]) -> Float[Tensor, "B T H W"]:
        """A layout at the resolution of the plane xy, in its place in an otherwise empty rollout."""
        rows, columns = self.planes.rollout_shape
        cells_x, cells_y = self.planes.plane_shape("xy")
        resized = F.interpolate(layout_BTXY, size=(cells_x, cells_y), mode="nearest")
        return F.pad(resized, (0, columns - cells_y, 0, rows - cells_x))


def known_part(rollout: Float[Tensor, "B C H W"], mask: Bool[Tensor, "B 1 H W"]) -> Float[Tensor, "B C1 H W"]:
    """The condition ``region`` of a rollout that is known where ``mask`` is set."""
    return torch.cat([rollout.where(mask, 0.0), mask.to(rollout)], dim=1)


def _kept(conditions: ReferenceConditions, name: str, embedded: Tensor) -> Tensor:
    dropped = (conditions.dropped or {}).get(name)
    if dropped is None:
        return embedded.new_ones(())
    return (~dropped).to(embedded).view(-1, *[1] * (embedded.dim() - 1))
