"""The figures of an evaluation as people read them."""

from typing import Any

from rich.table import Table

from dyncity_models.evaluation.features import KINDS
from dyncity_models.evaluation.figures import MEASURES

Figures = dict[str, Any]

SETS = {
    "generated_recorded": "generated, recorded along the same plans",
    "recorded_recorded": "recorded, recorded elsewhere in the same towns",
    "training_held_out": "towns of training, held-out towns",
}


def tables(figures: Figures) -> list[Table]:
    """One table of single figures, and one each of chunks, of sets and of drives, as far as they were measured."""
    found = [_single(figures), _of_chunks(figures), _of_sets(figures), _of_drives(figures)]
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
    table = Table("features", "sets", *columns, title="distances between sets of frames")
    for kind in KINDS:
        found = figures.get("sets", {}).get(kind, {})
        for name, title in SETS.items():
            if name in found:
                table.add_row(kind, title, *(_shown(found[name][column]) for column in columns))
        if "memorisation" in found:
            copied = found["memorisation"]
            table.add_row(
                kind,
                f"nearest frame of training: {_shown(copied['generated'])} from generated, "
                f"{_shown(copied['held_out'])} from held-out; nearer than 95 % of held-out: {_shown(copied['copies'])}",
            )
    return table


def _of_drives(figures: Figures) -> Table:
    rows = figures.get("drift", [])
    columns = (name.replace("_", " ") for name in (rows[0] if rows else {}))
    table = Table(*columns, title=f"means over {figures['drives']} drives")
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
