"""Whether vehicles and pedestrians live on from chunk to chunk of generated drives.

Drives begin with a recorded chunk and go on along the recorded path. A vehicle counts that is followed over the last
half second of a chunk, whole and with its middle at least 4 m inside the grid; it moves when it covered 0.5 m in the
world in that time. From where constant velocity takes it, it is followed on from frame to frame as long as a vehicle
is within 2 m of where it is expected. How it goes after the sixth frame of a chunk, where no border is, and in the
recorded drives, says what could be. Pedestrians are followed in the same way, within 1 m, whether they move or not.

  first, first four   share of vehicles found in the first frame, or in any of the first four, of what follows
  at 0.9 s: moves, stands, lost   of those not expected to leave by then; what covers 0.5 m in its last 0.5 s moves
  from nowhere        share of those in the first frame after, 4 m inside of the grid, with none within 3 m of them
                      in the frame before
  vehicles, pedestrians   per frame, in the first and in the last chunk of the drives
  enter               those per chunk that are first seen after its first frame
  border agreement    static agreement of the frames before and after a border
  road under path     share of the columns under the path
  impossible          share of steps that no vehicle could make (``tracks.py``)"""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from dyncity_models.backends.load import load
from dyncity_models.drive.road import road_under_path
from jaxtyping import Float64
from rich.console import Console
from rich.progress import track as progress
from rich.table import Table
from track_measures import MATCH_M, plausibility
from tracks import recorded as recorded_drive
from tracks import tracked

from dyncity_sim.dataset.drive_file import Drive
from dyncity_sim.dataset.store import Recording
from dyncity_sim.domain.agreement import agreement_between_frames
from dyncity_sim.domain.conditions import Conditions, EgoPlan, SamplingOptions
from dyncity_sim.domain.frames import inverse, transform_points
from dyncity_sim.domain.grid import FRAMES_PER_CHUNK
from dyncity_sim.domain.occupancy import OccupancySequence, concatenate
from dyncity_sim.domain.recording import ActorKind
from dyncity_sim.engine.backend import Backend
from dyncity_sim.scene.actors.find import instances_of
from dyncity_sim.scene.actors.tracking import associate

HISTORY = 5
"""Frames in half a second."""

AHEAD = 9
FIRST_FRAMES = 4

MOVED_M = 0.5
INSIDE_M = 4.0
NEWCOMER_M = 3.0

FOLLOWED_M = {True: MATCH_M, False: 1.0}
"""A vehicle (True) or a pedestrian so near to where it is expected is the same."""

GROUPS = {"moving": (True, (True,)), "standing": (True, (False,)), "pedestrians": (False, (True, False))}
"""Whose figures are taken together: of vehicles or of pedestrians, and of which that move."""


@dataclass(frozen=True)
class Followed:
    """What became of one; ``later`` is None where it was expected to leave the grid."""

    moving: bool
    first: bool
    first_four: bool
    later: str | None


