"""The co-simulation loop: the simulator plans and drives, the server generates what is around the ego."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np

from dyncity_sim.cosim.drive import Drive, DriveChunk, Start
from dyncity_sim.cosim.planning import Planner, PlansAhead
from dyncity_sim.cosim.progress import Progress, Step
from dyncity_sim.cosim.simulator import Simulator
from dyncity_sim.cosim.stream import Generator, Patience, ResumedStream
from dyncity_sim.dataset.chunk_files import UNDER_WAY
from dyncity_sim.domain.conditions import Conditions, Continuation, EgoPlan, SamplingOptions
from dyncity_sim.domain.frames import planar_from_poses, wrap_angle
from dyncity_sim.domain.generation import GeneratedChunk, ModelInfo
from dyncity_sim.domain.grid import Grid
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.recording import ActorState, RecordedFrame
from dyncity_sim.domain.taxonomy import CARLASC, CARLASC_RAW, Taxonomy, merged_labels
from dyncity_sim.errors import DyncityError, InvalidInputError, SimulatorError, StorageError, UnsupportedConditionError

MAX_SEED = 2**63 - 1
PLAN_TOLERANCE_M = 0.05
PLAN_TOLERANCE_RAD = np.deg2rad(1.0)
"""How far a simulated ego may be from its plan, and turned away; the generated frame stands at the plan's pose."""

LOOKAHEAD = 1
"""Chunks planned and asked for beyond the one that is driven next: enough to keep simulator and server both at work."""

MAX_LOOKAHEAD = 4
"""A plan made longer ahead has little to do with the traffic that it meets."""


def run_drive(
    simulator: Simulator,
    generator: Generator,
    chunks: int,
    seed: int,
    start: Start = Start.OBSERVED,
    options: SamplingOptions | None = None,
    patience: Patience | None = None,
    on_step: Callable[[Step], None] = lambda step: None,
    lookahead: int = LOOKAHEAD,
    keep: Callable[[Drive], Drive] = lambda drive: drive,
) -> Drive:
    """Drive ``chunks`` chunks: plan ahead, generate each from the chunk before, follow the plans in turn.

    Plans go up ahead of time, so that the simulator need not wait for a server that is faster than it; for a slower
    one it stands still between two chunks. What is generated depends on plans and seeds, never on timing. A drive whose
    road ends has the chunks up to there, and says so. So does one that fails once a chunk is driven: what failed is its
    ``failure``, and is raised where there is no chunk to keep.

    Args:
        simulator: entered already; drives on from where it stands.
        generator: the server.
        chunks: how many, at least 1.
        seed: chunk ``n`` is sampled with ``seed + n``.
        start: whether a chunk is observed first and encoded, or the first chunk comes from the plan alone.
        options: steps, guidance and sampler; its seed is not used.
        patience: how long a server that is away is asked again.
        on_step: called before each piece of work and once at the end.
        lookahead: chunks that are planned beyond the one driven next, 0 to MAX_LOOKAHEAD; with 0 each plan is made
            when all before it are driven, and simulator and server take turns.
        keep: given the drive up to each chunk that is driven, gives it back as it is held from then on, as
            ``dyncity_sim.cosim.write.DriveFolder.keep`` does; the drive's memory is that of all chunks otherwise. What
            it raises breaks the drive off before that chunk.

    Raises:
        InvalidInputError: the simulator's grid or rate is not the model's, or a plan does not go on from the last.
        UnsupportedConditionError: the model takes no plan, or cannot continue from a chunk and this drive asks for it.
        RoadEndsError: the road ends before the first chunk.
        SimulatorError: the simulator left the plan.
        UnavailableError: the server stayed away longer than ``patience``.
    """
    patience, options = patience or Patience(), options or SamplingOptions()
    _check_extent(chunks, seed, lookahead)
    model = patience.call(generator.model_info)
    _check_fit(simulator, model, continues=start is Start.OBSERVED or chunks > 1)
    progress = Progress(on_step, chunks + (start is Start.OBSERVED), model.frames_per_chunk + 1)
    planner = Planner(simulator, model)
    # Asked for while the simulator is well: what is driven has to outlive it, and what lacks any of it fails at once.
    attribution, opendrive, _ = simulator.attribution, simulator.opendrive, simulator.shown_tracks

    history = continuation = None
    if start is Start.OBSERVED:
        history, _ = _followed(simulator, planner.next(), None, model.taxonomy, progress, "observing")
        continuation = _encoded(history, generator, patience, progress)
    with ResumedStream(generator, continuation, patience) as stream:
        plans = PlansAhead(planner, stream, model, replace(options, seed=seed), chunks, lookahead, progress)
        chunks_driven = (_driven(simulator, stream, *asked, model, progress) for asked in plans)
        begun = Drive((), history, model, seed, start, attribution, opendrive, options=options, ended=UNDER_WAY)
        drive, failure = _up_to_failure(begun, chunks_driven, keep)
    progress.tell("driven")
    # A simulator has shown more than the chunks there are if it failed within one, or one could not be written.
    shown_tracks = None if isinstance(failure, SimulatorError | StorageError) else simulator.shown_tracks
    return replace(drive, shown_tracks=shown_tracks, ended=str(failure or plans.ended), failure=failure)


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


