"""Architecture of the family ``reference``, as frozen dataclasses that travel with the weights."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any, TypeVar

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dyncity_models.config import check_between
from dyncity_sim.dataset.drives import RATES_HZ
from dyncity_sim.errors import ConfigError

Part = TypeVar("Part")

PLANES = ("xy", "xz", "yz", "tx", "ty", "tz")
"""The six planes of a HexPlane, in the order in which the published code keeps them."""

PUBLISHED_CONDITIONS = ("trajectory", "command", "layout", "hexplane")
"""What published transformers can be conditioned on."""

CONDITIONS = (*PUBLISHED_CONDITIONS, "region")
"""Everything a transformer of this family can be conditioned on; ``region``, latents that are known, is ours."""

MOST_CLASSES = 256
"""As many as labels of one byte tell apart."""

MOST_CELLS = 4096
"""Along any axis of a chunk, frames among them."""

MOST_HALVINGS = 8
"""Of an axis in the voxel encoder, and once more in the planes."""

MOST_LAYERS = 128

MOST_CHANNELS = 65536

MOST_OCTAVES = 16


@dataclass(frozen=True)
class ReferenceAutoencoderConfig:
    """Shapes, widths and switches of the autoencoder (paper, sections 3.1 and 3.2).

    Attributes:
        frames: T of a chunk.
        grid: X, Y, Z of the occupancy grid.
        classes: K, the labels a cell can take.
        latent_channels: C of every plane, and the width of the encoder.
        plane_channels: width of the planes in the decoder.
        low_channels: width of the decoder's 3D convolutions at the resolution of the volume.
        high_channels: the same at the resolution of the grid.
        down: halvings of X, Y, Z in the voxel encoder.
        plane_down: halvings of T, X, Y, Z in the planes, on top of ``down``.
        time_encoder: tx, ty and tz come from a voxel encoder of their own.
        one_hot_time: that encoder also sees which frame it looks at.
        time_reducer: T is projected away once, before xy, xz and yz are taken from the volume that is left.
        depth: transformer layers of each projection.
        heads: attention heads of each projection.
        mlp_width: hidden width of each projection's MLP.
        dropout: after attention and in the MLP, in training.
        attention_dropout: of attention weights, in training. The published code has it at ``dropout``, and leaves
            it on in evaluation, which makes its latents random; here it is off unless asked for.
        hadamard: planes are multiplied (expansion and squeeze, equation 5); else they are added.
        frequencies: octaves of the decoder's positional encoding.
    """

    frames: int = 16
    grid: tuple[int, int, int] = (128, 128, 8)
    classes: int = 12
    latent_channels: int = 16
    plane_channels: int = 64
    low_channels: int = 128
    high_channels: int = 32
    down: tuple[int, int, int] = (1, 1, 1)
    plane_down: tuple[int, int, int, int] = (1, 0, 0, 0)
    time_encoder: bool = True
    one_hot_time: bool = True
    time_reducer: bool = True
    depth: int = 2
    heads: int = 2
    mlp_width: int = 32
    dropout: float = 0.1
    attention_dropout: float = 0.0
    hadamard: bool = True
    frequencies: int = 3

    def __post_init__(self) -> None:
        """Raise ConfigError, naming the value, where no network has such sizes."""
        for name in ("latent_channels", "plane_channels", "low_channels", "high_channels", "mlp_width", "heads"):
            check_between(name, getattr(self, name), 1, MOST_CHANNELS)
        check_between("classes", self.classes, 2, MOST_CLASSES)
        check_between("depth", self.depth, 1, MOST_LAYERS)
        check_between("frequencies", self.frequencies, 0, MOST_OCTAVES)
        for name in ("dropout", "attention_dropout"):
            check_between(name, getattr(self, name), 0, 1)
        if self.latent_channels % self.heads:
            raise ConfigError("heads", self.heads, f"a divisor of {self.latent_channels} channels")
        cells, down = (self.frames, *self.grid), (0, *self.down)
        for axis, count, in_volume, in_planes in zip("txyz", cells, down, self.plane_down, strict=True):
            for halvings in (in_volume, in_planes):
                check_between(f"halvings along {axis}", halvings, 0, MOST_HALVINGS)
            check_between(f"cells along {axis}", count, 1, MOST_CELLS)
            if count % 2 ** (in_volume + in_planes):
                raise ConfigError(f"cells along {axis}", count, f"a multiple of {2 ** (in_volume + in_planes)}")

    @property
    def volume(self) -> dict[str, int]:
        """Cells along t, x, y and z of the features that planes are projected from."""
        cells = (self.frames, *(size >> down for size, down in zip(self.grid, self.down, strict=True)))
        return dict(zip("txyz", cells, strict=True))

    @property
    def plane_cells(self) -> dict[str, int]:
        """Cells along t, x, y and z of the planes."""
        return {axis: self.volume[axis] >> down for axis, down in zip("txyz", self.plane_down, strict=True)}

    def plane_shape(self, name: str) -> tuple[int, int]:
        """Rows and columns of the plane ``name``."""
        return self.plane_cells[name[0]], self.plane_cells[name[1]]

    @property
    def rollout_shape(self) -> tuple[int, int]:
        """Rows and columns of the padded rollout (paper, section 3.3)."""
        cells = self.plane_cells
        return cells["x"] + cells["t"] + cells["z"], cells["y"] + cells["z"] + cells["t"]


@dataclass(frozen=True)
class ReferenceTransformerConfig:
    """Shapes and switches of the diffusion transformer (paper, section 3.3).

    Attributes:
        depth: blocks.
        width: D of every token.
        heads: attention heads.
        patch: cells of the rollout along each side of a token.
        conditions: which of ``CONDITIONS`` the weights have an embedding for.
        cross_attention: blocks also attend to the tokens of the layout and the previous HexPlane.
    """

    depth: int = 16
    width: int = 384
    heads: int = 6
    patch: int = 2
    conditions: tuple[str, ...] = PUBLISHED_CONDITIONS
    cross_attention: bool = False

    def __post_init__(self) -> None:
        """Raise ConfigError, naming the value, where no network has such sizes or conditions."""
        check_between("depth", self.depth, 1, MOST_LAYERS)
        check_between("width", self.width, 1, MOST_CHANNELS)
        check_between("patch", self.patch, 1, MOST_CELLS)
        if self.heads < 1 or self.width % self.heads or self.width % 4:
            raise ConfigError("heads", self.heads, f"a divisor of the width {self.width}, a multiple of 4")
        unknown = set(self.conditions) - set(CONDITIONS)
        if unknown:
            raise ConfigError("conditions", ", ".join(sorted(unknown)), f"some of {', '.join(CONDITIONS)}")


@dataclass(frozen=True)
class ReferenceClasses:
    """What the labels mean; carried along, not used by the networks.

    Attributes:
        names: one per class.
        merged_from_raw: class of each raw label of the data set.
        raw_frequency: cells of each raw label in the data set, or its share of them.
    """

    names: tuple[str, ...] = ()
    merged_from_raw: tuple[int, ...] = ()
    raw_frequency: tuple[float, ...] = ()


@dataclass(frozen=True)
class ReferenceSpace:
    """Where the cells lie and when frames come; carried along, not used by the networks.

    Attributes:
        lower_m: corner of cell (0, 0, 0) in the ego frame, metres.
        voxel_size_m: edge lengths of a cell, metres.
        rate_hz: frames per second.
    """

    lower_m: tuple[float, float, float] = (-25.6, -25.6, -2.0)
    voxel_size_m: tuple[float, float, float] = (0.4, 0.4, 0.375)
    rate_hz: float = 10.0

    def __post_init__(self) -> None:
        check_between("rate_hz", self.rate_hz, *RATES_HZ)

    @classmethod
    def carlasc(cls, grid: tuple[int, int, int]) -> "ReferenceSpace":
        """Cells of CarlaSC's size with the ego in their middle, from CarlaSC's floor on."""
        size = cls().voxel_size_m
        return cls(lower_m=(-grid[0] * size[0] / 2, -grid[1] * size[1] / 2, cls().lower_m[2]))


@dataclass(frozen=True)
class ReferenceSampling:
    """Defaults of the sampler that ship with the weights; those of the paper.

    Attributes:
        sampler: name of a sampler of Gaussian diffusion.
        steps: network evaluations per chunk.
        guidance_scale: of all conditions; 1 is no guidance.
        resamples: how often each interval is walked to fit what is generated to a known region.
        latent_limit: what predicted latents are kept within, on both sides of zero; None, as published, not at all.
    """

    sampler: str = "ddpm"
    steps: int = 1000
    guidance_scale: float = 4.0
    resamples: int = 2
    latent_limit: float | None = None

    def __post_init__(self) -> None:
        if self.latent_limit is not None and not 0 < self.latent_limit < inf:
            raise ConfigError("sampling.latent_limit", self.latent_limit, "above 0, or null for none")


@dataclass(frozen=True)
class ReferenceConfig:
    """The whole family: an autoencoder, its transformer, and what goes with them."""

    autoencoder: ReferenceAutoencoderConfig = field(default_factory=ReferenceAutoencoderConfig)
    transformer: ReferenceTransformerConfig = field(default_factory=ReferenceTransformerConfig)
    classes: ReferenceClasses = field(default_factory=ReferenceClasses)
    space: ReferenceSpace = field(default_factory=ReferenceSpace)
    sampling: ReferenceSampling = field(default_factory=ReferenceSampling)


TRANSFORMERS = {
    "DiT-DC/2": ReferenceTransformerConfig(depth=16, width=384, heads=6),
    "DiT-DC/1": ReferenceTransformerConfig(depth=18, width=768, heads=12),
    "small": ReferenceTransformerConfig(depth=4, width=128, heads=4),
}
"""Sizes by name. Those of the paper have the published parameter counts; their heads are 64 channels wide."""

AUTOENCODERS = {
    "official": ReferenceAutoencoderConfig(),
    "small": ReferenceAutoencoderConfig(
        frames=8, grid=(64, 64, 8), plane_channels=32, low_channels=48, high_channels=24, dropout=0.0
    ),
}
"""Autoencoders by name; ``small`` trains on a CPU."""


def with_values(base: Part, values: Mapping[str, Any], field_name: str) -> Part:
    """A configuration with some of its values replaced.

    Raises:
        ConfigError: naming the value under ``field_name`` that is unknown, of the wrong type, or out of range.
    """
    try:
        built: Any = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(base), dict(values)))
    except ConfigError as error:
        field = f"{field_name}.{error.field.removeprefix(f'{field_name}.')}"
        raise ConfigError(field, error.got, error.expected, error.mend) from error
    except OmegaConfBaseException as error:
        got = str(error.msg or error).splitlines()[0]
        raise ConfigError(f"{field_name}.{error.full_key}", got, f"keys among {', '.join(vars(base))}") from error
    return replace(built, **{key: tuple(value) for key, value in vars(built).items() if isinstance(value, list)})