class Traffic:
    """A drive and the vehicles, or the pedestrians, of each of its frames."""

    def __init__(self, occupancy: OccupancySequence, vehicles: bool) -> None:
        self.occupancy = occupancy
        self.followed_m = FOLLOWED_M[vehicles]
        self.shown = [[i for i in instances_of(occupancy, n) if i.vehicle == vehicles] for n in range(len(occupancy))]

    def followed(self, last: int) -> Iterator[Followed]:
        """What becomes of each one of a frame in those after it."""
        start = last - HISTORY
        for track in associate(self.shown[start : last + 1], self.occupancy.times_us[start : last + 1]):
            if track.frames[0] or track.frames[-1] != HISTORY or any(i.truncated for i in track.instances):
                continue
            before_m, place_m = track.instances[0].centre_world_m, track.instances[-1].centre_world_m
            if self._inside_m(place_m, last) >= INSIDE_M:
                yield self._follow(place_m, (place_m - before_m) / HISTORY, last)

    def _follow(self, place_m: Float64[np.ndarray, " 2"], step_m: Float64[np.ndarray, " 2"], last: int) -> Followed:
        expected_m = place_m + step_m * AHEAD
        leaves = self._inside_m(expected_m, last + AHEAD) < INSIDE_M
        places_m, found = [], []
        for frame in range(last + 1, last + AHEAD + 1):
            place_m = place_m + step_m
            centres_m = [i.centre_world_m for i in self.shown[frame]]
            nearest_m = min(centres_m, key=lambda centre_m: _distance_m(centre_m, place_m), default=None)
            found.append(nearest_m is not None and _distance_m(nearest_m, place_m) < self.followed_m)
            place_m = nearest_m if found[-1] and nearest_m is not None else place_m
            places_m.append(place_m)
        moves = _distance_m(places_m[-1], places_m[-1 - HISTORY]) > MOVED_M
        later = "lost" if not found[-1] else "moves" if moves else "stands"
        moving = float(np.hypot(*step_m)) * HISTORY > MOVED_M
        return Followed(moving, found[0], any(found[:FIRST_FRAMES]), None if leaves else later)

    def from_nowhere(self, last: int) -> list[bool]:
        """Of each one in the frame after ``last``, whether none was near in that frame."""
        there_m = [i.centre_world_m for i in self.shown[last]]
        now_m = [i.centre_world_m for i in self.shown[last + 1] if not i.truncated]
        inside_m = [c for c in now_m if min(self._inside_m(c, last), self._inside_m(c, last + 1)) >= INSIDE_M]
        return [all(_distance_m(centre_m, other_m) > NEWCOMER_M for other_m in there_m) for centre_m in inside_m]

    def entered(self, start: int) -> int:
        """How many are first seen in the chunk that begins with a frame, but not in that frame."""
        chunk = slice(start, start + FRAMES_PER_CHUNK)
        return sum(t.frames[0] > 0 for t in associate(self.shown[chunk], self.occupancy.times_us[chunk]))

    def per_frame(self, start: int) -> float:
        """Mean number in the frames of a chunk."""
        return float(np.mean([len(found) for found in self.shown[start : start + FRAMES_PER_CHUNK]]))

    def _inside_m(self, place_m: Float64[np.ndarray, " 2"], frame: int) -> float:
        """Distance to the border of the grid; negative outside of it."""
        pose_ego_from_world = inverse(self.occupancy.poses_world_from_ego[frame])
        local_m = transform_points(pose_ego_from_world, np.array([[*place_m, 0.0]]))[0, :2]
        return float(self.occupancy.grid.upper_m[0] - np.abs(local_m).max())


def _distance_m(first_m: Float64[np.ndarray, " 2"], second_m: Float64[np.ndarray, " 2"]) -> float:
    return float(np.hypot(*(first_m - second_m)))


def generated(backend: Backend, recorded: OccupancySequence, seed: int) -> OccupancySequence:
    """The drive that goes on from the first recorded chunk, which stays at its head."""
    chunks = [recorded[:FRAMES_PER_CHUNK]]
    continuation = backend.encode(chunks[0])
    for start in range(FRAMES_PER_CHUNK, len(recorded), FRAMES_PER_CHUNK):
        along = recorded[start : start + FRAMES_PER_CHUNK]
        plan = EgoPlan(along.poses_world_from_ego, along.times_us)
        options = SamplingOptions(seed=seed + start)
        chunk = backend.generate(Conditions(plan, plan.command, continuation), options, lambda done: None)
        continuation = chunk.continuation
        chunks.append(chunk.occupancy)
    return concatenate(chunks)


def figures(drives: Sequence[OccupancySequence]) -> dict[str, dict[str, float]]:
    """The figures of the module's docstring: at borders, within chunks, and of whole drives."""
    every = {vehicles: [Traffic(drive, vehicles) for drive in drives] for vehicles in (True, False)}
    starts = [range(FRAMES_PER_CHUNK, len(drive), FRAMES_PER_CHUNK) for drive in drives]
    borders = [(drive, start - 1) for drive, of in enumerate(starts) for start in of]
    within = [(drive, start + HISTORY) for drive, of in enumerate(starts) for start in of]
    chunks = [drives[drive][last + 1 : last + 1 + FRAMES_PER_CHUNK] for drive, last in borders]
    plausible = plausibility([(drive.times_us, tracked(drive)) for drive in drives])
    whole: dict[str, float] = {}
    for name, traffic in (("vehicles", every[True]), ("pedestrians", every[False])):
        whole |= {
            f"{name}, first chunk": _mean([t.per_frame(of[0]) for t, of in zip(traffic, starts, strict=True)]),
            f"{name}, last chunk": _mean([t.per_frame(of[-1]) for t, of in zip(traffic, starts, strict=True)]),
            f"{name} enter": _mean([traffic[drive].entered(last + 1) for drive, last in borders]),
        }
    whole |= {
        "border agreement": _mean([agreement_between_frames(drives[drive], n, n + 1) for drive, n in borders]),
        "road under path": _mean([road_under_path(chunk) for chunk in chunks]),
        "impossible": plausible.impossible_share,
    }
    return {"borders": _crossings(every, borders), "within": _crossings(every, within), "drives": whole}


