"""Chunks generated along a recorded drive, under conditions that the recording gives."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from dyncity_sim.dataset.drives import longer_drives
from dyncity_sim.dataset.labelled import OccupancyDataset, OccupancySource
from dyncity_sim.domain.agreement import agreement_between_frames
from dyncity_sim.domain.conditions import Command, Conditions, Continuation, EgoPlan, SamplingOptions, VehicleLayout
from dyncity_sim.domain.generation import GeneratedChunk, ModelInfo
from dyncity_sim.domain.occupancy import OccupancySequence, concatenate
from dyncity_sim.domain.taxonomy import CARLASC, Taxonomy
from dyncity_sim.errors import InvalidInputError, UnsupportedConditionError
from dyncity_sim.replay.regions import Region, region_mask


class Generator(Protocol):
    """What generates; ``dyncity_sim.client.DyncityClient`` is one."""

    def model_info(self) -> ModelInfo:
        """What the model can do."""
        ...

    def generate(self, conditions: Conditions, options: SamplingOptions | None = None) -> GeneratedChunk:
        """Generate one chunk."""
        ...

    def encode(self, occupancy: OccupancySequence) -> Continuation:
        """Turn observed occupancy into what the next chunk continues from."""
        ...


@dataclass(frozen=True)
class Replay:
    """What of a recorded drive conditions what is generated along it.

    Attributes:
        start: first frame to generate.
        chunks: chunks to generate, each continuing the one before.
        past: the first chunk continues what sensors saw over the chunk before ``start``.
        known: the part of the first chunk that is given, or None.
        layout: vehicles stand where they stood in the recording.
        command: sent instead of the command that each plan amounts to.
    """

    start: int = 0
    chunks: int = 1
    past: bool = False
    known: Region | None = None
    layout: bool = False
    command: Command | None = None


@dataclass(frozen=True, eq=False)
class ReplayedChunk:
    """A chunk beside what was recorded at the same poses and times.

    Attributes:
        conditions: what it was generated from.
        recorded: the recording; cells of sparse data that no sensor saw are unobserved.
        generated: the model's.
    """

    conditions: Conditions
    recorded: OccupancySequence
    generated: GeneratedChunk

    @property
    def rigidity(self) -> float:
        """Static agreement of first and last generated frame."""
        return agreement_between_frames(self.generated.occupancy, 0, len(self.generated.occupancy) - 1)


def replay_drive(
    generator: Generator,
    dataset: OccupancyDataset,
    source: OccupancySource,
    replay: Replay,
    options: SamplingOptions,
    told: Callable[[int], None] = lambda chunks: None,
) -> Iterator[ReplayedChunk]:
    """Generate chunk after chunk along a sequence of a data set; chunk ``n`` has the seed ``options.seed + n``.

    Args:
        generator: the model.
        dataset: says what the sequence's labels mean.
        source: one of its sequences.
        replay: what is taken from it.
        options: of every chunk; the seed must be set.
        told: called with the chunks done.

    Raises:
        InvalidInputError: the sequence has no poses or too few frames, or does not fit the model.
        UnsupportedConditionError: the model was not trained with a condition that was asked for, or its chunks do not
            follow one another and several were.
    """
    model = generator.model_info()
    _check_fit(dataset, replay, model)
    frames, first = model.frames_per_chunk, replay.start
    needed = range(first - frames * replay.past, first + replay.chunks * frames)
    if needed.start < 0:
        past = f"at least {frames}, so that there is a chunk of the past" if replay.past else "at least 0"
        raise InvalidInputError("start", first, past)
    if needed.stop > len(source):
        past = f", {frames} of them before frame {first}" if replay.past else ""
        raise InvalidInputError(
            "frames",
            f"{len(source)} in {source.name}",
            f"{len(needed)} from frame {needed.start} on{past}",
            longer_drives(dataset),
        )
    assert options.seed is not None
    continuation = None
    if replay.past:
        continuation = generator.encode(_recorded(dataset, source, model.taxonomy, first - frames, first, seen=True))
    for number in range(replay.chunks):
        start = first + number * frames
        recorded = _recorded(dataset, source, model.taxonomy, start, start + frames, seen=not dataset.dense)
        plan = EgoPlan(recorded.poses_world_from_ego, recorded.times_us)
        conditions = Conditions(
            plan=plan if "plan" in model.conditions else None,
            command=(replay.command or plan.command) if "command" in model.conditions else None,
            continuation=continuation,
            layout=VehicleLayout.of(recorded) if replay.layout else None,
            known_region=_known(recorded, replay.known) if replay.known and not number else None,
        )
        generated = generator.generate(conditions, replace(options, seed=options.seed + number))
        continuation = generated.continuation if "continuation" in model.conditions else None
        told(number + 1)
        yield ReplayedChunk(conditions, recorded, generated)


def border_agreement(before: ReplayedChunk, after: ReplayedChunk) -> float:
    """Static agreement of the last generated frame of a chunk and the first of the next."""
    return agreement_between_frames(concatenate([before.generated.occupancy[-1:], after.generated.occupancy[:1]]), 0, 1)


def _check_fit(dataset: OccupancyDataset, replay: Replay, model: ModelInfo) -> None:
    if dataset.grid != model.grid:
        raise InvalidInputError(
            "grid", dataset.grid, f"the model's {model.grid}", "Grids are never resampled silently."
        )
    if dataset.rate_hz != model.rate_hz:
        raise InvalidInputError("rate_hz", dataset.rate_hz, f"{model.rate_hz:g}, the model's")
    if replay.chunks > 1 and not {"plan", "continuation"} & set(model.conditions):
        raise UnsupportedConditionError(
            f"Model {model.model_id} was trained with neither 'plan' nor 'continuation', so that its chunks do not "
            "follow one another. Generate one."
        )


def _known(recorded: OccupancySequence, region: Region) -> OccupancySequence:
    mask = region_mask(region, len(recorded), recorded.grid)
    if recorded.observed is not None:
        mask &= recorded.observed
    return replace(recorded, observed=mask)


def _recorded(
    dataset: OccupancyDataset, source: OccupancySource, taxonomy: Taxonomy, start: int, stop: int, seen: bool
) -> OccupancySequence:
    """Frames in the model's taxonomy, where ``seen`` with the mask of what sensors saw."""
    poses, times_us = source.poses_world_from_ego, source.times_us
    if poses is None or times_us is None:
        raise InvalidInputError(
            f"poses of {source.name}", "none", "a pose and a time for each frame", "A plan is made of them."
        )
    read = source.frames(start, stop)
    labels = read.labels
    if taxonomy == CARLASC:
        labels = dataset.label_map.to_carlasc(labels)
    elif taxonomy != dataset.taxonomy:
        raise InvalidInputError("taxonomy", dataset.taxonomy.id, f"{taxonomy.id}, the model's, or {CARLASC.id}")
    observed = np.ascontiguousarray(read.observed) if seen else None
    return OccupancySequence(labels, poses[start:stop], times_us[start:stop], dataset.grid, taxonomy, observed)
