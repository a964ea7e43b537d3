"""``dyncity play SCENE --sim carla``: a generated scene as a world to drive in."""

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console

from dyncity_carla.assets import STATIC_PROPS, Library
from dyncity_carla.connection import connect
from dyncity_carla.ego import is_vehicle_called
from dyncity_carla.frames import CarlaTransform, carla_from_pose
from dyncity_carla.furniture import figures_of, find_pieces, nearest_pieces
from dyncity_carla.maps import load_document
from dyncity_carla.options import DEFAULT_EGO, ServerOptions, add_server_arguments
from dyncity_carla.plan import pose_of_car
from dyncity_carla.player import Casting, Figure, Player, Unspawned, told_of
from dyncity_carla.session import Session
from dyncity_carla.timeline import Timeline
from dyncity_sim.cli.numbers import not_negative, positive, seconds
from dyncity_sim.domain.scene import Scene
from dyncity_sim.errors import SimulatorError
from dyncity_sim.scene.package.read import read_scene

SPAWN_LIFT_M = 0.3
"""A driving stack spawns its vehicle this high above the road, and lets it fall."""

DEFAULT_PROPS = 150


@dataclass(frozen=True)
class PlayOptions:
    """How a scene is shown.

    Attributes:
        server: where.
        loops: how many times.
        props: props that stand for static things, at most.
        ego: role name of the vehicle that drives in it.
        ego_within_s: simulated seconds to wait for that vehicle before time starts; 0 does not wait.
        realtime: whether a simulated second takes a real one at least.
    """

    server: ServerOptions
    loops: int = 1
    props: int = DEFAULT_PROPS
    ego: str = DEFAULT_EGO
    ego_within_s: float = 0.0
    realtime: bool = False


class CarlaScenePlayer:
    """What the entry point names."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the player's own options."""
        parser.add_argument("scene", type=Path, metavar="SCENE", help="folder of a scene, as written by dyncity cosim")
        parser.add_argument("--loops", type=positive, default=1, metavar="N", help="how many times it is shown")
        parser.add_argument(
            "--props", type=not_negative, default=DEFAULT_PROPS, metavar="N", help="props for static things, at most"
        )
        parser.add_argument("--ego", default=DEFAULT_EGO, metavar="ROLE_NAME", help="vehicle that drives in the scene")
        parser.add_argument(
            "--wait-for-ego",
            type=seconds,
            default=0.0,
            metavar="SECONDS",
            help="let simulated time pass until that vehicle is there, at most so long; 0 starts at once",
        )
        parser.add_argument(
            "--realtime",
            action="store_true",
            help="no faster than the clock, while an ego is waited for too; for those who watch and for driving stacks "
            "that do not wait for ticks",
        )
        add_server_arguments(parser)

    def run(self, args: argparse.Namespace) -> int:
        """Show the scene."""
        console = Console()
        scene = read_scene(args.scene)
        options = PlayOptions(
            ServerOptions.of(args), args.loops, args.props, args.ego, args.wait_for_ego, args.realtime
        )
        with ScenePlayback(scene, options) as playback:
            spawn = playback.ego_spawn
            console.print(
                f"ego spawn point: x {spawn.x_m:.2f}, y {spawn.y_m:.2f}, z {spawn.z_m:.2f}, yaw {spawn.yaw_deg:.2f} "
                f"degrees (CARLA); role name {options.ego}",
                soft_wrap=True,
            )
            frames = sum(1 for _ in playback.play())
            lost = [figure for figure in playback.unspawned if not figure.shown_later]
        console.print(f"{frames} frames of {len(scene.tracks)} actors shown; {len(lost)} found no room")
        for line in told_of(lost):
            console.print(f"  {line}")
        return 0


PLAYER = CarlaScenePlayer()


@dataclass(frozen=True)
class PlayedFrame:
    """What was shown at one tick.

    Attributes:
        frame: number of the tick.
        time_us: the scene's time.
        actors: the server's actor of each track that is there.
    """

    frame: int
    time_us: int
    actors: dict[int, int]


