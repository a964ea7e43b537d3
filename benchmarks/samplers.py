"""What samplers cost and how far they are from the limit of many steps.

Each sampler starts from the same noise as the limit that it is compared with. Cases are four plans (straight, left,
right, standing), each as the start of a drive and going on from a chunk before. Distances are means over the cases,
seconds the least of them, because CPUs are shared:

  rms      root mean square of the difference of latents over that of the limit's latents
  differ   share of cells whose labels differ, of those that either holds occupied
  IoU      intersection over union of occupied cells
  seconds  of sampling one chunk, decoding not included

The limit is Euler's method with 1000 evaluations for flow matching (family anchored), and DDIM with 1000 for Gaussian
diffusion (family reference), whose other samplers but one follow the same ordinary differential equation. Ancestral
sampling (ddpm) draws noise on its way, so it is compared with itself at 1000 evaluations from the same start; the row
of 1000 draws that noise anew and says how far apart two equally good samples are."""

import argparse
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from dyncity_models.anchored.checkpoint import BUNDLED, load_model
from dyncity_models.backends.anchored.backend import AnchoredBackend
from dyncity_models.backends.anchored.pipeline import AnchoredPipeline
from dyncity_models.diffusion.sampling import SAMPLERS, Process, Sampler, make_sampler, noise_from
from dyncity_models.hexplane import Planes
from dyncity_models.reference.checkpoint import ReferenceModel, load_reference
from dyncity_models.reference.conditions import ReferenceConditions
from dyncity_models.reference.guidance import GuidedTransformer
from dyncity_models.reference.labels import command_of, trajectory_of
from dyncity_models.reference.planes import rollout_mask, unpack
from jaxtyping import UInt8
from rich.console import Console
from rich.progress import Progress, TaskID
from rich.table import Table
from torch import Tensor

from dyncity_sim.domain.conditions import Conditions, EgoPlan, SamplingOptions
from dyncity_sim.domain.frames import poses_from_planar

EXAMPLES = """examples:
  python benchmarks/samplers.py                                    the bundled weights
  python benchmarks/samplers.py --steps 10 4 --limit 100           a first impression
  python benchmarks/samplers.py --family reference --weights DIR   weights of the family reference
"""

MOTIONS = {"straight": (8.0, 0.0), "left": (6.0, 0.4), "right": (6.0, -0.4), "standing": (0.0, 0.0)}
"""Metres and radians per second of each plan."""

LIMIT = {"flow": "euler", "gaussian": "ddim"}


@dataclass(frozen=True)
class Case:
    """One chunk to generate: what makes its name, its noise, and whether a chunk comes before it."""

    motion: str
    goes_on: bool
    seed: int


@dataclass(frozen=True, eq=False)
class Sample:
    latents: Tensor
    labels: UInt8[np.ndarray, "T X Y Z"]
    seconds: float


class Generator(Protocol):
    """A family with its weights."""

    name: str
    process: Process

    def sample(self, case: Case, sampler: str, steps: int, draws: int = 0) -> Sample:
        """One chunk; ``draws`` chooses the noise on the way, but not that of the start."""


def plan_of(motion: str, frames: int, start_m: float = 0.0, start_us: int = 0) -> EgoPlan:
    """A plan that begins ``start_m`` along the x axis, at constant speed and yaw rate."""
    speed_mps, yaw_rate_radps = MOTIONS[motion]
    time_s = 0.1 * np.arange(frames)
    yaw = yaw_rate_radps * time_s
    steps_m = 0.1 * speed_mps * np.stack([np.cos(yaw), np.sin(yaw)], axis=-1)
    xy = np.cumsum(np.concatenate([[[start_m, 0.0]], steps_m[:-1]]), axis=0)
    times_us = start_us + np.arange(frames, dtype=np.int64) * 100_000
    return EgoPlan(poses_from_planar(np.column_stack([xy, yaw]), z_m=1.8), times_us)


def plans_of(case: Case, frames: int) -> list[EgoPlan]:
    """The chunk's plan, and before it that of the straight chunk it goes on from."""
    if not case.goes_on:
        return [plan_of(case.motion, frames)]
    speed_mps, _ = MOTIONS["straight"]
    return [
        plan_of("straight", frames),
        plan_of(case.motion, frames, 0.1 * speed_mps * frames, 100_000 * frames),
    ]


