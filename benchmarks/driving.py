"""What captures show: people at rest, and how far egos are from the middle of a lane and how hard they brake.

Run: ``python benchmarks/driving.py CAPTURES...``
"""

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np
from dyncity_sumo.actors import KIND_CODES
from dyncity_sumo.captures import CapturedTown, Captures
from dyncity_sumo.ego import car_of_ego
from dyncity_sumo.roads import LaneKind, Streets
from dyncity_sumo.shots import Capture
from jaxtyping import Float64
from rich.console import Console
from rich.table import Table
from scipy.spatial import cKDTree

from dyncity_sim.domain.frames import wrap_angle
from dyncity_sim.domain.grid import FRAME_RATE_HZ
from dyncity_sim.domain.recording import ActorKind

AT_REST_MPS = 0.1
ALONG_RAD = 0.6
"""A lane counts for an ego that drives along it within this angle: in junctions, and while turning, none does."""

NEAREST_M = 2.5
"""Farther from the middle of every lane an ego is in none."""


class Middles:
    """Points along the middles of a town's lanes, half a metre apart, with their directions."""

    def __init__(self, streets: Streets) -> None:
        points, yaws = [], []
        for lane in streets.lanes_of(LaneKind.DRIVING):
            line = lane.centreline_m[:, :2]
            along_m = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
            at_m = np.arange(0.5, along_m[-1] - 0.5, 0.5)
            points.append(np.stack([np.interp(at_m, along_m, line[:, axis]) for axis in range(2)], axis=1))
            segment = np.clip(np.searchsorted(along_m, at_m, side="right") - 1, 0, len(line) - 2)
            yaws.append(np.arctan2(*np.diff(line, axis=0)[segment][:, ::-1].T))
        self._points_m, self._yaws_rad = np.concatenate(points), np.concatenate(yaws)
        self._tree = cKDTree(self._points_m)

    def offsets_m(self, xy_m: Float64[np.ndarray, "T 2"], yaws_rad: Float64[np.ndarray, " T"]) -> np.ndarray:
        """Distance from the middle of the lane that each car drives in; NaN where it drives in none."""
        _, near = self._tree.query(xy_m, k=8)
        along = np.abs(wrap_angle(self._yaws_rad[near] - yaws_rad[:, None])) < ALONG_RAD
        apart_m = xy_m[:, None] - self._points_m[near]
        heading = np.stack([np.cos(self._yaws_rad[near]), np.sin(self._yaws_rad[near])], axis=-1)
        ahead_m = np.abs(np.einsum("tnd,tnd->tn", apart_m, heading))
        across_m = np.abs(apart_m[..., 0] * heading[..., 1] - apart_m[..., 1] * heading[..., 0])
        fits = along & (ahead_m < 0.5) & (across_m < NEAREST_M)
        found = np.where(fits, across_m, np.inf).min(axis=1)
        return np.where(np.isfinite(found), found, np.nan)


def people_at_rest(captures: list[Capture]) -> tuple[int, int]:
    """Pedestrians at rest, and all, summed over frames."""
    resting = total = 0
    for capture in captures:
        for shot in capture.shots:
            speeds_mps = shot.actors.speeds_mps[shot.actors.kinds == KIND_CODES[ActorKind.PEDESTRIAN]]
            resting += int((speeds_mps < AT_REST_MPS).sum())
            total += len(speeds_mps)
    return resting, total


def driving(capture: Capture, middles: Middles) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Offsets, and accelerations along and across the car, of one drive."""
    cars = [car_of_ego(shot.pose_world_from_ego) for shot in capture.shots]
    xy_m, yaws_rad = np.array([xy for xy, _ in cars]), np.array([yaw for _, yaw in cars])
    speeds_mps = np.linalg.norm(np.diff(xy_m, axis=0), axis=1) * FRAME_RATE_HZ
    turns_radps = wrap_angle(np.diff(yaws_rad)) * FRAME_RATE_HZ
    moving = np.append(speeds_mps > 1.0, False)
    return middles.offsets_m(xy_m, yaws_rad)[moving], np.diff(speeds_mps) * FRAME_RATE_HZ, speeds_mps * turns_radps


def measured(towns: tuple[CapturedTown, ...]) -> tuple[tuple[int, int], dict[str, list[np.ndarray]]]:
    resting = total = 0
    seen: dict[str, list[tuple[np.ndarray, ...]]] = defaultdict(list)
    for town in towns:
        captures, middles = town.captures(), Middles(town.streets())
        its_resting, its_total = people_at_rest(captures)
        resting, total = resting + its_resting, total + its_total
        for capture in captures:
            seen[capture.ego_kind].append(driving(capture, middles))
    every = {"all": [drive for drives in seen.values() for drive in drives], **dict(sorted(seen.items()))}
    columns = {kind: [np.concatenate(column) for column in zip(*drives, strict=True)] for kind, drives in every.items()}
    return (resting, total), columns


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("captures", nargs="+", type=Path)
    args = parser.parse_args()
    table = Table(title="Distance from the middle of the lane while moving; accelerations over one frame")
    for column in ("captures", "people at rest", "egos", "drives", "p50 m", "p90 m", "p99 m", "> 0.5 m", "> 1 m"):
        table.add_column(column, justify="left" if column in ("captures", "egos") else "right")
    table.add_column("brakes > 4 m/s2", justify="right")
    table.add_column("across, p99.9 m/s2", justify="right")
    for folder in args.captures:
        captures = Captures.open(folder)
        (resting, total), columns = measured(captures.towns)
        name, rest = folder.name, f"{resting / max(total, 1):.1%} of {total}"
        drives = [drive.ego for town in captures.towns for drive in town.drives]
        for kind, (offsets_m, along, across) in columns.items():
            known = offsets_m[np.isfinite(offsets_m)]
            percentiles = [f"{value:.2f}" for value in np.percentile(known, [50, 90, 99])] if len(known) else ["-"] * 3
            count = len(drives) if kind == "all" else drives.count(kind)
            beyond = [f"{(known > limit).mean():.1%}" if len(known) else "-" for limit in (0.5, 1.0)]
            hard = f"{(along < -4).mean():.2%}"
            table.add_row(
                name, rest, kind, str(count), *percentiles, *beyond, hard, f"{np.percentile(np.abs(across), 99.9):.1f}"
            )
            name = rest = ""
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
