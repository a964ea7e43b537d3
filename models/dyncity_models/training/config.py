"""What a training run is made of; every field can be set in YAML or as ``key=value``."""

from dataclasses import dataclass, field
from math import isfinite

from dyncity_models.config import AutoencoderConfig, DiffusionTransformerConfig, SamplingConfig, check_between
from dyncity_sim.errors import ConfigError

ACCELERATORS = ("auto", "cpu", "cuda", "gpu")
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed", "bf16-true", "16-true", "64-true", "bf16", "16", "32", "64")
"""Of lightning, as far as they need no other package."""
LOGGERS = ("csv", "tensorboard", "wandb")
"""The package of each but the first is an extra of the same name."""


def check_shares(section: str, config: object, *names: str) -> None:
    """Raise ConfigError unless these values of a section are shares."""
    for name in names:
        check_between(f"{section}.{name}", getattr(config, name), 0, 1)


@dataclass
class DataConfig:
    """Recordings to learn from and to be judged on; split by town, never by frame.

    Attributes:
        train: folders of recordings.
        validation: folders of recordings of other towns.
        workers: threads that read recordings into memory at the start; 0 takes one per core.
    """

    train: list[str] = field(default_factory=list)
    validation: list[str] = field(default_factory=list)
    workers: int = 0

    def __post_init__(self) -> None:
        check_between("data.workers", self.workers, 0)


@dataclass
class OptimiserConfig:
    """Steps and learning rate: warm-up, constant, then linear decay to ``final_lr_share``.

    Attributes:
        steps: optimiser steps in all.
        batch: chunks of a batch, of all processes together; a step learns from ``run.accumulate`` of them.
        lr: peak learning rate.
        warm_up: steps of linear warm-up.
        decay_from: share of all steps after which the rate decays.
        final_lr_share: rate at the end, as a share of the peak.
        weight_decay: decoupled weight decay.
        ema_decay: decay of the averaged weights that are evaluated and exported; 0 for the weights themselves.
        gradient_clip: largest norm of the gradients; 0 for no limit.
        muon: whether Muon trains the matrices of the blocks of the transformer of ``anchored``; else AdamW trains
            everything, as it does all other networks.
    """

    steps: int = 8000
    batch: int = 2
    lr: float = 1.2e-3
    warm_up: int = 100
    decay_from: float = 0.6
    final_lr_share: float = 0.03
    weight_decay: float = 0.01
    ema_decay: float = 0.995
    gradient_clip: float = 1.0
    muon: bool = True

    def __post_init__(self) -> None:
        check_shares("optimiser", self, "decay_from", "final_lr_share", "ema_decay")
        for name in ("steps", "batch"):
            check_between(f"optimiser.{name}", getattr(self, name), 1)
        for name in ("lr", "warm_up", "weight_decay", "gradient_clip"):
            check_between(f"optimiser.{name}", getattr(self, name), 0)


@dataclass
class AutoencoderLossConfig:
    """Weights of the autoencoder's loss terms.

    Attributes:
        frames: frames of each chunk that are decoded and scored per step.
        kl: weight of the KL term of the plane xy (and xz, yz) after its warm-up.
        kl_time: the same of the planes tx and ty (and tz).
        kl_warm_up: steps over which it rises from a tenth.
        lovasz: weight of the Lovasz term.
        lovasz_samples: observed cells it is computed on.
        unobserved: weight of a cell no sensor saw (its truth is known from the simulator).
        moved: factor on movers that were elsewhere in another frame.
        class_weight_cap: largest class weight.
    """

    frames: int = 4
    kl: float = 6e-3
    kl_time: float = 6e-3
    kl_warm_up: int = 2000
    lovasz: float = 1.0
    lovasz_samples: int = 40_000
    unobserved: float = 0.25
    moved: float = 3.0
    class_weight_cap: float = 20.0

    def __post_init__(self) -> None:
        for name in ("kl", "kl_time", "kl_warm_up", "lovasz", "unobserved", "moved", "class_weight_cap"):
            check_between(f"loss.{name}", getattr(self, name), 0)


