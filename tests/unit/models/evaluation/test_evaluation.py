import json
from argparse import Namespace
from dataclasses import replace

import numpy as np
import pytest
import torch
from dyncity_models.diffusion.sampling import make_sampler
from dyncity_models.evaluation import report
from dyncity_models.evaluation.drives import drift, generate_drive
from dyncity_models.evaluation.figures import share_ratios
from dyncity_models.evaluation.generation import generate_from_plans, road_under_path, turns_as_planned
from dyncity_models.evaluation.layouts import LayoutScore, score_layouts
from dyncity_models.evaluation.reconstruction import AnchoredReconstructor, posterior_noise_share, reconstruct
from dyncity_models.evaluation.recorded import RecordedDrives, recorded_plans
from dyncity_models.evaluation.report import drive_scores, evaluate
from dyncity_models.evaluation.scores import class_iou, confusion_matrix, mean_iou, occupied_iou
from dyncity_models.hexplane import Planes
from PIL import Image

from dyncity_sim.cli.main import main
from dyncity_sim.domain.conditions import (
    Command,
    Conditions,
    Continuation,
    EgoPlan,
    SamplingOptions,
    VehicleLayout,
)
from dyncity_sim.domain.frames import planar_from_poses
from dyncity_sim.domain.generation import GeneratedChunk, Timings
from dyncity_sim.domain.grid import CARLASC_GRID, Grid
from dyncity_sim.domain.taxonomy import CARLASC, CARLASC_RAW
from dyncity_sim.engine.null import NullBackend
from dyncity_sim.errors import CheckpointError, InvalidInputError, StorageError

ROAD, SIDEWALK = CARLASC.index("road"), CARLASC.index("sidewalk")


def test_the_confusion_matrix_counts_truth_by_row_and_prediction_by_column():
    truth = torch.tensor([0, 1, 1, 2, 2, 2], dtype=torch.uint8)
    predicted = torch.tensor([0, 1, 2, 2, 2, 0], dtype=torch.uint8)
    assert confusion_matrix(truth, predicted, 3).tolist() == [[1, 0, 0], [0, 1, 1], [1, 0, 2]]


def test_iou_is_intersection_over_union_and_nan_where_a_class_is_absent():
    confusion = torch.tensor([[8, 0, 2, 0], [0, 0, 0, 0], [1, 0, 3, 0], [0, 0, 1, 1]])
    iou = class_iou(confusion)
    assert iou[[0, 2, 3]].tolist() == pytest.approx([8 / 11, 3 / 7, 1 / 2])
    assert iou[1].isnan()


def test_mean_iou_leaves_out_free_space_and_what_the_truth_does_not_hold():
    confusion = torch.tensor([[8, 1, 1, 0], [0, 0, 0, 0], [1, 0, 3, 0], [0, 1, 0, 1]])
    assert mean_iou(confusion) == pytest.approx((3 / 5 + 1 / 2) / 2)
    assert np.isnan(mean_iou(torch.tensor([[5, 1], [0, 0]])))


def test_occupied_cells_are_scored_whatever_their_class():
    confusion = torch.tensor([[50, 2, 0], [3, 10, 5], [1, 4, 6]])
    assert occupied_iou(confusion) == pytest.approx(25 / 31)
    assert np.isnan(occupied_iou(torch.zeros(3, 3, dtype=torch.int64)))


def test_all_of_the_path_is_road_in_a_street_that_follows_it(build_street):
    for curvature_per_m in (0.0, 0.03, -0.03):
        assert road_under_path(build_street(16, 8.0, curvature_per_m=curvature_per_m)) == 1.0


def test_the_share_of_road_is_that_of_the_columns_under_the_path(build_street):
    street = build_street(16, 8.0)
    labels = street.labels.copy()
    labels[:, 64:][labels[:, 64:] == ROAD] = SIDEWALK
    # of the sixteen poses, seen from the ninth, the first eight lie behind and the ninth is at the border
    assert road_under_path(replace(street, labels=labels)) == pytest.approx(8 / 16)
    labels[labels == ROAD] = SIDEWALK
    assert road_under_path(replace(street, labels=labels)) == 0.0


def test_a_path_half_off_the_road_is_half_under_road(build_street):
    """The kerb runs along the path: the two columns on and right of it are road, the left one is not."""
    street = build_street(16, 8.0)
    labels = street.labels.copy()
    left = labels[:, :, 65:]
    left[left == ROAD] = SIDEWALK
    assert road_under_path(replace(street, labels=labels)) == pytest.approx(2 / 3)


