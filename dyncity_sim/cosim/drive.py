"""What co-simulation makes: a drive, chunk by chunk, generated and recorded side by side."""

import enum
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from dyncity_sim.domain.agreement import agreement_between_frames
from dyncity_sim.domain.conditions import Command, EgoPlan, SamplingOptions
from dyncity_sim.domain.generation import GeneratedChunk, ModelInfo
from dyncity_sim.domain.occupancy import OccupancySequence, concatenate
from dyncity_sim.domain.recording import ActorState
from dyncity_sim.domain.scene import Track
from dyncity_sim.errors import DyncityError


class Start(enum.Enum):
    """What the first chunk continues from."""

    OBSERVED = "observed"
    """What the simulator saw over the chunk before it."""
    PLAN = "plan"
    """Nothing: the first chunk is generated from the plan alone."""


@dataclass(frozen=True, eq=False)
class DriveChunk:
    """One chunk of a drive.

    Attributes:
        plan: what the ego was asked to do, and did.
        command: the command that was sent with it, or None when the model takes none.
        generated: the server's reply.
        recorded: what the simulator had at the same poses and times; ``observed`` is what its sensors saw.
        actors: the simulator's actors, frame by frame.
        waited_s: seconds the simulator stood still for the reply, retries included.
        simulation_s: seconds the simulator took to follow the plan.
    """

    plan: EgoPlan
    command: Command | None
    generated: GeneratedChunk
    recorded: OccupancySequence
    actors: tuple[tuple[ActorState, ...], ...]
    waited_s: float
    simulation_s: float


@dataclass(frozen=True, eq=False)
class Drive:
    """A whole drive.

    Attributes:
        chunks: at least one, in order.
        history: the chunk that was observed before the first, or None when it started from the plan.
        model: what generated it.
        seed: seed of the first chunk; chunk ``n`` has ``seed + n``.
        start: what the first chunk continued from.
        attribution: credit that the map's licence asks for; empty when none is due.
        opendrive: the simulator's road network.
        shown_tracks: the generated actors as the simulator showed them, or None when it showed nothing.
        options: how all chunks were sampled, but for the seed; None where that is not known.
        ended: why there are fewer chunks than were asked for; empty when there are not.
        failure: what broke the drive off, or None when it was driven to its end or that of the road.
    """

    chunks: tuple[DriveChunk, ...]
    history: OccupancySequence | None
    model: ModelInfo
    seed: int
    start: Start
    attribution: str
    opendrive: str
    shown_tracks: tuple[Track, ...] | None = None
    options: SamplingOptions | None = None
    ended: str = ""
    failure: DyncityError | None = None

    @cached_property
    def generated(self) -> OccupancySequence:
        """All generated frames."""
        return concatenate([chunk.generated.occupancy for chunk in self.chunks])

    @cached_property
    def recorded(self) -> OccupancySequence:
        """The simulator's frames at the same poses and times."""
        return concatenate([chunk.recorded for chunk in self.chunks])


@dataclass(frozen=True)
class DriveAgreement:
    """Static agreement of generated frames with each other, means over chunks; NaN when nothing compares.

    Attributes:
        within_chunks: first against last frame of each chunk.
        across_borders: last frame of a chunk against the first of the next.
        from_observed: last frame that was observed before the drive against the first that was generated.
        recorded_within_chunks: the simulator's own frames, first against last: what a perfect model reaches.
    """

    within_chunks: float
    across_borders: float
    from_observed: float
    recorded_within_chunks: float


def drive_agreement(drive: Drive) -> DriveAgreement:
    """How steadily the static world stands still in a drive."""
    parts = [chunk.generated.occupancy for chunk in drive.chunks]
    observed = [] if drive.history is None else [_border_agreement(drive.history, parts[0])]
    return DriveAgreement(
        within_chunks=_mean([agreement_between_frames(part, 0, -1) for part in parts]),
        across_borders=_mean([_border_agreement(before, after) for before, after in pairwise(parts)]),
        from_observed=_mean(observed),
        recorded_within_chunks=_mean([agreement_between_frames(c.recorded, 0, -1) for c in drive.chunks]),
    )


def _border_agreement(before: OccupancySequence, after: OccupancySequence) -> float:
    return agreement_between_frames(concatenate([before[-1:], after[:1]]), 0, 1)


def _mean(values: list[float]) -> float:
    kept = [v for v in values if not np.isnan(v)]
    return float(np.mean(kept)) if kept else float("nan")