class ScenePlayback:
    """A scene in a CARLA world; use as a context manager.

    The server's world is replaced by one made of the scene's road; it stays when the playback ends, without the
    scene's actors and props. The ego's own track is left to whoever drives in the scene.

    Args:
        scene: read back or fresh.
        options: server and the like.
        sleep, clock: seconds; for what is shown no faster than the clock.

    Raises:
        MapError: the scene's road cannot be loaded.
        SimulatorError: the server does not play along.
    """

    def __init__(
        self,
        scene: Scene,
        options: PlayOptions,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._scene, self._options = scene, options
        self._sleep, self._clock = sleep, clock
        server = options.server
        self._world = connect(server.host, server.port, server.timeout_s, server.allow_version_mismatch)
        try:
            load_document(self._world, "scene", scene.opendrive, server.ticks)
        except BaseException:
            self._world.release()
            raise
        self._session = Session(self._world, server.ticks)
        self._player = Player(self._session, self._world.bounding_box, self._session.run.role)

    @property
    def ego_spawn(self) -> CarlaTransform:
        """Where a driving stack is to spawn its vehicle: the start of the scene's drive, a little above the road."""
        pose = pose_of_car(self._scene.ego_poses_world_from_ego[0])
        pose[2, 3] += SPAWN_LIFT_M
        return carla_from_pose(pose)

    @property
    def unspawned(self) -> tuple[Unspawned, ...]:
        """Everything that found no room at first, with what became of it."""
        return self._player.unspawned

    def play(self) -> Iterator[PlayedFrame]:
        """Show the scene tick by tick, and tell of each tick after it."""
        library = Library(self._world.blueprints())
        static = self._static(library)
        self._step(static)
        self._wait_for_ego(static)
        step_us = round(self._session.step_s * 1e6)
        timeline, casting = Timeline(self._scene.tracks), Casting(library)
        first_us, last_us = int(self._scene.times_us[0]), int(self._scene.times_us[-1])
        due_s = self._clock()
        for _ in range(self._options.loops):
            for time_us in range(first_us, last_us + 1, step_us):
                figures = casting.figures(timeline, time_us)
                frame = self._step([*static, *figures])
                shown = self._player.shown
                yield PlayedFrame(frame, time_us, {f.id: shown[f.id] for f in figures if f.id in shown})
                due_s = self._pace(due_s + self._session.step_s)

    def __enter__(self) -> "ScenePlayback":
        self._session.__enter__()
        return self

    def __exit__(self, *reason: object) -> Literal[False]:
        self._session.close()
        return False

    def _step(self, figures: list[Figure]) -> int:
        self._player.present(figures)
        snapshot = self._session.tick()
        self._player.look(snapshot.ids)
        return snapshot.frame

    def _pace(self, due_s: float) -> float:
        """Wait until a time, where that is asked for; returns it, or now where it is past: nothing is caught up."""
        now_s = self._clock()
        if self._options.realtime and now_s < due_s:
            self._sleep(due_s - now_s)
        return max(due_s, now_s)

    def _static(self, library: Library) -> list[Figure]:
        scene = self._scene
        pieces = nearest_pieces(
            find_pieces(scene.static_map, STATIC_PROPS), scene.ego_poses_world_from_ego[:, :2, 3], self._options.props
        )
        return figures_of(pieces, library)

    def _wait_for_ego(self, static: list[Figure]) -> None:
        limit = self._options.ego_within_s
        if not limit:
            return
        due_s = self._clock()
        for _ in range(round(limit / self._session.step_s)):
            if any(is_vehicle_called(self._options.ego, actor) for actor in self._world.actors()):
                return
            self._step(static)
            due_s = self._pace(due_s + self._session.step_s)
        raise SimulatorError(
            f"No vehicle of role name {self._options.ego!r} came within {limit:g} simulated seconds: spawn it at the "
            "ego spawn point, or wait longer: --wait-for-ego."
        )
