"""The model card of the bundled weights says what their evaluation.json holds."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
WEIGHTS = ROOT / "models/dyncity_models/weights/anchored"
FIGURES: dict[str, Any] = json.loads((WEIGHTS / "evaluation.json").read_text(encoding="utf-8"))
CARD = (WEIGHTS / "README.md").read_text(encoding="utf-8")
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in CARD.splitlines() if line.startswith("|")]

CHUNKS = {
    "ego motion as the static world shows it": ("motion", "error_m"),
    "the same, degrees": ("motion", "error_deg"),
    "chunks in which it amounts to the command": ("motion", "commanded"),
    "kerbs": ("kerbs", "residual_m"),
    "walls": ("walls", "residual_m"),
    "share of its smallest rectangle": ("buildings", "filled_share"),
    "vehicles per chunk": ("vehicles", "tracks"),
    "pieces of vehicles": ("vehicles", "fragment_share"),
    "share of its time in view": ("vehicles", "lifetime_share"),
    "jitter of a vehicle's length": ("vehicles", "length_jitter_m"),
    "jitter of its width": ("vehicles", "width_jitter_m"),
    "steps of vehicles": ("vehicles", "impossible_share"),
    "share of vehicles that drive": ("traffic", "driving_share"),
    "their speed": ("traffic", "driving_mps"),
    "share of pedestrians that walk": ("traffic", "walking_share"),
}
"""How rows of the table of chunks begin, and the figures in them."""

SETS = {"generated": "generated_recorded", "recorded": "recorded_recorded", "held-out": "training_held_out"}


def row(begins: str) -> list[str]:
    """The cells after the name of the one row whose name begins so."""
    (cells,) = [cells for name, *cells in ROWS if name.startswith(begins)]
    return cells


def rounded(value: float, like: str) -> str:
    """With as many decimals as a number that is written already."""
    return f"{value:.{len(like.partition('.')[2])}f}"


def interval(found: dict[str, float], written: str) -> str:
    like = written.split()[0]
    return "{} ({} to {})".format(*(rounded(found[end], like) for end in ("mean", "low", "high")))


@pytest.mark.parametrize("begins", CHUNKS)
def test_rows_of_chunks_are_as_measured(begins: str) -> None:
    measure, name = CHUNKS[begins]
    generated, _, recorded = row(begins)
    assert generated == interval(FIGURES[measure]["generated"][name], generated)
    assert recorded == interval(FIGURES[measure]["recorded"][name], recorded)


@pytest.mark.parametrize("kind", ["voxels", "bev"])
@pytest.mark.parametrize("whose", SETS)
def test_rows_of_sets_are_as_measured(kind: str, whose: str) -> None:
    (cells,) = [rest for name, of, *rest in ROWS if name == kind and of.startswith(whose)]
    found = FIGURES["sets"][kind][SETS[whose]]
    names = ("fid", "kid", "precision", "recall", "density", "coverage")
    assert cells == [rounded(found[name], cell) for name, cell in zip(names, cells, strict=True)]


@pytest.mark.parametrize("name", [name for name in FIGURES["drift"][0] if name != "chunk"])
def test_rows_of_drives_are_as_measured(name: str) -> None:
    (cells,) = [cells for first, *cells in ROWS if first == name.replace("_", " ")]
    assert cells == [rounded(chunk[name], cell) for chunk, cell in zip(FIGURES["drift"], cells, strict=True)]


@pytest.mark.parametrize("page", [WEIGHTS / "README.md", ROOT / "docs/figures.md"], ids=lambda page: page.name)
def test_class_shares_are_as_measured(page: Path) -> None:
    text = " ".join(page.read_text(encoding="utf-8").split())
    shares = "; ".join(f"{name} {ratio:.2f}" for name, ratio in FIGURES["share_ratio"].items())
    assert shares in text


def test_single_figures_are_as_measured_on_every_page() -> None:
    miou, border = FIGURES["miou"], FIGURES["border_agreement"]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"| {miou:.1f} % | `dyncity evaluate`, `miou` |" in readme
    assert f"| {100 * border:.1f} % | `dyncity evaluate`, `border_agreement` |" in readme
    assert row("4 drives of 8 chunks: static agreement")[0] == f"{border:.3f}"
    assert row("road under the path, from the plan alone")[0] == f"{FIGURES['road_under_path']:.3f}"
    figures = (ROOT / "docs/figures.md").read_text(encoding="utf-8")
    assert f"(without the layout: {FIGURES['layout_iou_without']:.2f}) | {FIGURES['layout_iou']:.2f} |" in figures
    assert f"| {100 * FIGURES['drive_static_agreement_0_15']:.1f} % | `dyncity evaluate`, `drive_static" in figures
    assert f"| {FIGURES['turns_right']} of {FIGURES['turns']} |" in figures
    assert re.search(
        rf"a held-out town: [\d.]+; {FIGURES['sets']['voxels']['training_held_out']['fid']:.1f}\)", figures
    )
