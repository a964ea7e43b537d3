"""Drives of the loop: chunks, conditions, plans, and what comes of them."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dyncity_sim.cosim.drive import Start, drive_agreement
from dyncity_sim.cosim.loop import run_drive
from dyncity_sim.cosim.simulator import find_simulator
from dyncity_sim.domain.conditions import Command, EgoPlan, SamplingOptions
from dyncity_sim.domain.generation import GeneratedChunk
from dyncity_sim.domain.recording import RecordedFrame
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.errors import (
    InvalidInputError,
    UnsupportedConditionError,
)

Build = Callable[..., Any]


def test_a_drive_is_as_long_as_asked_and_its_time_runs_on(scripted_street: Build, in_process_generator: Build) -> None:
    drive = run_drive(scripted_street(), in_process_generator(), chunks=3, seed=5)
    assert len(drive.generated) == len(drive.recorded) == 48
    assert (np.diff(drive.generated.times_us) == 100_000).all()
    assert drive.history is not None
    assert drive.generated.times_us[0] == drive.history.times_us[-1] + 100_000
    np.testing.assert_array_equal(drive.generated.poses_world_from_ego, drive.recorded.poses_world_from_ego)


def test_time_that_the_simulator_takes_is_told_apart_from_that_which_it_waits(
    scripted_street: Build, in_process_generator: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    street = scripted_street()
    monkeypatch.setattr("dyncity_sim.cosim.loop.time", SimpleNamespace(perf_counter=lambda: float(street.steps)))
    drive = run_drive(street, in_process_generator(), chunks=2, seed=0)
    assert [(chunk.waited_s, chunk.simulation_s) for chunk in drive.chunks] == [(0.0, 16.0)] * 2


def test_a_simulator_may_fill_the_arrays_of_one_frame_again_for_the_next(
    scripted_street: Build, in_process_generator: Build
) -> None:
    filled: dict[str, np.ndarray] = {}

    def again(frame: RecordedFrame) -> RecordedFrame:
        for name in ("labels", "counts", "instances", "pose_world_from_ego"):
            filled.setdefault(name, getattr(frame, name).copy())[...] = getattr(frame, name)
        return replace(frame, **filled)

    street = scripted_street()
    follow = street.follow
    street.follow = lambda plan, generated=None: map(again, follow(plan, generated))
    drive, expected = (run_drive(s, in_process_generator(), chunks=2, seed=0) for s in (street, scripted_street()))
    assert np.array_equal(drive.recorded.labels, expected.recorded.labels)
    assert np.array_equal(drive.recorded.poses_world_from_ego, expected.recorded.poses_world_from_ego)
    assert np.array_equal(drive.recorded.observed, expected.recorded.observed)


def test_every_chunk_continues_the_one_before_with_the_next_seed(
    scripted_street: Build, in_process_generator: Build
) -> None:
    generator = in_process_generator()
    drive = run_drive(scripted_street(), generator, chunks=3, seed=40, options=SamplingOptions(steps=3))
    assert [options.seed for _, options in generator.asked] == [40, 41, 42]
    assert {options.steps for _, options in generator.asked} == {3}
    assert [c.generated.seed for c in drive.chunks] == [40, 41, 42]
    handed_back = [conditions.continuation for conditions, _ in generator.asked[1:]]
    assert handed_back == [c.generated.continuation for c in drive.chunks[:-1]]
    assert generator.asked[0][0].continuation == generator.backend.encode(drive.history)


def test_the_encoder_is_shown_merged_labels_and_what_was_observed(
    scripted_street: Build, in_process_generator: Build
) -> None:
    generator = in_process_generator()
    run_drive(scripted_street(), generator, chunks=1, seed=0)
    (shown,) = generator.encoded
    assert shown.taxonomy == CARLASC
    assert CARLASC.index("ground") in shown.labels[0, :, :, 0]
    assert shown.observed is not None
    assert shown.observed[0, 64, 64, 0]
    assert not shown.observed[0, 0, 0, 0]


def test_a_start_from_the_plan_observes_and_encodes_nothing(
    scripted_street: Build, in_process_generator: Build
) -> None:
    generator, street = in_process_generator(), scripted_street()
    drive = run_drive(street, generator, chunks=1, seed=0, start=Start.PLAN)
    assert not generator.encoded
    assert drive.history is None
    assert generator.asked[0][0].continuation is None
    assert street.steps == 16


@pytest.mark.parametrize(
    ("speed_mps", "yaw_rate_radps", "command"),
    [(0.0, 0.0, Command.STATIC), (6.0, 0.0, Command.FORWARD), (6.0, 0.4, Command.LEFT), (6.0, -0.4, Command.RIGHT)],
)
def test_the_command_sent_is_what_the_plan_amounts_to(
    speed_mps: float, yaw_rate_radps: float, command: Command, scripted_street: Build, in_process_generator: Build
) -> None:
    generator = in_process_generator()
    drive = run_drive(scripted_street(speed_mps, yaw_rate_radps), generator, chunks=1, seed=0)
    assert generator.asked[0][0].command is command
    assert drive.chunks[0].command is command


def test_a_condition_the_weights_do_not_know_is_not_sent(scripted_street: Build, in_process_generator: Build) -> None:
    generator = in_process_generator()
    generator.backend.info = replace(generator.backend.info, conditions=("plan", "continuation"))
    run_drive(scripted_street(), generator, chunks=1, seed=0)
    assert generator.asked[0][0].command is None
    assert generator.asked[0][0].plan is not None


def test_a_model_that_cannot_continue_is_refused_before_anything_moves(
    scripted_street: Build, in_process_generator: Build
) -> None:
    generator, street = in_process_generator(), scripted_street()
    generator.backend.info = replace(generator.backend.info, conditions=("plan",))
    with pytest.raises(UnsupportedConditionError, match="continuation"):
        run_drive(street, generator, chunks=2, seed=0, start=Start.PLAN)
    assert street.steps == 0
    assert len(run_drive(street, generator, chunks=1, seed=0, start=Start.PLAN).chunks) == 1


def test_a_model_that_does_not_know_where_the_ego_goes_is_refused_before_anything_moves(
    scripted_street: Build, in_process_generator: Build
) -> None:
    generator, street = in_process_generator(), scripted_street()
    generator.backend.info = replace(generator.backend.info, conditions=("command", "continuation"))
    with pytest.raises(UnsupportedConditionError, match="needs 'plan'"):
        run_drive(street, generator, chunks=1, seed=0)
    assert street.steps == 0


@pytest.mark.parametrize("lookahead", [0, 1, 2, 4])
def test_plans_are_made_as_far_ahead_as_asked_and_followed_in_order(
    lookahead: int, scripted_street: Build, in_process_generator: Build
) -> None:
    street = scripted_street()
    chunks_ahead = []
    plan = street.plan

    def watched(frames: int) -> EgoPlan:
        chunks_ahead.append((max(street.planned, street.steps) - street.steps) // frames)
        return plan(frames)

    street.plan = watched
    drive = run_drive(street, in_process_generator(), chunks=5, seed=0, lookahead=lookahead)
    assert chunks_ahead == [0, *range(lookahead), *[lookahead] * (5 - lookahead)]
    assert (np.diff(drive.generated.times_us) == 100_000).all()


def test_on_a_road_that_can_be_foreseen_the_lookahead_changes_nothing(
    scripted_street: Build, in_process_generator: Build
) -> None:
    turns, ahead = (
        run_drive(scripted_street(5.0, 0.1), in_process_generator(), 3, seed=3, lookahead=lookahead)
        for lookahead in (0, 2)
    )
    np.testing.assert_array_equal(turns.generated.labels, ahead.generated.labels)


def test_the_simulator_is_shown_each_chunk_with_the_plan_it_was_generated_for(
    scripted_street: Build, in_process_generator: Build
) -> None:
    street = scripted_street()
    follow, shown = street.follow, []

    def watched(plan: EgoPlan, generated: GeneratedChunk | None = None) -> Iterator[RecordedFrame]:
        shown.append((plan, generated))
        return follow(plan, generated)

    street.follow = watched
    drive = run_drive(street, in_process_generator(), chunks=3, seed=0)
    assert shown[0][1] is None
    assert shown[1:] == [(chunk.plan, chunk.generated) for chunk in drive.chunks]


def test_a_simulator_that_plans_from_now_on_only_is_told_to_drive_without_lookahead(
    scripted_street: Build, in_process_generator: Build
) -> None:
    class Forgetful(type(scripted_street())):  # type: ignore[misc]
        def plan(self, frames: int) -> EgoPlan:
            self.planned = 0
            return super().plan(frames)

    with pytest.raises(InvalidInputError, match="lookahead of 0"):
        run_drive(Forgetful(), in_process_generator(), chunks=3, seed=0)
    assert len(run_drive(Forgetful(), in_process_generator(), chunks=3, seed=0, lookahead=0).chunks) == 3


@pytest.mark.parametrize(("chunks", "seed", "lookahead"), [(0, 1, 1), (1, -1, 1), (2, 2**63 - 1, 1), (1, 1, 5)])
def test_impossible_counts_and_seeds_are_refused(
    chunks: int, seed: int, lookahead: int, scripted_street: Build, in_process_generator: Build
) -> None:
    with pytest.raises(InvalidInputError):
        run_drive(scripted_street(), in_process_generator(), chunks=chunks, seed=seed, lookahead=lookahead)


def test_progress_ends_at_its_total(scripted_street: Build, in_process_generator: Build) -> None:
    steps: list[Any] = []
    run_drive(scripted_street(), in_process_generator(), chunks=2, seed=0, on_step=steps.append)
    assert [s.done for s in steps] == sorted(s.done for s in steps)
    assert steps[-1].done == steps[-1].total == 3 * 17
    assert {s.doing for s in steps} == {"observing", "encoding", "generating", "driving", "driven"}


def test_a_street_that_stands_still_agrees_with_itself(scripted_street: Build, in_process_generator: Build) -> None:
    agreement = drive_agreement(run_drive(scripted_street(), in_process_generator(), chunks=2, seed=0))
    assert agreement.recorded_within_chunks > 0.9
    assert agreement.within_chunks > 0.9
    assert agreement.across_borders > 0.9
    assert 0.0 < agreement.from_observed < agreement.across_borders


def test_nothing_was_observed_where_a_drive_starts_from_its_plan(
    scripted_street: Build, in_process_generator: Build
) -> None:
    drive = run_drive(scripted_street(), in_process_generator(), chunks=1, seed=0, start=Start.PLAN)
    agreement = drive_agreement(drive)
    assert np.isnan(agreement.from_observed)
    assert np.isnan(agreement.across_borders)


def test_an_unknown_simulator_is_named_with_those_there_are() -> None:
    with pytest.raises(InvalidInputError, match=r"'beamng'.*sumo"):
        find_simulator("beamng")
