"""What co-simulation makes: a drive, chunk by chunk, generated and recorded side by side."""

import enum
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from dyncity_sim.dataset.chunk_files import read_chunk
from dyncity_sim.domain.agreement import agreement_between_frames
from dyncity_sim.domain.conditions import Command, EgoPlan, SamplingOptions
from dyncity_sim.domain.generation import GeneratedChunk, ModelInfo, Timings
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

    @property
    def seed(self) -> int:
        """Seed that it was sampled with."""
        return self.generated.seed

    @property
    def timings(self) -> Timings:
        """Where the server's time went."""
        return self.generated.timings

    def occupancies(self) -> tuple[OccupancySequence, OccupancySequence]:
        """(Generated frames, the simulator's)."""
        return self.generated.occupancy, self.recorded


@dataclass(frozen=True, eq=False)
class StoredChunk:
    """One chunk of a drive whose frames are in a file and not in memory; all else is that of its DriveChunk.

    Attributes:
        file: holds the frames.
        model: what generated them.
    """

    file: Path
    model: ModelInfo
    plan: EgoPlan
    command: Command | None
    seed: int
    timings: Timings
    waited_s: float
    simulation_s: float

    def occupancies(self) -> tuple[OccupancySequence, OccupancySequence]:
        """(Generated frames, the simulator's), read from the file; raises as ``read_chunk`` does."""
        generated, recorded = read_chunk(self.file, self.model.grid, self.model.taxonomy)
        assert recorded is not None
        return generated, recorded


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

    chunks: tuple[DriveChunk | StoredChunk, ...]
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

    @property
    def frames(self) -> int:
        """How many it has."""
        return sum(len(chunk.plan) for chunk in self.chunks)

    @cached_property
    def generated(self) -> OccupancySequence:
        """All generated frames."""
        return concatenate([chunk.occupancies()[0] for chunk in self.chunks])

    @cached_property
    def recorded(self) -> OccupancySequence:
        """The simulator's frames at the same poses and times."""
        return concatenate([chunk.occupancies()[1] for chunk in self.chunks])


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
    within: list[float] = []
    borders: list[float] = []
    recorded_within: list[float] = []
    before = drive.history
    for chunk in drive.chunks:
        generated, recorded = chunk.occupancies()
        within.append(agreement_between_frames(generated, 0, -1))
        recorded_within.append(agreement_between_frames(recorded, 0, -1))
        if before is not None:
            borders.append(_border_agreement(before, generated))
        before = generated
    observed = 0 if drive.history is None else 1
    return DriveAgreement(
        within_chunks=_mean(within),
        across_borders=_mean(borders[observed:]),
        from_observed=_mean(borders[:observed]),
        recorded_within_chunks=_mean(recorded_within),
    )


def _border_agreement(before: OccupancySequence, after: OccupancySequence) -> float:
    return agreement_between_frames(concatenate([before[-1:], after[:1]]), 0, 1)


def _mean(values: list[float]) -> float:
    kept = [v for v in values if not np.isnan(v)]
    return float(np.mean(kept)) if kept else float("nan")
