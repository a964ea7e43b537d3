"""The figures of an evaluation as people read them."""

import numpy as np
from rich.table import Table

from dyncity_models.evaluation.features import KINDS
from dyncity_models.evaluation.figures import MEASURES, Figures

SETS = {
    "generated_recorded": "generated",
    "recorded_recorded": "elsewhere",
    "training_held_out": "held-out",
}
"""Of each comparison, the set that comes first."""

BY_CLASS = {
    "class_iou": "IoU, %",
    "share_generated": "share generated",
    "share_reconstructed": "reconstructed",
    "share_ratio_intervals": "ratio",
}
"""Figures of each class, and what heads their columns."""

APART = (*MEASURES, *BY_CLASS, "share_ratio", "class_iou_by_frame", "intervals", "drift", "sets")
"""Figures that have tables of their own, or are too many to be read."""


def tables(figures: Figures) -> list[Table]:
    """Tables of single figures, classes, chunks, sets, copies and drives, as far as they were measured."""
    of_sets = [_of_sets(figures, kind) for kind in KINDS]
    found = [_single(figures), _of_classes(figures), _of_chunks(figures), *of_sets, _of_copies(figures)]
    return [table for table in [*found, _of_drives(figures)] if table.row_count]


def _single(figures: Figures) -> Table:
    """With their intervals, as far as they have them."""
    table = Table("figure", "value", title=f"evaluation of {figures['model_id']}")
    single = {name: value for name, value in figures.items() if name not in APART} | figures["intervals"]
    for name, value in single.items():
        table.add_row(name.replace("_", " "), _shown(value))
    return table


def _of_classes(figures: Figures) -> Table:
    table = Table("class", *BY_CLASS.values(), title="classes: IoU, and shares of occupied cells")
    for name in figures["class_iou"]:
        table.add_row(name, *(_shown(figures[what].get(name, "")) for what in BY_CLASS))
    return table


def _of_chunks(figures: Figures) -> Table:
    table = Table("figure", "generated", "recorded", title="chunks alone, means with 95 % intervals")
    for name in MEASURES:
        measured = figures.get(name, {"generated": {}})
        for field, value in measured["generated"].items():
            label = f"{name}: {field.replace('_', ' ')}"
            table.add_row(label, _shown(value), _shown(measured["recorded"][field]))
    return table


def _of_sets(figures: Figures, kind: str) -> Table:
    columns = ("fid", "kid", "precision", "recall", "density", "coverage", "samples")
    table = Table("of", *columns[:-1], "n", title=f"n frames against recorded ones, in the features {kind}")
    found = figures.get("sets", {}).get(kind, {})
    for name in (name for name in SETS if name in found):
        table.add_row(SETS[name], *(_shown(found[name][column]) for column in columns))
    return table


def _of_copies(figures: Figures) -> Table:
    table = Table("features", "generated", "held-out", "copies", title="distance to the nearest frame of training")
    for kind in KINDS:
        found = figures.get("sets", {}).get(kind, {}).get("memorisation")
        if found:
            table.add_row(kind, *(_shown(found[column]) for column in ("generated", "held_out", "copies")))
    return table


def _of_drives(figures: Figures) -> Table:
    rows = figures.get("drift", [])
    columns = (name.replace("_", " ") for name in (rows[0] if rows else {}))
    table = Table(*columns, title=f"means over {figures['drives'] - figures.get('drives_that_ran_away', 0)} drives")
    for row in rows:
        table.add_row(*(_shown(value) for value in row.values()))
    return table


def _shown(value: object) -> str:
    if isinstance(value, dict) and "low" in value:
        ends = "" if np.isnan(value["low"]) else f" ({_shown(value['low'])} to {_shown(value['high'])})"
        return _shown(value["mean"]) + ends
    if isinstance(value, dict):
        return "  ".join(f"{name} {_shown(one)}" for name, one in value.items())
    if isinstance(value, list):
        return "  ".join(_shown(one) for one in value)
    if isinstance(value, float):
        return "-" if np.isnan(value) else f"{value:.3g}"
    return str(value)
