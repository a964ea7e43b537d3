"""``dyncity record --sim carla``: drives through a CARLA town, seen by semantic LiDARs as CarlaSC's were."""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from math import inf
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from dyncity_carla.options import (
    DriveOptions,
    ServerOptions,
    add_ego_arguments,
    add_lidar_arguments,
    add_server_arguments,
)
from dyncity_carla.simulator import CarlaSimulator
from dyncity_carla.traffic import add_traffic
from dyncity_sim.cli.numbers import positive_port
from dyncity_sim.dataset.carlasc import export_carlasc
from dyncity_sim.dataset.store import Recording, RecordingMeta, RecordingWriter
from dyncity_sim.domain.grid import CARLASC_GRID, FRAME_RATE_HZ, FRAMES_PER_CHUNK
from dyncity_sim.domain.recording import RecordedFrame
from dyncity_sim.errors import InvalidInputError, RoadEndsError, SimulatorError

DEFAULT_LIDARS = 10
DRIVE_FRAMES = 200
"""A drive is written when it has so many frames, and the next one goes on from there."""


@dataclass(frozen=True)
class RecordOptions:
    """What is recorded.

    Attributes:
        drive: server, ego, sensors.
        map: empty for the world that is loaded.
        minutes: recorded time.
        seed: decides the ego's place and way, the sensors and the traffic.
        traffic: vehicles of CARLA's own traffic.
        traffic_port: of the traffic manager.
        out: folder to make.
        format: ``store`` or ``carlasc``.
    """

    drive: DriveOptions
    map: str
    minutes: float
    seed: int
    traffic: int
    traffic_port: int
    out: Path
    format: str

    def __post_init__(self) -> None:
        if not 0 < self.minutes < inf:
            raise InvalidInputError("--minutes", self.minutes, "a positive number")
        if self.traffic < 0:
            raise InvalidInputError("--traffic", self.traffic, "vehicles to add, 0 for none")
        if self.drive.lidars < 1:
            raise InvalidInputError("--lidars", self.drive.lidars, "at least 1: nothing would be observed")
        if self.traffic and self.drive.server.ticks == "external":
            raise InvalidInputError(
                "--traffic",
                f"{self.traffic} with --tick external",
                "0 vehicles of CARLA's own where another client ticks",
                "Its traffic manager drives in ticks of this client only: use --tick own, or let the other client add "
                "traffic.",
            )
        if self.out.exists():
            raise InvalidInputError("--out", f"{self.out}, which exists", "a new folder")

    @property
    def frames(self) -> int:
        """Frames to record in all."""
        return max(round(self.minutes * 60 * FRAME_RATE_HZ), 1)


class CarlaRecorder:
    """What the entry point names."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the recorder's own options."""
        parser.add_argument("--map", default="", metavar="SPEC", help="town or .xodr file; empty for what is loaded")
        parser.add_argument("--minutes", type=float, default=1.0, help="recorded time, in simulated minutes")
        parser.add_argument("--seed", type=int, default=0, help="of the ego's place and way, sensors, and traffic")
        parser.add_argument("--out", type=Path, required=True, help="folder to make")
        parser.add_argument(
            "--format",
            choices=["store", "carlasc"],
            default="store",
            help="compact recording for training, or CarlaSC folders with instance ids",
        )
        parser.add_argument(
            "--traffic", type=int, default=0, metavar="N", help="vehicles of CARLA's own traffic to add"
        )
        parser.add_argument(
            "--traffic-port", type=positive_port, default=8000, metavar="PORT", help="of its traffic manager"
        )
        add_ego_arguments(parser)
        add_lidar_arguments(parser, DEFAULT_LIDARS)
        add_server_arguments(parser)

    def run(self, args: argparse.Namespace) -> int:
        """Record what was asked for."""
        server = ServerOptions.of(args)
        drive = DriveOptions(server, args.ego, args.lidars, args.lidar_points, "none", follow=args.follow)
        options = RecordOptions(
            drive, args.map, args.minutes, args.seed, args.traffic, args.traffic_port, args.out, args.format
        )
        record(options, Console(stderr=True))
        return 0


