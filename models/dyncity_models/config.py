"""Architecture of the model family ``anchored``, as frozen dataclasses that travel with the weights."""

from dataclasses import dataclass, field
from math import inf, isfinite, lcm

from dyncity_sim.domain.conditions import CONDITIONS, MOST_GUIDANCE
from dyncity_sim.errors import ConfigError

FORESEEN, REMEMBERED = "foreseen", "remembered"
"""What a known world tells of movers: holes where those of the chunk itself are, or where they stood before it."""

GROUPS = 8
"""Of channels, that are normalised together."""

MOST_SIZE = 65536
"""Of any width, and of any number of cells, frames or classes."""

MOST_LAYERS = 128

TRAINED_CONDITIONS = tuple(name for name in CONDITIONS if name != "known_region")
"""Everything that weights can be trained with."""


def check_between(name: str, value: float, least: float, most: float = inf) -> None:
    """Raise ConfigError, naming the value, unless it is finite and lies between two numbers, both included."""
    if not (least <= value <= most and isfinite(value)):
        raise ConfigError(name, value, f"a number of at least {least}" if most == inf else f"from {least} to {most}")


def _check_multiple(name: str, value: int, of: int, most: int = MOST_SIZE) -> None:
    if value < 1 or value % of:
        raise ConfigError(name, value, f"a multiple of {of}" if of > 1 else "at least 1")
    check_between(name, value, of, most)


def _check_above_zero(name: str, value: float) -> None:
    if not (value > 0 and isfinite(value)):
        raise ConfigError(name, value, "a number above 0")


@dataclass(frozen=True)
class CanvasConfig:
    """The common frame that planes are stored in: the ego frame of ``anchor_frame``, flattened.

    Attributes:
        anchor_frame: frame of the chunk whose ego frame the canvas is.
        half_extent_m: the canvas covers ``[-half_extent_m, half_extent_m]`` in x and y.
        cells: feature cells along x and along y.
        common: False leaves every frame in its own ego view, where what stands still slides by. It shows what the
            common frame is worth; an autoencoder without it cannot be generated with.
    """

    anchor_frame: int = 8
    half_extent_m: float = 32.0
    cells: int = 64
    common: bool = True


@dataclass(frozen=True)
class AutoencoderConfig:
    """Shapes and widths of the autoencoder.

    Attributes:
        frames: T of a chunk.
        grid_cells: X (= Y) of the occupancy grid.
        height_cells: Z of the occupancy grid.
        grid_half_extent_m: the grid covers ``[-grid_half_extent_m, grid_half_extent_m]`` in x and y.
        classes: K, the labels a cell can take; the encoder knows one more, "never observed".
        embedding_channels: width of the fixed class embedding.
        latent_channels: C of every plane.
        encoder_channels: width of the per-pair features.
        static_channels: width of the latent-resolution trunk of the decoder.
        feature_channels: width of the canvas features.
        output_channels: width at full grid resolution.
        canvas: the common frame.
        height_planes: whether there are planes over height (xz, yz, tz) beside xy, tx and ty. It shows what they are
            worth; an autoencoder with them cannot be generated with.
    """

    frames: int = 16
    grid_cells: int = 128
    height_cells: int = 8
    grid_half_extent_m: float = 25.6
    classes: int = 11
    embedding_channels: int = 6
    latent_channels: int = 8
    encoder_channels: int = 48
    static_channels: int = 96
    feature_channels: int = 64
    output_channels: int = 32
    canvas: CanvasConfig = field(default_factory=CanvasConfig)
    height_planes: bool = False

    def __post_init__(self) -> None:
        for name in ("encoder_channels", "static_channels", "feature_channels", "output_channels"):
            _check_multiple(f"model.{name}", getattr(self, name), GROUPS)
        _check_multiple("model.frames", self.frames, 2)
        if not 0 <= self.canvas.anchor_frame < self.frames:
            raise ConfigError("model.canvas.anchor_frame", self.canvas.anchor_frame, f"0 to {self.frames - 1}, a frame")
        _check_multiple("model.canvas.cells", self.canvas.cells, 2)
        for name in ("latent_channels", "embedding_channels", "height_cells", "classes"):
            _check_multiple(f"model.{name}", getattr(self, name), 1)
        _check_multiple("model.grid_cells", self.grid_cells, 2)
        _check_above_zero("model.grid_half_extent_m", self.grid_half_extent_m)
        _check_above_zero("model.canvas.half_extent_m", self.canvas.half_extent_m)
        if self.height_planes and self.feature_channels % self.height_cells:
            raise ConfigError(
                "model.feature_channels",
                self.feature_channels,
                f"a multiple of {self.height_cells}, as many for each height, with model.height_planes",
            )

    @property
    def pairs(self) -> int:
        """Frame pairs of a chunk, the time cells of the planes tx and ty."""
        return self.frames // 2

    @property
    def latent_cells(self) -> int:
        """Cells of the planes along x and along y."""
        return self.canvas.cells // 2