@dataclass
class RunConfig:
    """Where a run writes and how it goes on.

    Attributes:
        out: run folder: checkpoints, logs, the resolved configuration, exported weights.
        seed: seed of everything drawn.
        precision: lightning precision, e.g. ``bf16-mixed`` or ``32-true``.
        accelerator: ``auto``, ``cpu`` or ``cuda``.
        threads: CPU threads; 0 leaves PyTorch's choice.
        checkpoint_every: steps between checkpoints that a killed run resumes from.
        validate_every: steps between validations.
        validation_clips: chunks scored at each validation.
        compile: fuse the network's operations with torch.compile: minutes of preparation, then faster steps on a GPU.
        most_minutes: end after this time, its learning rate decayed, even when steps are left; 0 for no limit.
        accumulate: batches whose gradients make one optimiser step.
        loggers: some of ``csv``, ``tensorboard`` and ``wandb``; the last two need the extra of that name.
        log_every: steps between logged losses.
        devices: processes on this machine, one for each GPU (or part of the CPU); under torchrun its own number holds.
        strategy: ``ddp``, a copy of the weights in every process; ``fsdp``, a part of them; ``auto``, the first.
    """

    out: str = "out/train"
    seed: int = 0
    precision: str = "bf16-mixed"
    accelerator: str = "auto"
    threads: int = 0
    checkpoint_every: int = 250
    validate_every: int = 500
    validation_clips: int = 24
    compile: bool = False
    most_minutes: float = 0.0
    accumulate: int = 1
    loggers: list[str] = field(default_factory=lambda: ["csv"])
    log_every: int = 25
    devices: int = 1
    strategy: str = "auto"

    def __post_init__(self) -> None:
        for name, known in (("precision", PRECISIONS), ("accelerator", ACCELERATORS)):
            if (got := getattr(self, name)) not in known:
                raise ConfigError(f"run.{name}", got, f"one of {', '.join(known)}")
        if not self.out:
            raise ConfigError("run.out", "no name", "a folder")
        if not set(self.loggers) <= set(LOGGERS) or len(set(self.loggers)) < len(self.loggers):
            raise ConfigError("run.loggers", ", ".join(self.loggers), f"each at most once of {', '.join(LOGGERS)}")
        for name in ("checkpoint_every", "validate_every", "validation_clips"):
            check_between(f"run.{name}", getattr(self, name), 1)
        for name in ("seed", "threads", "most_minutes", "log_every"):
            check_between(f"run.{name}", getattr(self, name), 0)


@dataclass
class AutoencoderTrainingConfig:
    """``dyncity train vae``.

    Attributes:
        family: ``anchored``.
    """

    model: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    loss: AutoencoderLossConfig = field(default_factory=AutoencoderLossConfig)
    run: RunConfig = field(default_factory=RunConfig)
    family: str = "anchored"

    def __post_init__(self) -> None:
        check_between("loss.frames", self.loss.frames, 1, self.model.frames)
        check_between("loss.lovasz_samples", self.loss.lovasz_samples, 1)


@dataclass
class PlanesLossConfig:
    """Weights of the errors of a velocity, and how often conditions are withheld.

    Attributes:
        xy: share of the static plane.
        tx: share of each time plane.
        path_factor: factor on static-plane cells within ``path_radius_m`` of the ego path.
        path_radius_m: see ``path_factor``.
        drop_plan: share of samples whose plan is withheld.
        drop_command: share of samples whose command is withheld.
        drop_known: share of samples that start a drive, with nothing known.
        drop_layout: share of samples whose layout of vehicles is withheld, where the model takes one.
    """

    xy: float = 0.6
    tx: float = 0.2
    path_factor: float = 3.0
    path_radius_m: float = 3.0
    drop_plan: float = 0.08
    drop_command: float = 0.3
    drop_known: float = 0.5
    drop_layout: float = 0.5

    def __post_init__(self) -> None:
        for name in ("xy", "tx", "path_factor", "path_radius_m"):
            check_between(f"loss.{name}", getattr(self, name), 0)
        check_shares("loss", self, "drop_plan", "drop_command", "drop_known", "drop_layout")