RECORDER = CarlaRecorder()


def record(options: RecordOptions, console: Console) -> None:
    """Drive and record; the folder appears when all of it is there, or what could be recorded of it.

    Where the ego's road ends, all up to there is kept; where the server fails, all but the drive that it fails in.

    Raises:
        InvalidInputError: the output exists.
        RoadEndsError: it ends where the ego stands.
        SimulatorError: the server does not play along; drives that are whole are there.
        MapError, MissingExtraError, StorageError: as their names say; nothing is written then.
    """
    with tempfile.TemporaryDirectory(prefix="dyncity-carla-") as workdir:
        folder = options.out if options.format == "store" else Path(workdir) / "recording"
        with RecordingWriter(folder, _meta(options)) as writer, _progress(console) as progress:
            task = progress.add_task("recording", total=options.frames)
            with CarlaSimulator(options.drive, options.map, options.seed) as simulator:
                if options.traffic:
                    rng = np.random.default_rng([options.seed, 4])
                    add_traffic(simulator.session, options.traffic, rng, options.traffic_port)
                done, stopped = _write_drives(
                    simulator, options, writer, lambda frames: progress.update(task, completed=frames)
                )
                writer.meta = _meta(options, simulator, "" if stopped is None else str(stopped))
        if options.format == "carlasc":
            export_carlasc(Recording.open(folder), options.out)
    if isinstance(stopped, RoadEndsError):
        console.print(f"{done} of {options.frames} frames: {stopped}")
    console.print(f"{done} frames in {options.out}")
    if stopped is not None and not isinstance(stopped, RoadEndsError):
        raise stopped


def _write_drives(
    simulator: CarlaSimulator, options: RecordOptions, writer: RecordingWriter, on_frame: Callable[[int], None]
) -> tuple[int, SimulatorError | None]:
    """Record drive after drive; returns how many frames were written, and what kept others from it.

    Raises:
        SimulatorError: none was.
    """
    done = 0
    stopped: SimulatorError | None = None
    while done < options.frames and stopped is None:
        frames: list[RecordedFrame] = []
        try:
            for frame in _frames(simulator, min(DRIVE_FRAMES, options.frames - done)):
                frames.append(frame)
                on_frame(done + len(frames))
        except RoadEndsError as error:
            stopped = error
        except SimulatorError as error:
            frames, stopped = [], error
        if frames:
            writer.write_drive(frames, {"ego": "own", "seed": options.seed})
        done += len(frames)
    if stopped is not None and not done:
        raise stopped
    return done, stopped


def _frames(simulator: CarlaSimulator, frames: int) -> Iterator[RecordedFrame]:
    """So many frames, plan by plan; fewer, and an error, where the road ends or the server fails."""
    while frames > 0:
        plan = simulator.plan(max(min(FRAMES_PER_CHUNK, frames), 2), heeds_others=True)
        yield from islice(simulator.follow(plan), frames)
        frames -= len(plan)


def _meta(options: RecordOptions, simulator: CarlaSimulator | None = None, ended: str = "") -> RecordingMeta:
    """What is recorded; what the server has to say about it comes with the simulator."""
    how = {
        "lidars": options.drive.lidars,
        "points_per_sweep": options.drive.points_per_sweep,
        "traffic": options.traffic,
        "minutes": options.minutes,
        "tick": options.drive.server.ticks,
        **({"ended": ended} if ended else {}),
    }
    if simulator is None:
        return RecordingMeta(options.map, options.seed, CARLASC_GRID, "", "CARLA", options=how)
    name, version = options.map or simulator.map_name, simulator.world.version
    return RecordingMeta(name, options.seed, CARLASC_GRID, simulator.attribution, f"CARLA {version}", options=how)


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console
    )
