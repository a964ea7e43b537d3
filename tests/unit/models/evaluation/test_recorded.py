"""Recorded drives as a model is measured on them."""

from dataclasses import replace

import numpy as np
import pytest
from dyncity_models.evaluation.recorded import RecordedDrives, recorded_plans

from dyncity_sim.domain.conditions import Command, EgoPlan
from dyncity_sim.domain.frames import planar_from_poses
from dyncity_sim.domain.grid import CARLASC_GRID, Grid
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.errors import InvalidInputError


def test_recorded_plans_are_of_the_middle_of_the_drives(recording, backend, street_clip):
    plans, further_turns = recorded_plans(RecordedDrives([recording], backend.info), 3, 2)
    assert len(plans) == 3
    assert further_turns == []
    planar = planar_from_poses(plans[0].plan.poses_world_from_ego)
    assert np.allclose(planar, street_clip.planar[12:28])
    assert [recorded.plan.command for recorded in plans] == [Command.FORWARD, Command.FORWARD, Command.STATIC]


def test_of_more_chunks_than_drives_each_drive_gives_one(recording, backend):
    drives = RecordedDrives([recording], backend.info)
    for drive, chunk in zip(range(3), drives.spread(60), strict=True):
        assert np.array_equal(chunk.labels, drives.occupancy(drive, drives.middle(drive)).labels)


def test_recorded_chunks_hold_the_truth_and_what_was_seen_of_it(recording, backend, street_clip):
    chunk = RecordedDrives([recording], backend.info).occupancy(0, 12)
    assert np.array_equal(chunk.labels, street_clip.labels[12:28])
    assert np.array_equal(chunk.observed, street_clip.observed[12:28])
    assert np.diff(chunk.times_us).tolist() == [100_000] * 15


def test_a_model_of_part_of_the_grid_is_measured_on_that_part(recording, backend):
    middle = Grid((64, 64, 8), (-12.8, -12.8, -2.0), CARLASC_GRID.voxel_size_m)
    info = replace(backend.info, grid=middle, frames_per_chunk=8)
    whole, part = (RecordedDrives([recording], i).occupancy(0, 4, 8) for i in (backend.info, info))
    assert part.grid == middle
    assert np.array_equal(part.labels, whole.labels[:, 32:96, 32:96])


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"grid": Grid((64, 64, 8), (0.0, -12.8, -2.0), CARLASC_GRID.voxel_size_m)}, "grid of the data"),
        ({"rate_hz": 2.0}, "rate_hz of the data"),
        ({"taxonomy": replace(CARLASC, id="other")}, "taxonomy of the data"),
    ],
)
def test_recordings_that_do_not_fit_a_model_are_refused_by_field(recording, backend, change, field):
    with pytest.raises(InvalidInputError, match=field):
        RecordedDrives([recording], replace(backend.info, **change))


def test_turns_beyond_half_of_the_plans_come_from_the_drives_that_are_left(plan_along):
    turns, straight = [plan_along(6.0, 0.1 * n) for n in range(3, 8)], [plan_along(6.0)] * 4

    class Drives:
        def __len__(self) -> int:
            return 9

        def middle(self, drive: int) -> int:
            return 0

        def plan(self, drive: int, start: int) -> EgoPlan:
            return [*turns, *straight][drive]

    plans, further = recorded_plans(Drives(), 4, 4)
    assert [recorded.turns for recorded in plans] == [True, True, False, False]
    assert [recorded.turns for recorded in further] == [True, True]
    assert len({recorded.drive for recorded in [*plans, *further]}) == 6
