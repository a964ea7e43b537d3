"""Manners: what a run takes from a server it gives back, and what a killed run left behind the next one clears away.

Nothing is destroyed that no run of ours spawned, the world's settings come back as they were, and nothing here ticks
on another client's behalf.
"""

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from dyncity_carla.frames import CarlaTransform
from dyncity_carla.journal import Journal, Run, at_work, journal_folder, journals_in, remove_journal
from dyncity_carla.ports import ActorInfo, Command, Destroy, LidarSpec, Outcome, Snapshot, Spawn
from dyncity_carla.settings import STEP_S, put_back, synchronous
from dyncity_carla.sweep import restore_for, sweep
from dyncity_carla.world import CarlaWorld
from dyncity_sim.errors import SimulatorError

TickOwner = Literal["own", "external"]
"""Who lets a synchronous world go on: this client, or another one."""

CLEANING_S = 15.0
"""A server that is busy when a run ends is given this long to take the run's things back."""

WATCHED_S = 1.0
"""A world that is synchronous already is watched this long for another client's ticks."""

SAME_STEP_S = 1e-4
"""Servers tell the length of a tick in single precision."""

_log = logging.getLogger(__name__)


class Session:
    """One run's stay in a server's world. Use as a context manager.

    On entering, what dead runs of this machine left is cleared away; with ``ticks`` of ``own`` the world then becomes
    synchronous at 10 Hz. On leaving, however that comes about, sensors are stopped and destroyed, actors of this run
    destroyed, an ego that belongs to somebody else gets its physics back, and the settings that were changed are what
    they were, unless another client ticks the world by then. Where another world took the place of the one that was
    entered, nothing in it is touched but settings that are still as this run made them.

    Args:
        world: connected.
        ticks: who ticks.
        folder: where journals lie (default: the user's state folder).

    Attributes:
        run: this run.

    Raises:
        SimulatorError: another client ticks while this one is to, or the server does not answer.
    """

    def __init__(self, world: CarlaWorld, ticks: TickOwner, folder: Path | None = None) -> None:
        self.world, self.ticks, self.run = world, ticks, Run.current()
        self._folder = folder or journal_folder(world.address)
        self._journal = Journal(self.run)
        self._actors: set[int] = set()
        self._lidars: list[int] = []
        self._borrowed: set[int] = set()
        self._last_frame: int | None = None
        self._is_contested = False

    def __enter__(self) -> Self:
        try:
            left = [(file, journal) for file, journal in journals_in(self._folder) if journal.run.is_dead]
            self._write_down(replace(self._journal, episode=self.world.episode))
            for _, journal in left:
                restore_for(self.world, journal)
            if self.ticks == "own":
                self._take_the_ticks()
            # Only after a tick does the client library know what is in a world that stood still.
            self.tick()
            sweep(self.world, left, self.tick)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @cached_property
    def step_s(self) -> float:
        """Simulated seconds from tick to tick, as they were when first asked for; a frame is a whole number of them.

        Raises:
            SimulatorError: ticks of another client that do not divide a frame.
        """
        if self.ticks == "own":
            return STEP_S
        fixed = self.world.settings()["fixed_delta_seconds"]
        step_s = float(fixed) if fixed else 0.0
        if not step_s or abs(STEP_S / step_s - round(STEP_S / step_s)) > 1e-6:
            step = f"{step_s:g} s" if step_s else "a varying time"
            raise SimulatorError(
                f"Whoever ticks {self.world.address} lets it go on by {step} per tick, and frames are {STEP_S:g} s "
                "apart: use a fixed_delta_seconds of 0.1, 0.05, 0.02 or 0.01 there, or let this client tick: "
                "--tick own."
            )
        return step_s

    def tick(self) -> Snapshot:
        """The world's next tick: one of our own, or the next that another client makes.

        Raises:
            SimulatorError: nobody ticks; or another client ticks as well, changed how far a tick goes, or loaded a map.
        """
        snapshot = self.world.tick() if self.ticks == "own" else self.world.wait_for_tick()
        self._check_world()
        if self._last_frame is not None:
            self._check_tick(snapshot, snapshot.frame - self._last_frame)
        self._last_frame = snapshot.frame
        return snapshot

    def spawn(self, blueprint_id: str, what: str, at: CarlaTransform) -> int | None:
        """Make an actor of this run; None where there is no room."""
        actor_id = self.world.spawn(blueprint_id, self.run.role(what), at)
        if actor_id is not None:
            self._actors.add(actor_id)
        return actor_id

    def spawn_ego(self, blueprint_id: str, role: str, at: CarlaTransform) -> int | None:
        """Make an ego under a role name that other tools look for; None where there is no room."""
        actor_id = self.world.spawn(blueprint_id, role, at)
        if actor_id is not None:
            self._actors.add(actor_id)
            self._write_down(replace(self._journal, ego=ActorInfo(actor_id, blueprint_id, role)))
        return actor_id

    def borrow(self, ego: ActorInfo) -> None:
        """Take somebody else's ego over: its physics is off until this run ends.

        Raises:
            SimulatorError: another run of this machine drives it.
        """
        others = [journal for journal in at_work(self._folder) if journal.episode == self._journal.episode]
        drivers = [journal.run for journal in others if ego in (journal.ego, journal.borrowed)]
        if drivers:
            raise SimulatorError(
                f"Process {drivers[0].pid} of this machine drives the ego {ego.role_name!r} of {self.world.address}: "
                "wait until it is done, or name another one: --ego ROLE_NAME."
            )
        self._write_down(replace(self._journal, borrowed=ego))
        self._borrowed.add(ego.id)
        self.world.set_physics(ego.id, False)

    def attach_lidar(self, parent_id: int, spec: LidarSpec, what: str) -> int:
        """Attach a semantic LiDAR that turns once per tick."""
        sensor_id = self.world.attach_lidar(parent_id, spec, self.run.role(what), 1 / self.step_s)
        self._lidars.append(sensor_id)
        return sensor_id

    def batch(self, commands: list[Command]) -> list[Outcome]:
        """Do many things at once; what is spawned is this run's.

        Raises:
            SimulatorError: the server refused, or another client loaded a map.
        """
        self._check_world()
        outcomes = self.world.batch(commands)
        for command, outcome in zip(commands, outcomes, strict=True):
            if outcome.refusal:
                continue
            if isinstance(command, Destroy):
                self._actors.discard(command.actor_id)
            elif isinstance(command, Spawn):
                self._actors.add(outcome.actor_id)
        return outcomes

    def close(self) -> None:
        """Give everything back; what cannot be given back is said in the log, and left to the next run's sweep."""
        try:
            if self._journal.episode is not None:
                self._give_back_in_time()
        finally:
            self.world.release()

    def _give_back_in_time(self) -> None:
        if not self.world.is_reachable():
            _log.warning(
                "The CARLA server at %s cannot be reached: if it runs on, the next run gives back what this one took.",
                self.world.address,
            )
            self._hold_nothing()
            return
        try:
            if self.world.is_silent or self._is_elsewhere:
                self.world.reconnect(CLEANING_S)
                self._actors.update(self._lidars)
                self._lidars.clear()
            if self._is_elsewhere:
                # Numbers of actors that this run had may be those of others there.
                restore_for(self.world, self._journal)
            else:
                self._give_back()
            remove_journal(self._file)
            self._hold_nothing()
        except SimulatorError as error:
            _log.warning("Not all was given back, the next run does it: %s", error)

    @property
    def _is_elsewhere(self) -> bool:
        """Whether the server shows another world by now than the one that this run entered."""
        return self.world.episode != self._journal.episode

    def _hold_nothing(self) -> None:
        for held in (self._actors, self._lidars, self._borrowed):
            held.clear()
        self._journal = Journal(self.run)

    @property
    def _file(self) -> Path:
        return self._folder / f"{self.run.id}.json"

    def _write_down(self, journal: Journal) -> None:
        self._journal = journal
        journal.write(self._file)

    def _give_back(self) -> None:
        self.world.end_traffic()
        while self._lidars:
            self.world.stop_lidar(self._lidars.pop())
        # Sensors are younger than what carries them, and go before it.
        self.world.batch([Destroy(actor_id) for actor_id in sorted(self._actors, reverse=True)])
        for actor_id in sorted(self._borrowed):
            # Its owner may have destroyed it meanwhile.
            with suppress(SimulatorError):
                self.world.set_physics(actor_id, True)
        self._restore_settings()

    def _check_world(self) -> None:
        if self._is_elsewhere:
            raise SimulatorError(
                f"The world of {self.world.address} was replaced: another client loaded a map, and all that this one "
                "had there is gone. Begin again when that client is done, or use another server."
            )

    def _check_tick(self, snapshot: Snapshot, ticks: int) -> None:
        as_long = abs(snapshot.delta_s - self.step_s) <= SAME_STEP_S
        if self.ticks == "own" and not (as_long and ticks == 1):
            self._is_contested = True
            raise SimulatorError(
                f"The world of {self.world.address} went on by {ticks} ticks, the last of {snapshot.delta_s:g} s, "
                f"where one of {STEP_S:g} s was asked for: another client ticks it too, or changed its settings. Stop "
                "that client, or go along with it: --tick external."
            )
        if not as_long:
            raise SimulatorError(
                f"Whoever ticks {self.world.address} let it go on by {snapshot.delta_s:g} s, and by {self.step_s:g} s "
                "per tick before: leave fixed_delta_seconds as it is there while this client is at work."
            )

    def _restore_settings(self) -> None:
        """Put the settings back, unless another client ticks the world by now."""
        saved, applied = self._journal.saved, self._journal.applied
        if saved is None or applied is None:
            return
        if self._is_contested and _is_ticked(self.world):
            _log.warning("The settings of %s stay as they are: another client ticks it.", self.world.address)
            return
        self.world.apply_settings(put_back(self.world.settings(), applied, saved))

    def _take_the_ticks(self) -> None:
        owners = [journal.run for journal in at_work(self._folder) if journal.applied]
        if owners:
            raise SimulatorError(
                f"Process {owners[0].pid} of this machine ticks {self.world.address} already, and a world has one "
                "ticker: wait until it is done, or go along with it: --tick external."
            )
        saved = self.world.settings()
        if saved["synchronous_mode"] and _is_ticked(self.world):
            raise SimulatorError(
                f"Another client ticks {self.world.address}, and a world has one ticker: stop it, or go along with "
                "it: --tick external."
            )
        applied = synchronous(saved)
        self._write_down(replace(self._journal, saved=saved, applied=applied))
        self.world.apply_settings(applied)


def _is_ticked(world: CarlaWorld, sleep: Callable[[float], None] = time.sleep) -> bool:
    before = world.snapshot().frame
    for _ in range(10):
        sleep(WATCHED_S / 10)
        if world.snapshot().frame > before + 1:
            return True
    return False
