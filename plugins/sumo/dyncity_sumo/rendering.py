"""Rendering: from captures to the frames of a recording, here or in processes side by side.

Each process regrows one town at a time and writes its drives to disk, so that none holds more than a town and a drive.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from dyncity_sim.dataset.drive_file import write_drive_file
from dyncity_sim.domain.grid import CARLASC_GRID, Grid
from dyncity_sim.domain.recording import RecordedFrame
from dyncity_sim.errors import DyncityError
from dyncity_sumo.captures import CapturedTown
from dyncity_sumo.scenery import Scenery, build_scenery
from dyncity_sumo.shots import Capture
from dyncity_sumo.telling import class_counts
from dyncity_sumo.visibility import SensorRig, blind_rig, draw_rig


def rig_of(town_seed: int, number: int, blind: bool) -> SensorRig:
    """The sensors of one drive: drive ``number`` of its town, whatever else is rendered."""
    return blind_rig() if blind else draw_rig(np.random.default_rng([town_seed, 5, number]))


def render(scenery: Scenery, capture: Capture, rig: SensorRig, grid: Grid = CARLASC_GRID) -> list[RecordedFrame]:
    """The frames of a capture, seen by one sensor rig."""
    return [scenery.frame(shot.pose_world_from_ego, shot.actors, rig, shot.time_us, grid) for shot in capture.shots]


def drive_notes(town_seed: int, ego_kind: str, manoeuvre: str) -> dict[str, Any]:
    """What a recording says of a drive."""
    return {"town_seed": town_seed, "ego": ego_kind, "manoeuvre": manoeuvre}


@dataclass(frozen=True)
class Part:
    """Some drives of one town: what one process renders.

    Attributes:
        town: where.
        files: file of each drive to be rendered, by its number in the town.
        blind: leave the emulated sensors out.
    """

    town: CapturedTown
    files: dict[int, Path]
    blind: bool


@dataclass(frozen=True, eq=False)
class Rendered:
    """A drive whose file is written.

    Attributes:
        frames: how many.
        classes: cells of each class in some of them, see ``class_counts``.
        as_captured: whether its town grew as it did where it was captured.
    """

    frames: int
    classes: Int64[np.ndarray, " K"]
    as_captured: bool


def render_in_processes(parts: Iterable[Part], workers: int) -> Iterator[Rendered]:
    """Render parts in up to ``workers`` processes; yields drives as they are done.

    Raises:
        DyncityError: a process died, as when memory runs out, or whatever a part runs into.
    """
    # A fork would copy this process's threads half; a spawned process shares nothing.
    context = get_context("spawn")
    waiting = deque(parts)
    running: dict[Connection, BaseProcess] = {}
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                reader, writer = context.Pipe(duplex=False)
                part = waiting.popleft()
                process: BaseProcess = context.Process(target=_render_part, args=(part, writer), daemon=True)
                process.start()
                writer.close()
                running[reader] = process
            for ready in wait(list(running)):
                assert isinstance(ready, Connection)
                try:
                    message = ready.recv()
                except EOFError:
                    _check_end(running.pop(ready))
                    continue
                if isinstance(message, DyncityError):
                    raise message
                yield message
    finally:
        for process in running.values():
            process.terminate()
            process.join()


def _check_end(process: BaseProcess) -> None:
    process.join()
    if process.exitcode:
        raise DyncityError(
            f"A rendering process ended with exit code {process.exitcode}. If memory ran out, try fewer --workers."
        )


def _render_part(part: Part, report: Connection) -> None:
    try:
        scenery = build_scenery(part.town.streets(), part.town.seed)
        as_captured = scenery.checksum() == part.town.scenery_crc32
        captures = part.town.captures()
        for number, file in part.files.items():
            frames = render(scenery, captures[number], rig_of(part.town.seed, number, part.blind))
            write_drive_file(frames, file)
            report.send(Rendered(len(frames), class_counts(frames), as_captured))
    except DyncityError as error:
        report.send(error)
    except KeyboardInterrupt:
        # The process that waits says so.
        return
