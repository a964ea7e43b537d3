"""What ends a drive of the loop before its time, and what is kept of it."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from dyncity_sim.cosim.drive import Start
from dyncity_sim.cosim.loop import run_drive
from dyncity_sim.cosim.progress import Step
from dyncity_sim.cosim.report import drive_facts
from dyncity_sim.cosim.stream import Patience
from dyncity_sim.cosim.write import drive_description
from dyncity_sim.domain.conditions import EgoPlan
from dyncity_sim.domain.frames import planar_from_poses, poses_from_planar
from dyncity_sim.domain.generation import GeneratedChunk
from dyncity_sim.domain.grid import CARLASC_GRID, LIDAR_HEIGHT_M, Grid
from dyncity_sim.domain.recording import RecordedFrame
from dyncity_sim.errors import (
    BusyError,
    InvalidInputError,
    RemoteError,
    RoadEndsError,
    SimulatorError,
    UnavailableError,
)

Build = Callable[..., Any]


class Clock:
    """Time that passes only in sleep."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def patience(self, limit_s: float) -> Patience:
        return Patience(limit_s, 0.5, self.sleep, lambda: self.now)


def test_a_server_that_comes_back_is_asked_the_same_again(scripted_street: Build, in_process_generator: Build) -> None:
    clock = Clock()
    generator = in_process_generator([UnavailableError("gone"), BusyError("full.", retry_after_s=2.0)])
    drive = run_drive(scripted_street(), generator, chunks=2, seed=9, patience=clock.patience(10.0))
    assert clock.slept == [0.5, 2.0]
    assert generator.asked[0] == generator.asked[1] == generator.asked[2]
    undisturbed = run_drive(scripted_street(), in_process_generator(), chunks=2, seed=9)
    np.testing.assert_array_equal(drive.generated.labels, undisturbed.generated.labels)


def test_a_server_that_stays_away_ends_the_drive_in_bounded_time(
    scripted_street: Build, in_process_generator: Build
) -> None:
    clock = Clock()
    generator = in_process_generator([UnavailableError("gone") for _ in range(100)])
    with pytest.raises(UnavailableError, match="gone"):
        run_drive(scripted_street(), generator, chunks=1, seed=0, patience=clock.patience(3.0))
    assert clock.now == 3.0


def test_a_failure_of_the_model_is_not_retried(scripted_street: Build, in_process_generator: Build) -> None:
    generator = in_process_generator([RemoteError("incident 7")])
    with pytest.raises(RemoteError, match="incident 7"):
        run_drive(scripted_street(), generator, chunks=1, seed=0)
    assert len(generator.asked) == 1


def test_a_simulator_that_leaves_the_plan_is_an_error(scripted_street: Build, in_process_generator: Build) -> None:
    with pytest.raises(SimulatorError, match=r"0\.20 m"):
        run_drive(scripted_street(drift_m=0.2), in_process_generator(), chunks=1, seed=0)


def following(street: Any, change: Callable[[RecordedFrame], RecordedFrame]) -> Any:
    """A street whose frames are changed on their way."""
    follow = street.follow

    def changed(plan: EgoPlan, generated: GeneratedChunk | None = None) -> Iterator[RecordedFrame]:
        return map(change, follow(plan, generated))

    street.follow = changed
    return street


def test_a_simulator_whose_ego_is_turned_away_from_the_plan_is_an_error(
    scripted_street: Build, in_process_generator: Build
) -> None:
    def mirrored(frame: RecordedFrame) -> RecordedFrame:
        return replace(
            frame,
            pose_world_from_ego=poses_from_planar(
                planar_from_poses(frame.pose_world_from_ego) * [1, 1, -1], LIDAR_HEIGHT_M
            ),
        )

    with pytest.raises(SimulatorError, match=r"turned away .* 73\.3 degrees.*S M S"):
        run_drive(following(scripted_street(yaw_rate_radps=0.4), mirrored), in_process_generator(), chunks=1, seed=0)


@pytest.mark.parametrize("start", Start)
def test_frames_on_another_grid_than_the_simulator_s_are_an_error(
    start: Start, scripted_street: Build, in_process_generator: Build
) -> None:
    shifted = replace(CARLASC_GRID, lower_m=(0.0, 0.0, 0.0))
    street = following(scripted_street(), lambda frame: replace(frame, grid=shifted))
    with pytest.raises(SimulatorError, match="Frame 0 lies on"):
        run_drive(street, in_process_generator(), chunks=1, seed=0, start=start)


