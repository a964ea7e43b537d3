"""The co-simulation loop: the simulator plans and drives, the server generates what is around the ego."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np

from dyncity_sim.cosim.drive import Drive, DriveChunk, Start
from dyncity_sim.cosim.simulator import Simulator
from dyncity_sim.domain.conditions import Conditions, Continuation, EgoPlan, SamplingOptions
from dyncity_sim.domain.generation import GeneratedChunk, ModelInfo
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.recording import ActorState, RecordedFrame
from dyncity_sim.domain.taxonomy import CARLASC, CARLASC_RAW, Taxonomy, merged_labels
from dyncity_sim.errors import BusyError, InvalidInputError, SimulatorError, UnavailableError, UnsupportedConditionError

Reply = TypeVar("Reply")

MAX_SEED = 2**63 - 1
PLAN_TOLERANCE_M = 0.05
"""How far a simulated ego may be from its plan; the generated frame stands at the plan's pose."""


class Generator(Protocol):
    """What the loop needs of a server; ``dyncity_sim.client.DyncityClient`` is one."""

    def model_info(self) -> ModelInfo:
        """What the server's model can do."""
        ...

    def generate(self, conditions: Conditions, options: SamplingOptions) -> GeneratedChunk:
        """Generate one chunk; the same request gives the same chunk, so it may be repeated."""
        ...

    def encode(self, occupancy: OccupancySequence) -> Continuation:
        """Turn observed occupancy into what the next chunk continues from."""
        ...


@dataclass(frozen=True)
class Patience:
    """How long a server that is away or busy is asked again.

    Attributes:
        limit_s: from the first failure on; then the failure is raised.
        wait_s: between two attempts, unless a busy server names a time.
        sleep: waits that many seconds.
        clock: seconds, monotonic.
    """

    limit_s: float = 60.0
    wait_s: float = 0.5
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic

    def call(self, request: Callable[[], Reply]) -> Reply:
        """The request's reply, asked for again while the server is unavailable or busy and time is left."""
        failed_at: float | None = None
        while True:
            try:
                return request()
            except (UnavailableError, BusyError) as error:
                now = self.clock()
                failed_at = now if failed_at is None else failed_at
                wait_s = error.retry_after_s if isinstance(error, BusyError) else self.wait_s
                if now + wait_s - failed_at > self.limit_s:
                    raise
                self.sleep(wait_s)


@dataclass(frozen=True)
class Step:
    """Progress of a drive, in frames of work done.

    Attributes:
        doing: ``observing``, ``generating`` or ``driving``.
        done: steps done over the whole drive.
        total: steps of the whole drive.
    """

    doing: str
    done: int
    total: int


def run_drive(
    simulator: Simulator,
    generator: Generator,
    chunks: int,
    seed: int,
    start: Start = Start.OBSERVED,
    options: SamplingOptions | None = None,
    patience: Patience | None = None,
    on_step: Callable[[Step], None] = lambda step: None,
) -> Drive:
    """Drive ``chunks`` chunks: plan, generate with the continuation of the chunk before, follow the plan.

    Args:
        simulator: entered already; drives on from where it stands.
        generator: the server.
        chunks: how many, at least 1.
        seed: chunk ``n`` is sampled with ``seed + n``.
        start: whether a chunk is observed first and encoded, or the first chunk comes from the plan alone.
        options: steps, guidance and sampler; its seed is not used.
        patience: how long a server that is away is asked again.
        on_step: called before each piece of work and once at the end.

    Raises:
        InvalidInputError: the simulator's grid or rate is not the model's.
        UnsupportedConditionError: the model cannot continue from a chunk and this drive asks for it.
        SimulatorError: the simulator left the plan.
        UnavailableError: the server stayed away longer than ``patience``.
    """
    patience = patience or Patience()
    options = options or SamplingOptions()
    if chunks < 1:
        raise InvalidInputError("chunks", chunks, "at least 1")
    if not 0 <= seed <= MAX_SEED - chunks:
        raise InvalidInputError("seed", seed, f"an integer in [0, {MAX_SEED} - chunks]")
    model = patience.call(generator.model_info)
    _check_fit(simulator, model, continues=start is Start.OBSERVED or chunks > 1)
    frames = model.frames_per_chunk
    total = chunks * (frames + 1) + (frames + 1 if start is Start.OBSERVED else 0)
    progress = _Progress(on_step, total)

    history: OccupancySequence | None = None
    continuation: Continuation | None = None
    if start is Start.OBSERVED:
        plan = _checked_plan(simulator, model)
        history, _ = _followed(simulator, plan, model.taxonomy, progress, "observing")
        progress.tell("encoding")
        observed = history
        continuation = patience.call(lambda: generator.encode(observed))
        progress.add(1)

    made = []
    for number in range(chunks):
        plan = _checked_plan(simulator, model)
        conditions = _conditions(plan, continuation, model)
        asked = SamplingOptions(seed + number, options.steps, options.guidance_scale, options.sampler)
        progress.tell("generating")
        began = time.perf_counter()
        generated = patience.call(lambda c=conditions, o=asked: generator.generate(c, o))  # type: ignore[misc]
        generation_s = time.perf_counter() - began
        _check_reply(generated, plan, model)
        progress.add(1)
        began = time.perf_counter()
        recorded, actors = _followed(simulator, plan, model.taxonomy, progress, "driving")
        simulation_s = time.perf_counter() - began
        made.append(DriveChunk(plan, conditions.command, generated, recorded, actors, generation_s, simulation_s))
        continuation = generated.continuation
    progress.tell("driven")
    return Drive(tuple(made), history, model, seed, start, simulator.attribution, simulator.opendrive)


