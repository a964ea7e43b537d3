"""The figures of the bundled weights as people read them."""

import json
from io import StringIO
from pathlib import Path

import pytest
from dyncity_models.anchored.checkpoint import BUNDLED
from dyncity_models.evaluation.tables import tables
from rich.console import Console

FIGURES = json.loads((Path(BUNDLED) / "evaluation.json").read_text(encoding="utf-8"))


@pytest.fixture
def printed():
    """A function that prints the tables of figures to a terminal of 80 columns."""

    def show(figures):
        console = Console(width=80, file=StringIO())
        for table in tables(figures):
            console.print(table)
        return console.file.getvalue()

    return show


def test_nothing_is_cut_off_on_a_terminal_of_80_columns(printed):
    found = FIGURES["sets"]["bev"]["generated_recorded"] | {"kid": -0.000123456}
    sets = FIGURES["sets"] | {"bev": FIGURES["sets"]["bev"] | {"generated_recorded": found}}
    text = printed(FIGURES | {"sets": sets})
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80
    for word in ("precision", "coverage", "elsewhere", "held-out", "pedestrian", "walking share"):
        assert word in text


def test_single_figures_have_their_intervals_beside_them(printed):
    lines = [" ".join(line.replace("│", " ").split()) for line in printed(FIGURES).splitlines()]
    for name in ("miou", "border_agreement"):
        value, low, high = (f"{FIGURES['intervals'][name][end]:.3g}" for end in ("mean", "low", "high"))
        assert f"{name.replace('_', ' ')} {value} ({low} to {high})" in lines
    assert f"turns right {FIGURES['turns_right']}" in lines


def test_each_class_has_a_row(printed):
    lines = [" ".join(line.replace("│", " ").split()) for line in printed(FIGURES).splitlines()]
    columns = ("class_iou", "share_generated", "share_reconstructed", "share_ratio")
    found = (FIGURES[name]["vehicle"] for name in columns)
    low = FIGURES["share_ratio_intervals"]["vehicle"]["low"]
    row = " ".join(["vehicle", *(f"{value:.3g}" for value in found), f"({low:.3g} to"])
    assert any(line.startswith(row) for line in lines)
    assert f"free {FIGURES['class_iou']['free']:.3g}" in lines


def test_what_was_not_measured_is_a_dash_and_one_value_has_no_interval(printed):
    nan = float("nan")
    ends = {"count": 1, "missing": 0, "low": nan, "high": nan}
    intervals = FIGURES["intervals"] | {"miou": {"mean": 79.8} | ends, "iou": {"mean": nan} | ends}
    lines = [line.replace("│", " ").split() for line in printed(FIGURES | {"intervals": intervals}).splitlines()]
    assert ["miou", "79.8"] in lines
    assert ["iou", "-"] in lines


def test_what_was_not_measured_has_no_table(printed):
    left_out = {name: value for name, value in FIGURES.items() if name not in ("sets", "drift")}
    text = printed(left_out)
    assert "features" not in text
    assert "class share distance" not in text
