"""The figures of an evaluation as people read them."""

from itertools import product
from typing import Any

from rich.table import Table

from dyncity_models.evaluation.features import KINDS
from dyncity_models.evaluation.figures import MEASURES

Figures = dict[str, Any]

SETS = {
    "generated_recorded": "generated",
    "recorded_recorded": "recorded elsewhere",
    "training_held_out": "held-out",
}
"""Of each comparison, the set that comes first."""


def tables(figures: Figures) -> list[Table]:
    """One table of single figures, and one each of chunks, sets, copies and drives, as far as they were measured."""
    found = [_single(figures), _of_chunks(figures), _of_sets(figures), _of_copies(figures), _of_drives(figures)]
    return [table for table in found if table.row_count]


def _single(figures: Figures) -> Table:
    table = Table("figure", "value", title=f"evaluation of {figures['model_id']}")
    for name, value in figures.items():
        if name in MEASURES or name in ("drift", "sets"):
            continue
        table.add_row(name.replace("_", " "), _shown(value))
    return table


def _of_chunks(figures: Figures) -> Table:
    table = Table("figure", "generated", "recorded", title="chunks alone, means with 95 % intervals")
    for name in MEASURES:
        measured = figures.get(name, {"generated": {}})
        for field, value in measured["generated"].items():
            label = f"{name}: {field.replace('_', ' ')}"
            table.add_row(label, _shown(value), _shown(measured["recorded"][field]))
    return table


def _of_sets(figures: Figures) -> Table:
    columns = ("fid", "kid", "precision", "recall", "density", "coverage", "samples")
    table = Table("features", "of", *columns, title="generated and other recorded frames against recorded ones")
    for kind, name in product(KINDS, SETS):
        found = figures.get("sets", {}).get(kind, {}).get(name)
        if found:
            table.add_row(kind, SETS[name], *(_shown(found[column]) for column in columns))
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
        return f"{value['mean']:.3g} ({value['low']:.3g} to {value['high']:.3g})"
    if isinstance(value, dict):
        return "  ".join(f"{name} {_shown(one)}" for name, one in value.items())
    if isinstance(value, list):
        return "  ".join(_shown(one) for one in value)
    return f"{value:.3g}" if isinstance(value, float) else str(value)
