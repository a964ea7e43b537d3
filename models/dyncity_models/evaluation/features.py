"""Frozen encoders of single frames, whose features say how far apart two sets of frames are."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Float64, UInt8
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from dyncity_sim.domain.grid import CARLASC_GRID
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.errors import CheckpointError
from dyncity_sim.preview.bev import render_bev

Kind = Literal["voxels", "bev"]

KINDS: tuple[Kind, ...] = ("voxels", "bev")
"""What an encoder looks at: labels of all cells, or the picture that ``render_bev`` draws of them."""

BUNDLED_FEATURES = Path(__file__).parents[1] / "weights" / "features"
"""The encoders that ship with the package, ``KIND.safetensors``."""

WIDTHS = (32, 48, 64, 64, 64)
"""Channels of the stages, each half as fine as the one before: 64 x 64 cells to 4 x 4."""

TEXTURE_STAGE = 1
SCENE_FEATURES = 64

FRAMES_AT_ONCE = 16
"""Frames that an encoder looks at together."""


class FeatureEncoder(nn.Module):
    """The encoder of a bottlenecked autoencoder, and the statistics that its features are standardised by.

    A frame's features are what the bottleneck keeps of the scene as a whole, and the means over all places of an early
    stage's channels, which see a few metres around: how streets lie, and what their edges look like.

    Args:
        kind: what it looks at.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, kind: Kind) -> None:
        super().__init__()
        self.kind = kind
        layers, embedded = CARLASC_GRID.shape[2], 8
        self.embedding = nn.Embedding(len(CARLASC), embedded) if kind == "voxels" else None
        widths = (embedded * layers if kind == "voxels" else 3, *WIDTHS)
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(before, after, 3, stride=2, padding=1), nn.GroupNorm(8, after), nn.SiLU())
            for before, after in zip(widths, WIDTHS, strict=False)
        )
        cells = (CARLASC_GRID.shape[0] >> len(WIDTHS)) * (CARLASC_GRID.shape[1] >> len(WIDTHS))
        self.squeeze = nn.Linear(WIDTHS[-1] * cells, SCENE_FEATURES)
        count = SCENE_FEATURES + WIDTHS[TEXTURE_STAGE]
        self.register_buffer("mean", torch.zeros(count))
        self.register_buffer("deviation", torch.ones(count))

    def forward(
        self, frames: UInt8[Tensor, "B X Y Z"] | UInt8[Tensor, "B X Y 3"]
    ) -> tuple[Float[Tensor, "B S"], Float[Tensor, "B W"]]:
        """(What the bottleneck keeps, means of the early stage), of labels or of pictures."""
        if self.embedding is not None:
            hidden = rearrange(self.embedding(frames.int()), "b x y z c -> b (z c) x y")
        else:
            hidden = rearrange(frames.float() / 255, "b x y c -> b c x y")
        texture = hidden.new_zeros(())
        for number, stage in enumerate(self.stages):
            hidden = stage(hidden)
            if number == TEXTURE_STAGE:
                texture = hidden.mean(dim=(2, 3))
        return self.squeeze(hidden.flatten(1)), texture

    def features(self, frames: UInt8[Tensor, "B X Y *C"]) -> Float[Tensor, "B F"]:
        """Standardised: of mean 0 and deviation 1 over the frames that the encoder was trained on."""
        return (torch.cat(self(frames), dim=1) - self.mean) / self.deviation


def seen_by(kind: Kind, labels: UInt8[np.ndarray, "X Y Z"]) -> UInt8[np.ndarray, "X Y C"]:
    """What an encoder looks at of one frame of CARLASC labels on the CarlaSC grid."""
    if kind == "voxels":
        return labels
    return np.ascontiguousarray(render_bev(labels, CARLASC_GRID, CARLASC, scale=1, draw_ego=False))


def load_encoder(kind: Kind, folder: Path = BUNDLED_FEATURES) -> FeatureEncoder:
    """An encoder with its weights.

    Raises:
        CheckpointError: the file is missing, damaged, or of another encoder.
    """
    file = folder / f"{kind}.safetensors"
    encoder = FeatureEncoder(kind)
    try:
        tensors = load_file(file)
        encoder.load_state_dict({name: value.float() for name, value in tensors.items()})
    except (OSError, SafetensorError, RuntimeError) as error:
        first = str(error).splitlines()[0]
        raise CheckpointError("features", f"{file}: {first}", "what dyncity train features wrote") from error
    return encoder.eval()


@torch.inference_mode()
def features_of(encoder: FeatureEncoder, frames: Sequence[UInt8[np.ndarray, "X Y Z"]]) -> Float64[np.ndarray, "N F"]:
    """Features of frames of labels, a row each."""
    rows = [np.empty((0, len(encoder.mean)))]
    for first in range(0, len(frames), FRAMES_AT_ONCE):
        seen = np.stack([seen_by(encoder.kind, labels) for labels in frames[first : first + FRAMES_AT_ONCE]])
        rows.append(encoder.features(torch.from_numpy(seen).to(encoder.mean.device)).double().cpu().numpy())
    return np.concatenate(rows)