class ObservedPipeline(AnchoredPipeline):
    """A pipeline that keeps what it last generated and how long it took."""

    planes: Planes
    labels: Tensor
    seconds: float

    def generate(self, *arguments: Any, **options: Any) -> Planes:
        started = time.perf_counter()
        self.planes = super().generate(*arguments, **options)
        self.seconds = time.perf_counter() - started
        return self.planes

    def decode(self, *arguments: Any) -> Tensor:
        self.labels = super().decode(*arguments)
        return self.labels


UNGUIDED = ("autoguidance=1", "autoguidance_time=1")
"""Samplers are compared on what the network alone says."""


class Anchored:
    """The family ``anchored`` behind its backend; labels are those of the planes, before known ones replace them."""

    process: Process = "flow"

    def __init__(self, weights: Path, device: torch.device) -> None:
        self.pipeline = ObservedPipeline(load_model(weights, UNGUIDED), device)
        self.backend = AnchoredBackend(self.pipeline)
        self.name = self.backend.info.model_id
        self.conditions: dict[Case, Conditions] = {}

    def sample(self, case: Case, sampler: str, steps: int, draws: int = 0) -> Sample:
        if case not in self.conditions:
            self.conditions[case] = self._conditions(case)
        options = SamplingOptions(seed=case.seed, steps=steps, sampler=sampler)
        self.backend.generate(self.conditions[case], options, lambda done: None)
        return Sample(self.pipeline.planes.flat(), self.pipeline.labels[0].cpu().numpy(), self.pipeline.seconds)

    def _conditions(self, case: Case) -> Conditions:
        *before, plan = plans_of(case, self.backend.info.frames_per_chunk)
        continuation = None
        for earlier in before:
            options = SamplingOptions(seed=case.seed + 1000)
            chunk = self.backend.generate(Conditions(earlier, earlier.command), options, lambda done: None)
            continuation = chunk.continuation
        return Conditions(plan, plan.command, continuation)


class Reference:
    """The family ``reference`` with trajectory, command and the chunk before, as far as the weights know them.

    Plans begin at yaw 0, so world axes are those of the ego, whatever the convention.
    """

    process: Process = "gaussian"

    def __init__(self, weights: Path, device: torch.device, scale: float) -> None:
        self.model: ReferenceModel = load_reference(weights)
        if self.model.transformer is None:
            raise SystemExit(f"{weights} holds an autoencoder only; weights of a transformer are needed.")
        self.autoencoder, self.transformer = self.model.autoencoder.to(device), self.model.transformer.to(device)
        self.device, self.scale, self.name = device, scale, self.model.model_id
        self.mask = rollout_mask(self.autoencoder.config)

    @torch.inference_mode()
    def sample(self, case: Case, sampler: str, steps: int, draws: int = 0) -> Sample:
        config = self.autoencoder.config
        *before, plan = plans_of(case, config.frames)
        hexplane = None
        for earlier in before:
            hexplane = self._rollout(earlier, None, case.seed + 1000, 0, make_sampler("dpm++2m", self.process, 20))
        started = time.perf_counter()
        rollout = self._rollout(plan, hexplane, case.seed, draws, make_sampler(sampler, self.process, steps))
        seconds = time.perf_counter() - started
        labels = torch.cat(list(self.autoencoder.decode_labels(unpack(rollout, config))), dim=1)
        return Sample(rollout[..., self.mask], labels[0].cpu().numpy(), seconds)

    def _rollout(self, plan: EgoPlan, hexplane: Tensor | None, seed: int, draws: int, sampler: Sampler) -> Tensor:
        config = self.autoencoder.config
        trajectory = trajectory_of(plan.poses_world_from_ego)
        given = ReferenceConditions(
            torch.from_numpy(trajectory)[None].float().to(self.device),
            torch.tensor([command_of(trajectory)], device=self.device),
            hexplane=hexplane,
        )
        predict = GuidedTransformer(self.transformer, given, self.scale)
        start, on_the_way = (torch.Generator().manual_seed(s) for s in (seed, 10_000 * (draws + 1) + seed))
        noise = torch.randn(1, config.latent_channels, *config.rollout_shape, generator=start).to(self.device)
        return sampler.sample(predict, noise, noise_from(on_the_way, noise))