def test_a_world_that_moves_as_planned_is_told_from_its_mirror_image(build_street, street_actor):
    landmark = street_actor(15.0, 10.0, 0.3, 0.0, (4.0, 4.0, 2.5), label=CARLASC.index("building"))
    turning = build_street(16, 10.0, [landmark], curvature_per_m=0.04)
    mirror = np.diag([1.0, -1.0, 1.0, 1.0])
    other_way = replace(turning, poses_world_from_ego=mirror @ turning.poses_world_from_ego @ mirror)
    assert turns_as_planned(turning)
    assert not turns_as_planned(other_way)


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


@pytest.mark.parametrize("count", [3, 6])
def test_the_noise_share_is_the_posterior_variance_over_the_whole(count):
    generator = torch.Generator().manual_seed(0)

    def planes(value):
        return Planes(*(value(shape) for shape in ((1, 2, 64, 64), *[(1, 2, 8, 512)] * (count - 1))))

    means = planes(lambda shape: 3.0 * torch.randn(shape, generator=generator))
    shares = posterior_noise_share([(means, planes(torch.zeros))])
    assert shares == pytest.approx(dict.fromkeys(("xy", "tx", "ty", "xz", "yz", "tz")[:count], 0.1), abs=0.01)


def test_chunks_of_perfect_weights_would_score_full_marks(backend, recording, monkeypatch):
    """The decoder is replaced by the truth: what is left is the counting."""
    chunks = list(RecordedDrives([recording], backend.info).spread(2))
    truths = iter([torch.from_numpy(chunk.labels.copy())[None] for chunk in chunks])
    monkeypatch.setattr(backend.pipeline, "decode", lambda planes, poses: next(truths))
    scores = reconstruct(AnchoredReconstructor(backend.pipeline), chunks)
    assert scores.miou_by_frame == pytest.approx([100.0] * 16)
    assert scores.miou == pytest.approx(100.0)
    assert scores.iou_by_frame == pytest.approx([100.0] * 16)
    assert np.nanmin(scores.class_iou_by_frame) == 100.0
    assert scores.confusions.sum(dim=(1, 2)).tolist() == [chunk.observed.sum() for chunk in chunks]
    assert scores.cells.sum() == 2 * 16 * 128 * 128 * 8
    assert scores.rigidity == scores.rigidity_of_truth > 0.9
    present = np.unique(np.concatenate([chunk.labels[chunk.observed] for chunk in chunks]))
    assert np.isfinite(scores.class_iou).nonzero()[0].tolist() == present.tolist()


def test_generation_is_scored_once_per_plan(backend, plan_along):
    kept = []
    plans = [plan_along(6.0, 0.3), plan_along(6.0)]
    scores = generate_from_plans(backend, iter(plans), seed=3, steps=1, keep=kept.append)
    assert [chunk.seed for chunk in kept] == [3, 4]
    assert len(scores.seconds) == len(scores.road_under_path) == len(scores.rigidity) == 2
    assert len(scores.turns) == 1
    assert scores.cells.sum() == 2 * 16 * 128 * 128 * 8
    assert scores.cells[ROAD] == sum(int((chunk.occupancy.labels == ROAD).sum()) for chunk in kept)


class Replay:
    """A backend that gives back a recorded drive, each chunk with some columns of vehicles moved aside."""

    def __init__(self, street, with_layout=None):
        self.street, self.with_layout, self.asked = street, with_layout, []
        self.info = replace(
            NullBackend.info, model_id="replay", conditions=("continuation", "plan", "layout", "command")
        )

    def warm_up(self):
        pass

    def encode(self, occupancy):
        return Continuation("replay", bytes([1]))

    def generate(self, conditions, options, checkpoint):
        self.asked.append(conditions)
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


def test_a_class_that_is_nowhere_has_no_ratio():
    found = share_ratios(np.array([0.5, 0.3, 0.2, 0.0]), np.array([0.25, 0.0, 0.75, 0.0]))
    assert found[[0, 2]].tolist() == pytest.approx([2.0, 0.2 / 0.75])
    assert np.isnan(found[[1, 3]]).all()