@dataclass(frozen=True)
class DiffusionTransformerConfig:
    """Shapes and widths of the diffusion transformer.

    Attributes:
        width: D of every token.
        depth: transformer blocks, even; block i feeds block ``depth - 1 - i`` (U-ViT).
        heads: attention heads.
        patch: latent cells along x and along y in one token of the plane xy.
        time_patch: cells along time and along space in one token of the planes tx and ty.
        stem_channels: width of the convolutional stem and head on the plane xy.
        conditions: what the weights are trained with; only with ``layout`` do the networks have its inputs.
        rollout: whether all planes lie in one padded image that is embedded by one patch embedding, as in DynamicCity
            (Bian et al. 2025, section 3.3), instead of giving tokens of their own.
    """

    width: int = 256
    depth: int = 6
    heads: int = 4
    patch: int = 2
    time_patch: int = 2
    stem_channels: int = 96
    conditions: tuple[str, ...] = ("plan", "command", "continuation")
    rollout: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "conditions", tuple(self.conditions))
        _check_multiple("model.heads", self.heads, 1)
        _check_multiple("model.width", self.width, lcm(4, self.heads))
        _check_multiple("model.stem_channels", self.stem_channels, GROUPS)
        _check_multiple("model.depth", self.depth, 2, MOST_LAYERS)
        for name in ("patch", "time_patch"):
            _check_multiple(f"model.{name}", getattr(self, name), 1)
        unknown = sorted(set(self.conditions) - set(TRAINED_CONDITIONS))
        if unknown:
            raise ConfigError("model.conditions", ", ".join(unknown), f"names among {', '.join(TRAINED_CONDITIONS)}")
        if self.rollout and self.time_patch != self.patch:
            raise ConfigError("model.time_patch", self.time_patch, f"{self.patch}, as model.patch, with model.rollout")

    @property
    def takes_layout(self) -> bool:
        """Whether the networks have inputs for a layout of vehicles."""
        return "layout" in self.conditions


@dataclass(frozen=True)
class SamplingConfig:
    """Defaults of the sampler that ship with the weights.

    Attributes:
        sampler: a sampler of flow matching (``diffusion.sampling.SAMPLERS``).
        steps: network evaluations per chunk.
        shift: 1 spaces them evenly in time; above 1, more of them are spent near noise.
        guidance_scale: of plan, layout and command; 1 is no guidance.
        candidates: chunks drawn at once, of which the one with most road under the ego path is kept.
        redraws: how often a chunk is drawn again, with further noise of its seed, that has road under less than 0.8 of
            the ego path; the one with most is kept.
        resamples: how often each interval is walked to fit what is generated to a known region.
        autoguidance: of weights that hold a guide: how far the plane xy is led away from what the guide predicts
            (Karras et al. 2024); 1 does not ask it.
        autoguidance_time: the same for the planes tx and ty of chunks that begin a drive. Where movers are known, it
            is 1: the network lets them go on as it is, and lets more of them get lost when it is pushed.
        setting_off: share of the pedestrians drawn standing that are sent along the sidewalk, for weights that draw too
            few who walk (``drive/setting_off.py``).
    """

    sampler: str = "euler"
    steps: int = 16
    shift: float = 1.0
    guidance_scale: float = 1.0
    candidates: int = 1
    redraws: int = 0
    resamples: int = 1
    autoguidance: float = 1.0
    autoguidance_time: float = 1.0
    setting_off: float = 0.0

    def __post_init__(self) -> None:
        _check_above_zero("sampling.shift", self.shift)
        check_between("sampling.candidates", self.candidates, 1)
        check_between("sampling.redraws", self.redraws, 0)
        for name in ("autoguidance", "autoguidance_time"):
            check_between(f"sampling.{name}", getattr(self, name), 0, MOST_GUIDANCE)
        check_between("sampling.setting_off", self.setting_off, 0, 1)


@dataclass(frozen=True)
class AnchoredConfig:
    """The whole family: one autoencoder, one diffusion transformer, sampling defaults.

    Attributes:
        autoencoder: between labels and planes.
        transformer: generates planes.
        sampling: defaults of the sampler.
        guide: a smaller transformer that learned less of the same, which autoguidance leads away from; None without.
        known_world: what the known world that the transformer learnt to go on with tells of movers: ``FORESEEN`` or
            ``REMEMBERED``.
    """

    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    transformer: DiffusionTransformerConfig = field(default_factory=DiffusionTransformerConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    guide: DiffusionTransformerConfig | None = None
    known_world: str = FORESEEN

    def __post_init__(self) -> None:
        if self.known_world not in (FORESEEN, REMEMBERED):
            raise ConfigError("known_world", self.known_world, f"{FORESEEN} or {REMEMBERED}")
        scales = self.sampling.autoguidance, self.sampling.autoguidance_time
        if self.guide is None and scales != (1.0, 1.0):
            raise ConfigError("sampling.autoguidance", scales, "1 for weights without a guide")