def _crossings(every: dict[bool, list[Traffic]], places: Sequence[tuple[int, int]]) -> dict[str, float]:
    """Of all that is followed from some frames of some drives on."""
    result: dict[str, float] = {}
    for name, (vehicles, moving) in GROUPS.items():
        followed = [one for drive, last in places for one in every[vehicles][drive].followed(last)]
        ones = [one for one in followed if one.moving in moving]
        later = [one.later for one in ones if one.later is not None]
        result |= {
            name: len(ones),
            f"{name}: first": _mean([one.first for one in ones]),
            f"{name}: first four": _mean([one.first_four for one in ones]),
            **{f"{name}, 0.9 s: {what}": _mean([one == what for one in later]) for what in ("moves", "stands", "lost")},
        }
    for name, vehicles in (("vehicles", True), ("pedestrians", False)):
        newcomers = [new for drive, last in places for new in every[vehicles][drive].from_nowhere(last)]
        result[f"{name} from nowhere"] = _mean(newcomers)
    return result


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def drives_of(folders: Sequence[Path], chunks: int, drives: int | None) -> list[OccupancySequence]:
    """The beginnings of recorded drives, of one chunk and then as many as asked, or as there are; one at least."""
    chosen: list[tuple[Drive, int]] = []
    for folder in folders:
        there = [drive for drive in Recording.open(folder).drives if len(drive) >= 2 * FRAMES_PER_CHUNK]
        lengths = [min(len(drive) // FRAMES_PER_CHUNK, chunks + 1) * FRAMES_PER_CHUNK for drive in there]
        moving = [_moving(drive, length) for drive, length in zip(there, lengths, strict=True)]
        busiest = np.argsort(moving, kind="stable")[::-1][:drives]
        chosen += [(there[n], lengths[n]) for n in sorted(busiest)]
    return [recorded_drive(drive, length, observed=False)[0] for drive, length in chosen]


def _moving(drive: Drive, length: int) -> int:
    """Vehicles that move in the recording at the borders of its chunks, one for each border that they live through."""
    count = 0
    for start in range(FRAMES_PER_CHUNK, length, FRAMES_PER_CHUNK):
        before, after = (
            {a.id: a.pose_world_from_actor[:2, 3] for a in frame.actors if a.kind is not ActorKind.PEDESTRIAN}
            for frame in (drive.frames(start - 1 - n, start - n)[0] for n in (HISTORY, 0))
        )
        count += sum(_distance_m(before[one], after[one]) > MOVED_M for one in before.keys() & after.keys())
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", nargs="+", type=Path)
    parser.add_argument(
        "--drives", type=int, metavar="N", help="of each, the N with most moving vehicles (default: all)"
    )
    parser.add_argument("--chunks", type=int, default=8, help="generated chunks of a drive, at most (default: 8)")
    parser.add_argument("--weights", type=Path, help="(default: the bundled ones)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    if arguments.chunks < 1:
        parser.error(f"--chunks: {arguments.chunks}, expected at least 1")
    recorded = drives_of(arguments.recordings, arguments.chunks, arguments.drives)
    if not recorded:
        parser.error(f"no drive of {2 * FRAMES_PER_CHUNK} frames, a recorded chunk and a generated one")

    backend = load(arguments.weights)
    steps = progress(recorded, "drives", console=Console(stderr=True), transient=True)
    made = [generated(backend, drive, 1000 * number) for number, drive in enumerate(steps)]
    result = {"generated": figures(made), "recorded": figures(recorded)}
    if arguments.json:
        print(json.dumps(result, indent=1))
        return
    columns = {
        "generated: borders": result["generated"]["borders"] | result["generated"]["drives"],
        "within chunks": result["generated"]["within"],
        "recorded: borders": result["recorded"]["borders"] | result["recorded"]["drives"],
        "within": result["recorded"]["within"],
    }
    table = Table("", *columns, title=f"{len(recorded)} drives")
    for name in columns["generated: borders"]:
        values = (column.get(name) for column in columns.values())
        table.add_row(name, *("" if value is None else f"{value:.3f}".removesuffix(".000") for value in values))
    Console().print(table)


if __name__ == "__main__":
    main()