def test_a_plan_that_begins_away_from_the_end_of_the_last_is_refused(
    scripted_street: Build, in_process_generator: Build
) -> None:
    street = scripted_street()
    plan = street.plan

    def jumping(frames: int) -> EgoPlan:
        planned = plan(frames)
        poses = planned.poses_world_from_ego.copy()
        poses[:, 0, 3] += 50.0 * (planned.times_us[0] > 100_000)
        return EgoPlan(poses, planned.times_us)

    street.plan = jumping
    with pytest.raises(InvalidInputError, match=r"begins 50\.6 m from the end") as caught:
        run_drive(street, in_process_generator(), chunks=1, seed=0)
    assert caught.value.field == "simulator.plan"


def test_another_grid_is_refused(scripted_street: Build, in_process_generator: Build) -> None:
    street = scripted_street()
    street.grid = Grid((200, 200, 16), (-40.0, -40.0, -1.0), (0.4, 0.4, 0.4))
    with pytest.raises(InvalidInputError, match=r"simulator\.grid"):
        run_drive(street, in_process_generator(), chunks=1, seed=0)


def test_a_server_with_other_weights_mid_drive_is_refused(scripted_street: Build, in_process_generator: Build) -> None:
    generator = in_process_generator()
    generator.backend.info = replace(generator.backend.info, model_id="other")
    with pytest.raises(InvalidInputError, match=r"reply\.model_id"):
        run_drive(scripted_street(), generator, chunks=1, seed=0)


@pytest.mark.parametrize("lookahead", [0, 1, 4])
def test_a_drive_whose_road_ends_has_the_chunks_up_to_there_and_says_so(
    lookahead: int, scripted_street: Build, dead_end_street: Build, in_process_generator: Build
) -> None:
    steps: list[Any] = []
    drive = run_drive(dead_end_street(4), in_process_generator(), 9, seed=3, lookahead=lookahead, on_step=steps.append)
    assert (len(drive.chunks), drive.ended) == (3, "the road ends here")
    assert steps[-1].done == steps[-1].total
    assert drive_description(drive)["ended"] == "the road ends here"
    assert ("ended early", "the road ends here") in drive_facts(drive)
    whole = run_drive(scripted_street(), in_process_generator(), 3, seed=3, lookahead=lookahead)
    np.testing.assert_array_equal(drive.generated.labels, whole.generated.labels)
    assert whole.ended == ""


@pytest.mark.parametrize("lookahead", [0, 1, 4])
def test_what_was_driven_before_the_servers_stay_away_is_kept_with_the_failure(
    lookahead: int, scripted_street: Build, in_process_generator: Build
) -> None:
    generator, street = in_process_generator(), scripted_street()
    gone = UnavailableError("gone for good")

    def on_step(step: Step) -> None:
        if step.doing == "driving" and street.steps == 40:
            generator.failures = [gone] * 100

    drive = run_drive(
        street, generator, 5, seed=9, patience=Clock().patience(3.0), on_step=on_step, lookahead=lookahead
    )
    assert (len(drive.chunks), drive.failure, drive.ended) == (2, gone, "gone for good")
    whole = run_drive(scripted_street(), in_process_generator(), 2, seed=9)
    np.testing.assert_array_equal(drive.generated.labels, whole.generated.labels)


def test_what_was_driven_before_the_simulator_fails_is_kept_without_what_it_showed(
    scripted_street: Build, in_process_generator: Build
) -> None:
    street = scripted_street()
    street.shown_tracks = ()

    def failing(frame: RecordedFrame) -> RecordedFrame:
        if street.steps == 40:
            raise SimulatorError("broken down")
        return frame

    drive = run_drive(following(street, failing), in_process_generator(), 5, seed=9)
    assert (len(drive.chunks), drive.ended, drive.shown_tracks) == (1, "broken down", None)
    assert drive_description(drive)["ended"] == "broken down"


@pytest.mark.parametrize("start", Start)
def test_a_road_that_ends_before_the_first_chunk_is_an_error(
    start: Start, dead_end_street: Build, in_process_generator: Build
) -> None:
    street = dead_end_street(1 if start is Start.OBSERVED else 0)
    with pytest.raises(RoadEndsError):
        run_drive(street, in_process_generator(), 2, seed=0, start=start)


def test_a_server_that_fails_mid_drive_leaves_no_trace_in_it(
    scripted_street: Build, in_process_generator: Build
) -> None:
    clock, generator = Clock(), in_process_generator()
    street = scripted_street()

    def on_step(step: Step) -> None:
        if step.doing == "driving" and street.steps in (20, 40):
            generator.failures = [UnavailableError("gone")]

    drive = run_drive(street, generator, 4, seed=9, patience=clock.patience(10.0), on_step=on_step, lookahead=2)
    assert clock.slept == [0.5, 0.5]
    undisturbed = run_drive(scripted_street(), in_process_generator(), 4, seed=9, lookahead=2)
    np.testing.assert_array_equal(drive.generated.labels, undisturbed.generated.labels)