def occupancy_from_frames(frames: Iterable[RecordedFrame], taxonomy: Taxonomy) -> OccupancySequence:
    """A simulator's frames as one sequence in a model's taxonomy; ``observed`` is where a sensor counted.

    Raises:
        InvalidInputError: the taxonomy is not one that simulators can be read in.
    """
    frames = list(frames)
    raw = np.stack([frame.labels for frame in frames])
    if taxonomy.id not in (CARLASC.id, CARLASC_RAW.id):
        raise InvalidInputError("model.taxonomy", repr(taxonomy.id), f"{CARLASC.id!r} or {CARLASC_RAW.id!r}")
    return OccupancySequence(
        raw if taxonomy.id == CARLASC_RAW.id else merged_labels(raw),
        np.stack([frame.pose_world_from_ego for frame in frames]),
        np.array([frame.time_us for frame in frames], dtype=np.int64),
        frames[0].grid,
        taxonomy,
        np.stack([frame.counts > 0 for frame in frames]),
    )


class _Progress:
    def __init__(self, on_step: Callable[[Step], None], total: int) -> None:
        self._on_step, self._total, self._done, self._doing = on_step, total, 0, ""

    def tell(self, doing: str) -> None:
        self._doing = doing
        self._on_step(Step(doing, self._done, self._total))

    def add(self, steps: int) -> None:
        self._done += steps
        self._on_step(Step(self._doing, self._done, self._total))


def _check_fit(simulator: Simulator, model: ModelInfo, continues: bool) -> None:
    if simulator.grid != model.grid:
        raise InvalidInputError(
            "simulator.grid", simulator.grid, f"the model's {model.grid}", "Grids are never resampled silently."
        )
    if continues and "continuation" not in model.conditions:
        raise UnsupportedConditionError(
            f"Model {model.model_id} was trained with {', '.join(model.conditions) or 'no condition'}, and a drive of "
            "more than one chunk, or one that starts from what was observed, needs 'continuation'. "
            "Start from the plan alone, with one chunk."
        )


def _checked_plan(simulator: Simulator, model: ModelInfo) -> EgoPlan:
    plan = simulator.plan(model.frames_per_chunk)
    step_us = round(1e6 / model.rate_hz)
    if len(plan) != model.frames_per_chunk or not (np.diff(plan.times_us) == step_us).all():
        raise InvalidInputError(
            "simulator.plan",
            f"{len(plan)} poses, steps of {sorted(set(np.diff(plan.times_us).tolist()))} us",
            f"{model.frames_per_chunk} poses every {step_us} us, as the model generates",
        )
    return plan


def _conditions(plan: EgoPlan, continuation: Continuation | None, model: ModelInfo) -> Conditions:
    """All that the drive knows and the weights were trained with."""
    return Conditions(
        plan=plan if "plan" in model.conditions else None,
        command=plan.command if "command" in model.conditions else None,
        continuation=continuation,
    )


def _followed(
    simulator: Simulator, plan: EgoPlan, taxonomy: Taxonomy, progress: _Progress, doing: str
) -> tuple[OccupancySequence, tuple[tuple[ActorState, ...], ...]]:
    """What the simulator shows along a plan; it has to be at each pose of it in time."""
    progress.tell(doing)
    frames: list[RecordedFrame] = []
    for frame in simulator.follow(plan):
        frames.append(frame)
        progress.add(1)
    if [frame.time_us for frame in frames] != plan.times_us.tolist():
        raise SimulatorError(
            f"The simulator yielded {len(frames)} frames, ending at {frames[-1].time_us if frames else '-'} us, for a "
            f"plan of {len(plan)} from {plan.times_us[0]} to {plan.times_us[-1]} us."
        )
    away_m = max(
        float(np.linalg.norm(f.pose_world_from_ego[:3, 3] - pose[:3, 3]))
        for f, pose in zip(frames, plan.poses_world_from_ego, strict=True)
    )
    if away_m > PLAN_TOLERANCE_M:
        raise SimulatorError(f"The ego left its plan by {away_m:.2f} m; it has to follow it exactly.")
    return occupancy_from_frames(frames, taxonomy), tuple(frame.actors for frame in frames)


def _check_reply(chunk: GeneratedChunk, plan: EgoPlan, model: ModelInfo) -> None:
    """Another model's chunk, as from a server that was replaced mid-drive, does not continue this drive."""
    if chunk.model_id != model.model_id:
        raise InvalidInputError(
            "reply.model_id",
            chunk.model_id,
            f"{model.model_id}, which generated the drive so far",
            "Serve the same weights again, or start a new drive.",
        )
    if len(chunk.occupancy) != len(plan):
        raise InvalidInputError("reply.occupancy", f"{len(chunk.occupancy)} frames", f"{len(plan)}, those of the plan")
