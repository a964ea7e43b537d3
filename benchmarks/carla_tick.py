"""What the CARLA plugin adds to a tick: milliseconds of showing actors that all move, against the loopback server.

    python benchmarks/carla_tick.py --actors 100 --ticks 300

Three parts of a tick are told apart: the plugin's own work, also as time on the processor, which a busy machine does
not lengthen; the batch, which is the client library, the wire, and the server; and the tick.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from dyncity_carla.assets import Library
from dyncity_carla.connection import connect
from dyncity_carla.loopback.process import LoopbackProcess
from dyncity_carla.options import ServerOptions
from dyncity_carla.player import Casting, Player
from dyncity_carla.ports import Command, Outcome
from dyncity_carla.session import Session
from dyncity_carla.timeline import Timeline

from dyncity_sim.domain.frames import poses_from_planar
from dyncity_sim.domain.recording import ActorKind
from dyncity_sim.domain.scene import Track

SPACING_M = 8.0
STEP_US = 100_000


class TimedStage:
    """A session that says how long its batches took."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.seconds = 0.0
        self.busy_seconds = 0.0

    def batch(self, commands: list[Command]) -> list[Outcome]:
        began, began_busy = time.perf_counter(), time.thread_time()
        outcomes = self._session.batch(commands)
        self.seconds += time.perf_counter() - began
        self.busy_seconds += time.thread_time() - began_busy
        return outcomes


def tracks(actors: int, ticks: int) -> list[Track]:
    """Cars in rows 50 m above the ground, all on the move."""
    times_us = STEP_US * np.arange(ticks, dtype=np.int64)
    made = []
    for number in range(actors):
        x, y = SPACING_M * (number % 10), SPACING_M * (number // 10)
        planar = np.column_stack([x + 0.5 * np.arange(ticks), np.full(ticks, y), np.zeros(ticks)])
        poses = poses_from_planar(planar, 50.0)
        velocities = np.tile([5.0, 0.0, 0.0], (ticks, 1))
        made.append(Track(number + 1, ActorKind.CAR, (4.5, 1.9, 1.5), poses, times_us, velocities))
    return made


def measure(port: int, actors: int, ticks: int) -> tuple[dict[str, np.ndarray], int]:
    """Milliseconds of each part at each tick, and how many actors were there at the end."""
    options = ServerOptions("127.0.0.1", port, 60.0)
    world = connect(options.host, options.port, options.timeout_s)
    own, busy, batches, steps = [], [], [], []
    with Session(world, "own") as session:
        stage = TimedStage(session)
        player = Player(stage, world.bounding_box, session.run.role)
        timeline, casting = Timeline(tracks(actors, ticks)), Casting(Library(world.blueprints()))
        for tick in range(ticks):
            stage.seconds = stage.busy_seconds = 0.0
            began, began_busy = time.perf_counter(), time.thread_time()
            player.present(casting.figures(timeline, tick * STEP_US))
            own.append(time.perf_counter() - began - stage.seconds)
            busy.append(time.thread_time() - began_busy - stage.busy_seconds)
            batches.append(stage.seconds)
            began = time.perf_counter()
            world.tick()
            steps.append(time.perf_counter() - began)
        shown = len(player.shown)
    parts = {
        "the plugin's own work": own,
        "  of it on the processor": busy,
        "client library, wire and server": batches,
        "tick": steps,
    }
    return {name: 1e3 * np.array(values) for name, values in parts.items()}, shown


def town(folder: Path) -> Path:
    """A generated town."""
    import sumo

    file = folder / "grid.xodr"
    command = [str(Path(sumo.SUMO_HOME) / "bin" / "netgenerate"), "--grid", "--grid.number", "3"]
    subprocess.run([*command, "--grid.length", "120", "--opendrive-output", str(file)], check=True, capture_output=True)
    return file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--actors", type=int, default=100)
    parser.add_argument("--ticks", type=int, default=300)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["XDG_STATE_HOME"] = name
        with LoopbackProcess(town(folder), folder / "loopback.log") as server:
            parts, shown = measure(server.port, arguments.actors, arguments.ticks)
    sys.stdout.write(f"{shown} actors shown, {arguments.ticks} ticks, milliseconds per tick (the first 10 left out)\n")
    for label, values in parts.items():
        p50, p99 = np.percentile(values[10:], [50, 99])
        sys.stdout.write(f"  {label:<34} p50 {p50:6.2f}   p99 {p99:6.2f}\n")


if __name__ == "__main__":
    main()
