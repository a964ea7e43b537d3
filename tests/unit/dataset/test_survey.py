"""Claims about what is counted in a data set, on sequences made in memory."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyncity_sim.dataset.label_maps import OCC3D_WAYMO_LABELS
from dyncity_sim.dataset.labelled import LabelledFrames, OccupancyDataset, gaps
from dyncity_sim.dataset.survey import count_commands, find_gaps, locate_frame, spread_frames, take_survey
from dyncity_sim.domain.conditions import Command
from dyncity_sim.domain.frames import Poses, poses_from_planar
from dyncity_sim.domain.grid import Grid
from dyncity_sim.errors import InvalidInputError

GRID = Grid((2, 2, 2), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
CLASSES = len(OCC3D_WAYMO_LABELS.taxonomy)


@dataclass
class Drawn:
    """A sequence whose frame ``n`` holds the class ``n % K`` in all cells, of which the lower half is observed."""

    name: str
    length: int
    poses_world_from_ego: Poses | None = None
    missing: tuple[int, ...] = ()

    def __len__(self) -> int:
        return self.length

    @property
    def times_us(self) -> np.ndarray:
        numbers = [n for n in range(self.length + len(self.missing)) if n not in self.missing]
        return np.array(numbers, np.int64) * 100_000

    def frames(self, start: int, stop: int) -> LabelledFrames:
        labels = np.empty((stop - start, *GRID.shape), np.uint8)
        labels[:] = (np.arange(start, stop) % CLASSES)[:, None, None, None]
        observed = np.zeros(labels.shape, np.bool_)
        observed[..., 0] = True
        return LabelledFrames(labels, observed)


def dataset(sequences: Sequence[Drawn]) -> OccupancyDataset:
    return OccupancyDataset("drawn", GRID, OCC3D_WAYMO_LABELS, 10, "", False, tuple(sequences))


@given(st.lists(st.integers(0, 40), max_size=6), st.integers(1, 60))
def test_a_sample_has_as_many_frames_as_said_spread_over_all(lengths: list[int], most: int) -> None:
    chosen = spread_frames(lengths, most)
    assert len(chosen) == len(lengths)
    starts = np.cumsum([0, *lengths])
    flat = [int(start) + frame for start, frames in zip(starts, chosen, strict=False) for frame in frames]
    assert len(flat) == min(most, sum(lengths))
    assert flat == sorted(set(flat))
    assert all(0 <= frame < length for length, frames in zip(lengths, chosen, strict=True) for frame in frames)
    gaps = np.diff(flat)
    assert gaps.size == 0 or gaps.max() - gaps.min() <= 1


@given(st.lists(st.integers(1, 40), min_size=1, max_size=4), st.integers(1, 50) | st.none())
def test_every_chosen_frame_is_counted_once_and_unobserved_cells_apart(lengths: list[int], most: int | None) -> None:
    told: list[int] = []
    drawn = dataset([Drawn(f"s{i}", length) for i, length in enumerate(lengths)])
    survey = take_survey(drawn, most, told.append)
    expected = np.zeros(CLASSES, np.int64)
    for frames in spread_frames(lengths, most):
        for frame in frames:
            expected[frame % CLASSES] += 4
    assert np.array_equal(survey.observed, expected)
    assert np.array_equal(survey.unobserved, expected)
    assert survey.frames == sum(told)
    assert survey.unobserved_share == 0.5


def driven(yaw_per_frame: float, step_m: float, length: int = 33) -> Poses:
    yaw = np.arange(length) * yaw_per_frame
    xy = np.cumsum(step_m * np.stack([np.cos(yaw), np.sin(yaw)], axis=1), axis=0)
    return poses_from_planar(np.column_stack([xy, yaw]))


@pytest.mark.parametrize(
    ("yaw_per_frame", "step_m", "command"),
    [(0.0, 0.0, Command.STATIC), (0.0, 0.8, Command.FORWARD), (0.03, 0.8, Command.LEFT), (-0.03, 0.8, Command.RIGHT)],
)
def test_chunks_are_counted_by_what_the_ego_does_in_them(yaw_per_frame: float, step_m: float, command: Command) -> None:
    known = Drawn("known", 33, driven(yaw_per_frame, step_m))
    assert count_commands(dataset([known, Drawn("unknown", 33)])) == {command: 2}


def test_frames_on_both_sides_of_a_gap_are_no_chunk_and_the_gap_is_told() -> None:
    whole = Drawn("whole", 33, driven(0.0, 0.8))
    early, late = (Drawn(name, 33, driven(0.0, 0.8), missing) for name, missing in (("e", (15,)), ("l", (16, 17))))
    assert count_commands(dataset([whole])) == {Command.FORWARD: 2}
    assert count_commands(dataset([early])) == {Command.FORWARD: 1}
    assert count_commands(dataset([late])) == {Command.FORWARD: 2}
    found = find_gaps(dataset([whole, early, late]))
    assert [(gap.sequence, gap.frame) for gap in found] == [("e", 14), ("l", 15)]
    assert [gap.seconds for gap in found] == pytest.approx([0.2, 0.3])


@given(st.lists(st.floats(0.6, 1.4), min_size=1, max_size=30), st.sampled_from([2, 10, 12.5]))
def test_clocks_that_keep_to_half_a_step_leave_no_gap(steps: list[float], rate_hz: float) -> None:
    times_us = np.cumsum([0, *steps]) * 1e6 / rate_hz
    assert gaps(times_us.astype(np.int64), rate_hz).tolist() == []
    times_us[-1] += 1e6 / rate_hz
    assert gaps(times_us.astype(np.int64), rate_hz).tolist() == [len(steps) - 1]


def test_poses_that_no_vehicle_drives_are_named_with_sequence_and_frame() -> None:
    poses = driven(0.0, 0.8).copy()
    poses[20:, 0, 3] += 500
    with pytest.raises(InvalidInputError, match=r"poses of jumps from frame 16 on: got .* m/s between frames 3 and 4"):
        count_commands(dataset([Drawn("jumps", 33, poses)]))


def test_frames_are_numbered_over_all_sequences() -> None:
    drawn = dataset([Drawn("a", 3), Drawn("b", 2)])
    assert [(s.name, n) for s, n in (locate_frame(drawn, frame) for frame in range(5))] == [
        ("a", 0),
        ("a", 1),
        ("a", 2),
        ("b", 0),
        ("b", 1),
    ]
    with pytest.raises(InvalidInputError, match="0 to 4"):
        locate_frame(drawn, 5)