@dataclass(frozen=True)
class Distance:
    """How far a sample is from the limit."""

    rms: float
    differ: float
    iou: float


def distance(sample: Sample, limit: Sample) -> Distance:
    apart = (sample.latents - limit.latents).square().mean().sqrt() / limit.latents.square().mean().sqrt()
    here, there = sample.labels > 0, limit.labels > 0
    either = here | there
    differ = float((sample.labels != limit.labels)[either].mean()) if either.any() else 0.0
    return Distance(float(apart), differ, float((here & there).sum() / max(1, either.sum())))


def rows_of(process: Process, steps: list[int], limit: int) -> Iterator[tuple[str, int, str]]:
    """(sampler, evaluations, sampler of its limit) of each row."""
    for name in SAMPLERS[process]:
        against = name if name == "ddpm" else LIMIT[process]
        for count in [limit, *steps] if name == "ddpm" else steps:
            yield name, count, against


def measure(
    generator: Generator, cases: list[Case], steps: list[int], limit: int, progress: Progress, task: TaskID
) -> dict[tuple[str, int], list[tuple[Distance, float]]]:
    """Distance and seconds of every case, by row."""
    measured: dict[tuple[str, int], list[tuple[Distance, float]]] = {}
    rows = list(rows_of(generator.process, steps, limit))
    for case in cases:
        limits = {}
        for name in {against for _, _, against in rows}:
            limits[name] = generator.sample(case, name, limit)
            progress.advance(task, limit)
        for name, count, against in rows:
            sample = generator.sample(case, name, count, draws=1)
            measured.setdefault((name, count), []).append((distance(sample, limits[against]), sample.seconds))
            progress.advance(task, count)
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--family", choices=["anchored", "reference"], default="anchored")
    parser.add_argument("--weights", type=Path, help="weights folder (default: the bundled ones of anchored)")
    parser.add_argument("--steps", type=int, nargs="+", default=[50, 20, 10, 8, 4], help="network evaluations")
    parser.add_argument("--limit", type=int, default=1000, help="evaluations of the limit (default: 1000)")
    parser.add_argument("--seeds", type=int, default=1, help="seeds of each plan (default: 1)")
    parser.add_argument("--motions", nargs="+", choices=MOTIONS, default=list(MOTIONS), help="plans (default: all)")
    parser.add_argument("--scale", type=float, default=4.0, help="guidance of reference (default: 4, as published)")
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's)")
    arguments = parser.parse_args()
    if arguments.family == "reference" and arguments.weights is None:
        parser.error("--family reference needs --weights: none are bundled.")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    generator: Generator
    if arguments.family == "anchored":
        generator = Anchored(arguments.weights or BUNDLED, device)
    else:
        generator = Reference(arguments.weights, device, arguments.scale)
    numbered = [(m, g) for _ in range(arguments.seeds) for m in arguments.motions for g in (False, True)]
    cases = [Case(motion, goes_on, seed) for seed, (motion, goes_on) in enumerate(numbered)]
    generator.sample(cases[0], LIMIT[generator.process], 1)

    rows = list(rows_of(generator.process, arguments.steps, arguments.limit))
    spent = sum(count for _, count, _ in rows) + arguments.limit * len({against for _, _, against in rows})
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("sampling", total=spent * len(cases))
        measured = measure(generator, cases, arguments.steps, arguments.limit, progress, task)

    where = torch.cuda.get_device_name() if device.type == "cuda" else f"{torch.get_num_threads()} CPU threads"
    table = Table("sampler", "evaluations", "rms", "differ", "IoU", "seconds", title=f"{generator.name}, {where}")
    for (name, count), found in measured.items():
        means = [f"{statistics.fmean(getattr(d, field) for d, _ in found):.3f}" for field in ("rms", "differ", "iou")]
        table.add_row(name, str(count), *means, f"{min(s for _, s in found):.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
