"""Checks of ``tracks.parquet`` and ``ego.parquet``."""

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from dyncity_sim.domain.frames import RIGID_TOLERANCE, check_times
from dyncity_sim.domain.overlap import overlap_shares
from dyncity_sim.domain.recording import ActorKind
from dyncity_sim.domain.scene import Track
from dyncity_sim.scene.package.findings import Findings
from dyncity_sim.scene.package.tables import (
    EGO_COLUMNS,
    POSITION,
    QUATERNION,
    SIZE,
    TRACK_COLUMNS,
    VELOCITY,
    Columns,
    read_columns,
    stacked,
    tracks_of,
)
from dyncity_sim.scene.package.write import EGO, TRACKS

FASTEST_MPS = {ActorKind.PEDESTRIAN: 5.0, ActorKind.BICYCLE: 17.0}
"""Speeds beyond these (a sprint, a racing bicycle) are unlikely in a town."""

FASTEST_VEHICLE_MPS = 60.0

OVERLAP_SHARE = 0.1
"""Boxes that lie in each other by more of the smaller are not in one place by rounding."""


def check_tracks(folder: Path, manifest: dict[str, Any]) -> Findings:
    """Columns and types; rigid poses, times within the drive, what is constant; speeds and overlaps as warnings."""
    columns = read_columns(folder / TRACKS, TRACK_COLUMNS)
    problems = [*_unfit_numbers(columns), *_unfit_order(columns), *_inconstant(columns)]
    problems += _outside_drive(columns["time_us"], manifest)
    ids = np.unique(columns["id"])
    if len(ids) != manifest["tracks"]:
        problems.append(f"{len(ids)} tracks, but scene.json says {manifest['tracks']}")
    warnings: tuple[str, ...] = ()
    if not problems:
        warnings = (*_unlikely_speeds(columns), *_in_one_place(tracks_of(columns)))
    summary = f"{len(ids)} tracks, {len(columns['id'])} rows, rigid poses, increasing times"
    return Findings(tuple(problems), warnings, summary)


def check_ego(folder: Path, manifest: dict[str, Any]) -> Findings:
    """Columns and types; rigid poses at increasing times, one for each frame of the drive."""
    columns = read_columns(folder / EGO, EGO_COLUMNS)
    times_us = check_times(columns["time_us"], "ego.time_us", len(columns["time_us"]))
    problems = _unfit_numbers(columns)
    described = (manifest["frames"], manifest["first_time_us"], manifest["last_time_us"])
    found = (len(times_us), int(times_us[0]), int(times_us[-1]))
    if found != described:
        problems.append(f"frames, first and last time are {found}, but scene.json says {described}")
    steps_m = np.diff(stacked(columns, POSITION), axis=0)
    return Findings(tuple(problems), (), f"{len(times_us)} frames, {np.linalg.norm(steps_m, axis=1).sum():.0f} m")


def _unfit_numbers(columns: Columns) -> list[str]:
    """Numbers that are not finite, quaternions that are not of unit length."""
    numbers = {name: values for name, values in columns.items() if values.dtype.kind == "f"}
    problems = [f"{name} is not finite everywhere" for name, values in numbers.items() if not np.isfinite(values).all()]
    off = np.abs(np.linalg.norm(stacked(columns, QUATERNION), axis=1) - 1)
    if (off > RIGID_TOLERANCE).any():
        problems.append(f"{int((off > RIGID_TOLERANCE).sum())} quaternions are not of unit length")
    return problems


def _unfit_order(columns: Columns) -> list[str]:
    """Ids that are not positive, or rows that are not one track after another with increasing times."""
    ids, times_us = columns["id"], columns["time_us"]
    problems = [] if (ids >= 1).all() else ["ids are not positive"]
    same, later = np.diff(ids) == 0, np.diff(times_us) > 0
    if (np.diff(ids) < 0).any():
        problems.append("rows are not sorted by id")
    if not later[same].all():
        problems.append(f"times of track {int(ids[1:][same & ~later][0])} do not increase")
    return problems


def _inconstant(columns: Columns) -> list[str]:
    """Sizes, kinds and confidences that change along a track or are out of range."""
    problems = []
    same = np.diff(columns["id"]) == 0
    for name in ("kind", "kind_confidence", *SIZE):
        changes = same & (columns[name][1:] != columns[name][:-1])
        if changes.any():
            problems.append(f"{name} of track {int(columns['id'][1:][changes][0])} changes")
    unknown = set(columns["kind"]) - {kind.value for kind in ActorKind}
    problems += [f"unknown kind {kind!r}" for kind in sorted(unknown)]
    if not ((columns["kind_confidence"] > 0) & (columns["kind_confidence"] <= 1)).all():
        problems.append("kind_confidence is not in (0, 1] everywhere")
    problems += [f"{name} is not positive everywhere" for name in SIZE if not (columns[name] > 0).all()]
    return problems


def _outside_drive(times_us: np.ndarray, manifest: dict[str, Any]) -> list[str]:
    outside = (times_us < manifest["first_time_us"]) | (times_us > manifest["last_time_us"])
    return [f"{int(outside.sum())} rows are outside of the drive's times"] if outside.any() else []


def _unlikely_speeds(columns: Columns) -> tuple[str, ...]:
    """Tracks that are faster than their kind, by their velocities or from row to row."""
    ids, limits_mps = columns["id"], _limits_mps(columns["kind"])
    speeds_mps = np.linalg.norm(stacked(columns, VELOCITY), axis=1)
    same = np.diff(ids) == 0
    steps_m = np.linalg.norm(np.diff(stacked(columns, POSITION), axis=0), axis=1)[same]
    from_row_to_row_mps = np.zeros(len(ids))
    from_row_to_row_mps[1:][same] = steps_m / (np.diff(columns["time_us"])[same] * 1e-6)
    fastest_mps = np.maximum(speeds_mps, from_row_to_row_mps)
    warnings = []
    for number in np.unique(ids[fastest_mps > limits_mps]):
        row = int(np.flatnonzero(ids == number)[fastest_mps[ids == number].argmax()])
        warnings.append(f"track {number}, a {columns['kind'][row]}, moves at {fastest_mps[row]:.0f} m/s")
    return tuple(warnings)


def _in_one_place(tracks: Sequence[Track]) -> tuple[str, ...]:
    """Tracks whose boxes lie in each other, which a simulator cannot both spawn."""
    warnings = []
    for first, second in combinations(tracks, 2):
        shares = overlap_shares(first, second)
        if (shares > OVERLAP_SHARE).any():
            warnings.append(
                f"tracks {first.id} and {second.id}, a {first.kind.value} and a {second.kind.value}, overlap at "
                f"{(shares > OVERLAP_SHARE).sum()} times by up to {shares.max():.0%} of the smaller"
            )
    return tuple(warnings)


def _limits_mps(kinds: np.ndarray) -> np.ndarray:
    return np.array([FASTEST_MPS.get(ActorKind(kind), FASTEST_VEHICLE_MPS) for kind in kinds])
