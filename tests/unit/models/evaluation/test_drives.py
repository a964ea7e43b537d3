"""Drives and layouts, scored over a backend that gives back what was recorded."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from dyncity_models.diffusion.sampling import make_sampler
from dyncity_models.evaluation.drives import drift, generate_drive
from dyncity_models.evaluation.layouts import layout_iou, score_layouts
from dyncity_models.evaluation.recorded import RecordedDrives
from dyncity_models.evaluation.report import drive_scores

from dyncity_sim.domain.agreement import agreement_between_frames
from dyncity_sim.domain.conditions import Conditions, Continuation, EgoPlan, SamplingOptions, VehicleLayout
from dyncity_sim.domain.generation import GeneratedChunk, Timings
from dyncity_sim.domain.grid import CARLASC_GRID
from dyncity_sim.domain.taxonomy import CARLASC, CARLASC_RAW
from dyncity_sim.engine.null import NullBackend
from dyncity_sim.errors import CheckpointError, InvalidInputError

ROAD, SIDEWALK, BUILDING = (CARLASC.index(name) for name in ("road", "sidewalk", "building"))


class Replay:
    """A backend that gives back a recorded drive, each chunk with some columns of vehicles moved aside."""

    def __init__(self, street, with_layout=None):
        self.street, self.with_layout, self.asked, self.seeds = street, with_layout, [], []
        self.info = replace(
            NullBackend.info, model_id="replay", conditions=("continuation", "plan", "layout", "command")
        )

    def warm_up(self):
        pass

    def encode(self, occupancy):
        return Continuation("replay", bytes([1]))

    def generate(self, conditions, options, checkpoint):
        self.asked.append(conditions)
        self.seeds.append(options.seed)
        number = 0 if conditions.continuation is None else conditions.continuation.payload[0]
        chunk = self.street[number * 16 : number * 16 + 16]
        if conditions.layout is not None:
            chunk = self.with_layout
        chunk = replace(chunk, poses_world_from_ego=conditions.plan.poses_world_from_ego)
        return GeneratedChunk(chunk, Continuation("replay", bytes([number + 1])), options.seed, "replay", Timings())


def test_a_drive_that_is_given_back_as_recorded_does_not_drift(build_street):
    street = build_street(144, 5.0, curvature_per_m=0.005)
    backend = Replay(street)
    score, last = generate_drive(backend, street, seed=0, steps=None)
    rows = drift([score])
    assert np.array_equal(last.labels, street.labels[128:])
    assert [row["chunk"] for row in rows] == list(range(1, 9))
    assert [c.plan.times_us[0] for c in backend.asked] == [n * 1_600_000 for n in range(1, 9)]
    for row in rows:
        assert row["road_under_path"] == 1.0
        assert row["static_agreement_0_15"] > 0.9
        assert row["border_agreement"] > 0.95
        assert row["class_share_distance"] == row["class_share_distance_recorded"] < 0.02


def test_a_border_is_between_the_last_frame_of_a_chunk_and_the_first_of_the_next(build_street, street_actor):
    kiosks = [street_actor(9.7 * n, 6.6, size_m=(3.0, 2.0, 3.0), label=BUILDING) for n in range(25)]
    street = build_street(144, 14.0, kiosks)
    score, _ = generate_drive(Replay(street), street, seed=0, steps=None)
    assert score.borders == pytest.approx([agreement_between_frames(street, n - 1, n) for n in range(16, 144, 16)])


def test_drift_shows_in_the_chunk_where_it_begins(build_street):
    street = build_street(144, 5.0)
    labels = street.labels.copy()
    labels[80:][labels[80:] == ROAD] = SIDEWALK
    score, _ = generate_drive(Replay(replace(street, labels=labels)), street, seed=0, steps=None)
    rows = drift([score, score])
    road_share = (street.labels == ROAD).sum() / (street.labels > 0).sum()
    for row in rows:
        drifted = row["chunk"] >= 5
        assert row["road_under_path"] == (0.0 if drifted else 1.0)
        assert row["class_share_distance"] == pytest.approx(road_share if drifted else 0.0, abs=0.01)
        assert row["class_share_distance_recorded"] == pytest.approx(0.0, abs=0.01)
        assert (row["border_agreement"] < 0.99) == (row["chunk"] == 5)


class RunsAwayAtFirst(Replay):
    """Its first drive fails at the third chunk."""

    def __init__(self, street, error):
        super().__init__(street)
        self.error = error

    def generate(self, conditions, options, checkpoint):
        if len(self.asked) == 2:
            self.asked.append(conditions)
            raise self.error
        return super().generate(conditions, options, checkpoint)


@pytest.fixture
def long_drives(write_recording, tmp_path):
    raw = np.zeros(CARLASC_GRID.shape, np.uint8)
    raw[..., 0] = CARLASC_RAW.index("road")
    folder = write_recording(tmp_path / "town", raw, np.ones(raw.shape, np.float32), 144, lengths=(144,))
    return RecordedDrives([folder], Replay(None).info)


def beyond_half_precision():
    return CheckpointError("weights", "latents of up to 1e9", "latents within half precision")


def no_number():
    noise = torch.zeros(1, 3)
    with pytest.raises(InvalidInputError) as raised:
        make_sampler("ddpm", "gaussian", 2).sample(lambda *_: torch.full((1, 6), torch.nan), noise, lambda: noise)
    return raised.value


class SixDrives:
    """Six drives of which the first and the fourth are too short."""

    frames = 16

    def __init__(self, street):
        self.street, self.read = street, []

    def __len__(self):
        return 6

    def length(self, drive):
        return 143 if drive in (0, 3) else 144

    def occupancy(self, drive, start, frames):
        self.read.append(drive)
        return self.street


@pytest.mark.parametrize(("count", "read"), [(0, []), (1, [1]), (2, [1, 5]), (3, [1, 2, 5]), (9, [1, 2, 4, 5])])
def test_drives_are_spread_over_all_that_are_long_enough(build_street, capsys, count, read):
    street = build_street(144, 5.0)
    drives = SixDrives(street)
    assert len(drive_scores(Replay(street), drives, count, seed=0, steps=None)) == len(read)
    assert drives.read == read
    told = "There are 4 drives, of 144 recorded frames or more, where 9 were asked for." in capsys.readouterr().err
    assert told == (count == 9)


def test_each_chunk_of_each_drive_has_noise_of_its_own(build_street):
    street = build_street(144, 5.0)
    backend = Replay(street)
    drive_scores(backend, SixDrives(street), 3, seed=5, steps=None)
    assert len(set(backend.seeds)) == len(backend.seeds) == 24
    assert backend.seeds[:8] == list(range(6, 14))


@pytest.mark.parametrize("error_of", [beyond_half_precision, no_number])
def test_a_drive_that_runs_away_is_counted_and_does_not_end_the_evaluation(build_street, long_drives, error_of):
    backend = RunsAwayAtFirst(build_street(144, 5.0), error_of())
    scores = drive_scores(backend, long_drives, 2, seed=0, steps=None)
    assert scores[0] is None
    assert len(scores[1].borders) == 8


def test_a_drive_that_fails_otherwise_ends_the_evaluation(build_street, long_drives):
    backend = RunsAwayAtFirst(build_street(144, 5.0), InvalidInputError("keep", "half a file", "a whole one"))
    with pytest.raises(InvalidInputError, match="keep"):
        drive_scores(backend, long_drives, 2, seed=0, steps=None)


def test_layouts_are_scored_over_the_chunks_with_vehicles_with_and_without_them(build_street, street_actor):
    asked_for = build_street(16, 5.0, [street_actor(10.4, -2.4, size_m=(1.6, 1.6, 1.5))])
    alone = build_street(16, 5.0)
    both = build_street(16, 5.0, [street_actor(x, -2.4, size_m=(1.6, 1.6, 1.5)) for x in (10.4, -8.8)])
    plan = EgoPlan(alone.poses_world_from_ego, alone.times_us)
    backend = Replay(alone, with_layout=both)
    without = [backend.generate(Conditions(plan), SamplingOptions(seed=seed), lambda step: None) for seed in (4, 5)]
    score = score_layouts(backend, iter([(plan, asked_for), (plan, alone)]), without, steps=None)
    asked, found = (VehicleLayout.of(street).cells for street in (asked_for, both))
    assert score.cells.tolist() == [[asked.sum(), found.sum()]]
    assert score.cells_without.tolist() == [[0, asked.sum()]]
    assert 0.3 < layout_iou(score.cells.sum(axis=0)) < 0.7
    assert layout_iou(score.cells_without.sum(axis=0)) == 0.0
    assert np.array_equal(backend.asked[-1].layout.cells, asked)