def _check_extent(chunks: int, seed: int, lookahead: int) -> None:
    if chunks < 1:
        raise InvalidInputError("chunks", chunks, "at least 1")
    if not 0 <= seed <= MAX_SEED - chunks:
        raise InvalidInputError("seed", seed, f"an integer in [0, {MAX_SEED} - chunks]")
    if not 0 <= lookahead <= MAX_LOOKAHEAD:
        raise InvalidInputError("lookahead", lookahead, f"an integer in [0, {MAX_LOOKAHEAD}]")


def _check_fit(simulator: Simulator, model: ModelInfo, continues: bool) -> None:
    if simulator.grid != model.grid:
        raise InvalidInputError(
            "simulator.grid", simulator.grid, f"the model's {model.grid}", "Grids are never resampled silently."
        )
    if "plan" not in model.conditions:
        raise UnsupportedConditionError(
            f"Model {model.model_id} was trained with {', '.join(model.conditions) or 'no condition'}, and what is "
            "generated around an ego that drives needs 'plan'."
        )
    if continues and "continuation" not in model.conditions:
        raise UnsupportedConditionError(
            f"Model {model.model_id} was trained with {', '.join(model.conditions) or 'no condition'}, and a drive of "
            "more than one chunk, or one that starts from what was observed, needs 'continuation'. "
            "Start from the plan alone, with one chunk."
        )


def _encoded(observed: OccupancySequence, generator: Generator, patience: Patience, progress: Progress) -> Continuation:
    """What the first chunk goes on from."""
    progress.tell("encoding")
    continuation = patience.call(lambda: generator.encode(observed))
    progress.add_step()
    return continuation


def _up_to_failure(
    drive: Drive, chunks: Iterable[DriveChunk], keep: Callable[[Drive], Drive]
) -> tuple[Drive, DyncityError | None]:
    """The drive with the chunks up to the first that fails, and what failed; with no chunk before it, that is raised.

    A chunk fails, too, that cannot be kept.
    """
    try:
        for chunk in chunks:
            drive = keep(replace(drive, chunks=(*drive.chunks, chunk)))
    except DyncityError as error:
        if not drive.chunks:
            raise
        return drive, error
    return drive, None


def _driven(
    simulator: Simulator,
    stream: ResumedStream,
    plan: EgoPlan,
    conditions: Conditions,
    model: ModelInfo,
    progress: Progress,
) -> DriveChunk:
    """The chunk that was asked for along a plan, waited for and driven."""
    progress.tell("generating")
    began = time.perf_counter()
    generated = stream.take()
    waited_s = time.perf_counter() - began
    _check_reply(generated, plan, model)
    progress.add_step()
    began = time.perf_counter()
    recorded, actors = _followed(simulator, plan, generated, model.taxonomy, progress, "driving")
    simulation_s = time.perf_counter() - began
    return DriveChunk(plan, conditions.command, generated, recorded, actors, waited_s, simulation_s)


def _followed(
    simulator: Simulator,
    plan: EgoPlan,
    generated: GeneratedChunk | None,
    taxonomy: Taxonomy,
    progress: Progress,
    doing: str,
) -> tuple[OccupancySequence, tuple[tuple[ActorState, ...], ...]]:
    """What the simulator shows along a plan."""
    progress.tell(doing)
    frames: list[RecordedFrame] = []
    for frame in simulator.follow(plan, generated):
        frames.append(_kept(frame))
        progress.add_step()
    _check_followed(simulator.grid, plan, frames)
    return occupancy_from_frames(frames, taxonomy), tuple(frame.actors for frame in frames)


def _kept(frame: RecordedFrame) -> RecordedFrame:
    """The frame with arrays of its own: a simulator may fill the ones that it gave again."""
    arrays = {name: getattr(frame, name).copy() for name in ("labels", "counts", "instances", "pose_world_from_ego")}
    return replace(frame, **arrays)


def _check_followed(grid: Grid, plan: EgoPlan, frames: Sequence[RecordedFrame]) -> None:
    """Raise SimulatorError where a simulator's frames are not those of the plan, on its own grid."""
    if [frame.time_us for frame in frames] != plan.times_us.tolist():
        raise SimulatorError(
            f"The simulator yielded {len(frames)} frames, ending at {frames[-1].time_us if frames else '-'} us, for a "
            f"plan of {len(plan)} from {plan.times_us[0]} to {plan.times_us[-1]} us."
        )
    for number, frame in enumerate(frames):
        if frame.grid != grid:
            raise SimulatorError(f"Frame {number} lies on {frame.grid}; the simulator's grid is {grid}.")
    driven = np.stack([frame.pose_world_from_ego for frame in frames])
    away_m = float(np.linalg.norm(driven[:, :3, 3] - plan.poses_world_from_ego[:, :3, 3], axis=1).max())
    if away_m > PLAN_TOLERANCE_M:
        raise SimulatorError(f"The ego left its plan by {away_m:.2f} m; it has to follow it exactly.")
    yaw_rad = [planar_from_poses(poses)[:, 2] for poses in (driven, plan.poses_world_from_ego)]
    turned_rad = float(np.abs(wrap_angle(yaw_rad[0] - yaw_rad[1])).max())
    if turned_rad > PLAN_TOLERANCE_RAD:
        raise SimulatorError(
            f"The ego is turned away from its plan by {np.rad2deg(turned_rad):.1f} degrees; it has to follow it "
            "exactly. Left-handed matrices go through S M S with S = diag(1, -1, 1, 1) first."
        )


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