def test_layouts_are_scored_over_the_chunks_with_vehicles_with_and_without_them(build_street, street_actor):
    asked_for = build_street(16, 5.0, [street_actor(10.4, -2.4, size_m=(1.6, 1.6, 1.5))])
    alone = build_street(16, 5.0)
    both = build_street(16, 5.0, [street_actor(x, -2.4, size_m=(1.6, 1.6, 1.5)) for x in (10.4, -8.8)])
    plan = EgoPlan(alone.poses_world_from_ego, alone.times_us)
    backend = Replay(alone, with_layout=both)
    without = [backend.generate(Conditions(plan), SamplingOptions(seed=seed), lambda step: None) for seed in (4, 5)]
    score = score_layouts(backend, iter([(plan, asked_for), (plan, alone)]), without, steps=None)
    asked, found = (VehicleLayout.of(street).cells for street in (asked_for, both))
    assert score == LayoutScore(1, asked.sum() / found.sum(), 0.0)
    assert 0.3 < score.iou < 0.7
    assert np.array_equal(backend.asked[-1].layout.cells, asked)


def brief(recording, weights, **outputs):
    counts = {"plans": 2, "turns": 2, "clips": 1, "drives": 1, "steps": 1, "seed": 0}
    inputs = {"recordings": [recording], "plans_from": None, "training": None, "keep": None, "weights": weights}
    inputs |= {"option": []}
    return Namespace(**(inputs | counts | outputs))


def test_weights_that_take_a_layout_are_scored_with_and_without_it(layout_weights, recording, tmp_path):
    assert evaluate(brief(recording, layout_weights, json=tmp_path / "evaluation.json", picture=None)) == 0
    figures = json.loads((tmp_path / "evaluation.json").read_text())
    assert figures["layout_chunks"] == 2
    assert 0 <= figures["layout_iou"] <= 1
    assert 0 <= figures["layout_iou_without"] <= 1


@pytest.mark.parametrize("output", ["json", "picture", "keep"])
def test_where_nothing_can_be_written_nothing_is_measured(recording, weights, tmp_path, output):
    (tmp_path / "file").touch()
    outputs = {"json": None, "picture": None, output: tmp_path / "file" / "folder" / "output.png"}
    with pytest.raises(StorageError, match="cannot be made"):
        evaluate(brief(recording, weights, **outputs))


def test_an_evaluation_writes_its_figures_and_a_picture(weights, backend, recording, tmp_path, capsys):
    arguments = brief(
        recording,
        weights,
        json=tmp_path / "figures" / "evaluation.json",
        picture=tmp_path / "pictures" / "chunks.png",
    )
    assert evaluate(arguments) == 0
    figures = json.loads(arguments.json.read_text())
    assert figures["model_id"] == backend.info.model_id
    assert (figures["plans"], figures["drives"]) == (2, 0)
    assert not {"layout_iou", "drift"} & set(figures)
    assert 0 <= figures["road_under_path"] <= 1
    assert figures["miou"] <= figures["iou"] == figures["intervals"]["iou"]["mean"]
    assert sum(figures["share_generated"].values()) == pytest.approx(1.0)
    assert backend.info.model_id in capsys.readouterr().out
    with Image.open(arguments.picture) as picture:
        assert picture.width > picture.height


@pytest.mark.parametrize(
    "words", [("--plans", "0"), ("--clips", "-1"), ("--turns", "-1"), ("--steps", "0"), ("--seed", "-1")]
)
def test_counts_that_leave_nothing_to_measure_are_refused(words, recording, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", str(recording), *words])
    assert ended.value.code == 2
    assert f"argument {words[0]}: {words[1]} is less than" in capsys.readouterr().err


def test_a_picture_that_is_no_png_is_refused_before_anything_is_measured(recording, capsys):
    assert main(["evaluate", str(recording), "--picture", "x.jpg"]) == 2
    assert "--picture: got x.jpg, expected a name ending in .png" in capsys.readouterr().err


def test_plans_that_make_no_set_are_refused_before_anything_is_measured(weights, recording, monkeypatch):
    monkeypatch.setattr(report, "reconstruct", lambda *_: pytest.fail("work was done"))
    monkeypatch.setattr(report, "encoders_for", lambda _: ["an encoder"])
    with pytest.raises(InvalidInputError, match="--plans: got 1, expected at least 2"):
        evaluate(brief(recording, weights, plans=1, json=None, picture=None))
