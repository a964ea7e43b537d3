"""The command ``dyncity evaluate``: its figures, its picture, and what it refuses before it measures."""

import json
from argparse import Namespace

import pytest
from dyncity_models.evaluation import report
from dyncity_models.evaluation.report import evaluate
from PIL import Image

from dyncity_sim.cli.main import main
from dyncity_sim.errors import InvalidInputError, StorageError


@pytest.fixture
def nothing_measured(monkeypatch):
    """No model reconstructs anything."""
    monkeypatch.setattr(report, "reconstruct", lambda *_: pytest.fail("work was done"))


def brief(recording, weights, **outputs):
    counts = {"plans": 2, "turns": 2, "clips": 1, "drives": 1, "steps": 1, "seed": 0}
    inputs = {"recordings": [recording], "plans_from": None, "training": None, "weights": weights, "option": []}
    return Namespace(**(inputs | counts | {"json": None, "picture": None, "keep": None} | outputs))


def test_weights_that_take_a_layout_are_scored_with_and_without_it(layout_weights, recording, tmp_path):
    assert evaluate(brief(recording, layout_weights, json=tmp_path / "evaluation.json")) == 0
    figures = json.loads((tmp_path / "evaluation.json").read_text())
    assert figures["layout_chunks"] == 2
    assert 0 <= figures["layout_iou"] <= 1
    assert 0 <= figures["layout_iou_without"] <= 1
    interval = figures["intervals"]["layout_iou"]
    assert interval["low"] <= interval["mean"] == figures["layout_iou"] <= interval["high"]
    assert interval["count"] == figures["layout_chunks"]


@pytest.mark.usefixtures("nothing_measured")
@pytest.mark.parametrize("output", ["json", "picture", "keep"])
def test_where_nothing_can_be_written_nothing_is_measured(recording, weights, tmp_path, output):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot be made"):
        evaluate(brief(recording, weights, **{output: tmp_path / "file" / "folder" / "output.png"}))


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
    ratios = figures["share_ratio_intervals"]
    assert {name: found["mean"] for name, found in ratios.items()} == figures["share_ratio"]
    assert all(found["low"] <= found["mean"] <= found["high"] for found in ratios.values() if found["mean"] is not None)
    printed = capsys.readouterr()
    assert backend.info.model_id in printed.out
    assert "There are 0 drives, of 144 recorded frames or more, where 1 were asked for." in printed.err
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


@pytest.mark.usefixtures("nothing_measured")
def test_a_picture_that_is_no_png_is_refused_before_anything_is_measured(recording, capsys):
    assert main(["evaluate", str(recording), "--picture", "x.jpg"]) == 2
    assert "--picture: got x.jpg, expected a name ending in .png" in capsys.readouterr().err


@pytest.mark.usefixtures("nothing_measured")
@pytest.mark.parametrize("option", ["--json", "--picture"])
def test_a_folder_in_the_place_of_a_file_is_refused_before_anything_is_measured(recording, tmp_path, capsys, option):
    (tmp_path / "out.png").mkdir()
    assert main(["evaluate", str(recording), option, str(tmp_path / "out.png")]) == 2
    assert f"{option}: got {tmp_path}/out.png, a folder, expected the name of a file" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--plans-from", "--training"])
def test_an_option_without_its_recordings_is_refused(recording, capsys, option):
    with pytest.raises(SystemExit):
        main(["evaluate", str(recording), option])
    assert f"argument {option}: expected at least one argument" in capsys.readouterr().err


@pytest.mark.usefixtures("nothing_measured")
def test_plans_that_make_no_set_are_refused_before_anything_is_measured(weights, recording, monkeypatch):
    monkeypatch.setattr(report, "encoders_for", lambda _: ["an encoder"])
    with pytest.raises(InvalidInputError, match="--plans: got 1 of 3 drives, expected at least 2"):
        evaluate(brief(recording, weights, plans=1))