@dataclass
class TransformerLossConfig(PlanesLossConfig):
    """The flow-matching loss.

    Attributes:
        time_mean: mean of the logit-normal that times are drawn from.
    """

    time_mean: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isfinite(self.time_mean):
            raise ConfigError("loss.time_mean", self.time_mean, "a number")


@dataclass
class TransformerTrainingConfig:
    """``dyncity train dit``.

    Attributes:
        family: ``anchored``.
        autoencoder: folder of exported autoencoder weights.
        latents: folder written by ``dyncity encode`` from the training recordings.
        validation_latents: the same from recordings of other towns.
        sampling: sampler defaults that are exported with the weights.
        initial: folder of weights whose transformer is trained on; empty to start from nothing. Conditions that these
            weights do not know enter with weights of zero.
        guides: folder of weights that this transformer is to be the guide of; empty for one that stands alone. Their
            normalisation is used, and they are exported whole, with this transformer beside theirs.
    """

    model: DiffusionTransformerConfig = field(default_factory=DiffusionTransformerConfig)
    autoencoder: str = "out/train/vae/export"
    latents: str = "out/latents/train"
    validation_latents: str = "out/latents/validation"
    optimiser: OptimiserConfig = field(
        default_factory=lambda: OptimiserConfig(
            steps=8000, batch=16, lr=8e-4, decay_from=0.7, weight_decay=0.01, ema_decay=0.999
        )
    )
    loss: TransformerLossConfig = field(default_factory=TransformerLossConfig)
    run: RunConfig = field(default_factory=RunConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    initial: str = ""
    guides: str = ""
    family: str = "anchored"


@dataclass
class DistilLossConfig(PlanesLossConfig):
    """The loss of a student.

    Attributes:
        drop_plan: as of the transformer; 0, because every request has a plan and a student is not guided without one.
        at_start: share of samples that are learned where their window begins, where the student's own steps ask; the
            others anywhere on the straight line to its end, for samplers of other steps.
    """

    drop_plan: float = 0.0
    at_start: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_shares("loss", self, "at_start")


@dataclass
class DistilTrainingConfig:
    """``dyncity train distil``.

    Attributes:
        teacher: folder of whole weights of the family ``anchored``, whose paths the student learns as it would sample
            with them, guidance and autoguidance included; it gives the student its architecture, first weights,
            normalisation and autoencoder.
        latents: folder written by ``dyncity encode`` from the training recordings, with the teacher's autoencoder.
        validation_latents: the same from recordings of other towns.
        sampling: how the student samples, exported with it: ``euler`` in so many steps, one for each window, without
            guidance.
        evaluations: of the teacher in each window, to follow its path from the one end to the other.
        limit_steps: evaluations of the teacher's samples that validation compares with.
    """

    teacher: str = "out/train/guide/export"
    latents: str = "out/latents/train"
    validation_latents: str = "out/latents/validation"
    sampling: SamplingConfig = field(default_factory=lambda: SamplingConfig(sampler="euler", steps=4, shift=3.0))
    evaluations: int = 4
    limit_steps: int = 50
    optimiser: OptimiserConfig = field(
        default_factory=lambda: OptimiserConfig(steps=4000, batch=16, lr=1e-4, decay_from=0.5, ema_decay=0.998)
    )
    loss: DistilLossConfig = field(default_factory=DistilLossConfig)
    run: RunConfig = field(default_factory=lambda: RunConfig(out="out/train/distil"))
