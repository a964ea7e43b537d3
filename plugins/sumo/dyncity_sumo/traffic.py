"""SUMO traffic: the one file that speaks libsumo, and the one place where SUMO's conventions end.

Outside of this file everything is in the world frame of ``roads``, positions are centres of bounding boxes and
yaws are counter-clockwise from east. SUMO's own: a vehicle stands at the centre of its front bumper, angles are
degrees clockwise from north.
"""

import io
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Self

import numpy as np
from jaxtyping import Float64

from dyncity_sim.domain.frames import wrap_angle
from dyncity_sim.errors import MissingExtraError, SimulatorError
from dyncity_sumo.actors import KIND_CODES, ActorTable, no_actors
from dyncity_sumo.demand import ACTOR_TYPES, ActorType
from dyncity_sumo.junctions import Junctions
from dyncity_sumo.network import sumo_home

STEP_US = 100_000
"""Simulation step: one frame at 10 Hz."""

SENSED_M = 60.0
"""Actors within this distance of a watched vehicle are reported; the grid's corner is 36 m away."""


@dataclass(frozen=True)
class VehicleState:
    """A vehicle as a driver would take it over: centre, yaw, speed, and the lane under it."""

    type: ActorType
    xyz_m: tuple[float, float, float]
    yaw_rad: float
    speed_mps: float
    lane_id: str


class Traffic:
    """One running SUMO simulation; a process holds one at a time. Use as a context manager.

    Attributes:
        junctions: its junctions.

    Args:
        net_file: SUMO net.
        demand_file: types, trips and walks.
        seed: of SUMO's own random numbers.
        first_id: actor ids are given out from here on; those below are for actors that are not SUMO's.

    Raises:
        MissingExtraError: libsumo or eclipse-sumo is not installed.
        SimulatorError: SUMO does not start, or another simulation runs in this process.
    """

    def __init__(self, net_file: Path, demand_file: Path, seed: int, first_id: int = 1) -> None:
        self._sumo = _import_libsumo()
        if self._sumo.isLoaded():
            raise SimulatorError("A SUMO simulation already runs in this process: close it, or use another process.")
        arguments = [
            *("sumo", "-n", str(net_file), "-r", str(demand_file), "--seed", str(seed % 2**31)),
            *("--step-length", f"{STEP_US / 1e6}", "--lateral-resolution", "0.8", "--time-to-teleport", "-1"),
            *("--ignore-route-errors", "--no-step-log", "--no-warnings", "--duration-log.disable"),
            *("--collision.action", "none", "--pedestrian.striping.dawdling", "0.2"),
            *("--max-depart-delay", "20", "--xml-validation", "never"),
        ]
        with _captured_stderr() as complaints:
            try:
                self._sumo.start(arguments)
            except self._errors as error:
                said = " ".join(f"{complaints()} {error}".split())
                raise SimulatorError(f"SUMO does not start on {net_file.name}: {said}") from error
        self._steps = 0
        self._types = {t.id: t for t in ACTOR_TYPES}
        self._known: dict[str, tuple[int, ActorType]] = {}
        self._next_id = first_id
        self._watched: set[str] = set()
        self._withheld: set[str] = set()
        self.junctions = Junctions(self._sumo)

    @property
    def _errors(self) -> tuple[type[Exception], ...]:
        return (self._sumo.TraCIException, self._sumo.FatalTraCIError, RuntimeError)

    @property
    def version(self) -> str:
        """SUMO's own version string."""
        return str(self._sumo.getVersion()[1])

    @property
    def time_us(self) -> int:
        """Simulated time."""
        return self._steps * STEP_US

    def step(self) -> None:
        """Go on by one frame."""
        try:
            self._sumo.simulationStep()
        except self._errors as error:
            raise SimulatorError(f"SUMO stopped at {self.time_us / 1e6:.1f} s: {error}") from error
        self._steps += 1
        present = set(self._sumo.vehicle.getIDList())
        self._watched &= present

    def cars(self) -> list[str]:
        """Cars in the network, sorted."""
        vehicle = self._sumo.vehicle
        return [v for v in sorted(vehicle.getIDList()) if str(vehicle.getTypeID(v)).startswith("car_")]

    def people(self) -> list[str]:
        """People on foot in the network, sorted."""
        return sorted(self._sumo.person.getIDList())

    def person_state(self, person_id: str) -> tuple[Float64[np.ndarray, "2"], float, bool]:
        """World x and y of a person, the direction they face, and whether they are on a street's own sidewalk."""
        person = self._sumo.person
        yaw_rad = float(_yaw_from_angle(np.array(person.getAngle(person_id))))
        # Crossings and walking areas are inside of junctions.
        on_sidewalk = not str(person.getRoadID(person_id)).startswith(":")
        return np.array(person.getPosition(person_id)), yaw_rad, on_sidewalk

    def withhold(self, person_ids: Iterable[str]) -> None:
        """Report these people from their first ``hold`` on: SUMO lets them appear beside their places."""
        self._withheld.update(person_ids)

    def hold(self, person_id: str, xy_m: Float64[np.ndarray, "2"], yaw_rad: float) -> None:
        """Let a person stand there in the next step; who is not held again walks on from there."""
        self._withheld.discard(person_id)
        angle_deg = _angle_from_yaw(yaw_rad)
        self._sumo.person.moveToXY(person_id, "", float(xy_m[0]), float(xy_m[1]), angle_deg, keepRoute=1)

    def is_present(self, vehicle_id: str) -> bool:
        """Whether a vehicle is in the network."""
        return vehicle_id in self._sumo.vehicle.getIDList()

    def watch(self, vehicle_id: str) -> None:
        """Report the actors around this vehicle from the next step on."""
        variables = [self._sumo.VAR_POSITION3D, self._sumo.VAR_ANGLE, self._sumo.VAR_SPEED]
        for domain in (self._sumo.CMD_GET_VEHICLE_VARIABLE, self._sumo.CMD_GET_PERSON_VARIABLE):
            self._sumo.vehicle.subscribeContext(vehicle_id, domain, SENSED_M, variables)
        self._watched.add(vehicle_id)

    def unwatch(self, vehicle_id: str) -> None:
        """Stop reporting what is around this vehicle."""
        if vehicle_id in self._watched:
            for domain in (self._sumo.CMD_GET_VEHICLE_VARIABLE, self._sumo.CMD_GET_PERSON_VARIABLE):
                self._sumo.vehicle.unsubscribeContext(vehicle_id, domain, SENSED_M)
            self._watched.discard(vehicle_id)

    def actors(self) -> ActorTable:
        """All actors within SENSED_M of any watched vehicle, the watched ones included."""
        found: dict[str, Any] = {}
        for watched in sorted(self._watched):
            found.update(self._sumo.vehicle.getContextSubscriptionResults(watched))
        names = sorted(found.keys() - self._withheld)
        if not names:
            return no_actors()
        known = [self._identify(name) for name in names]
        position = np.array([found[name][self._sumo.VAR_POSITION3D] for name in names])
        yaw_rad = _yaw_from_angle(np.array([found[name][self._sumo.VAR_ANGLE] for name in names]))
        speed_mps = np.array([found[name][self._sumo.VAR_SPEED] for name in names])
        size_m = np.array([actor_type.size_m for _, actor_type in known])
        kinds = np.array([KIND_CODES[actor_type.kind] for _, actor_type in known], dtype=np.uint8)
        # Only vehicles stand at their front; a walker's position is the walker.
        behind_m = np.where([name.startswith("p") for name in names], 0.0, size_m[:, 0] / 2)
        centre = position.copy()
        centre[:, 0] -= behind_m * np.cos(yaw_rad)
        centre[:, 1] -= behind_m * np.sin(yaw_rad)
        centre[:, 2] += size_m[:, 2] / 2
        ids = np.array([number for number, _ in known], dtype=np.uint16)
        order = np.argsort(ids)
        return ActorTable(ids[order], kinds[order], centre[order], yaw_rad[order], size_m[order], speed_mps[order])

    def actor_id(self, name: str) -> int:
        """The actor id of a SUMO vehicle or person."""
        return self._identify(name)[0]

    def vehicle_state(self, vehicle_id: str) -> VehicleState:
        """Where a vehicle is; ``xyz_m`` is the centre of its footprint on the road."""
        vehicle = self._sumo.vehicle
        actor_type = self._identify(vehicle_id)[1]
        x_m, y_m, z_m = vehicle.getPosition3D(vehicle_id)
        yaw_rad = float(_yaw_from_angle(np.array(vehicle.getAngle(vehicle_id))))
        half_m = actor_type.size_m[0] / 2
        return VehicleState(
            actor_type,
            (x_m - half_m * np.cos(yaw_rad), y_m - half_m * np.sin(yaw_rad), z_m),
            yaw_rad,
            float(vehicle.getSpeed(vehicle_id)),
            str(vehicle.getLaneID(vehicle_id)),
        )

    def take_over(self, vehicle_id: str) -> None:
        """From now on only ``place`` moves this vehicle; SUMO's own safety rules no longer hold it back."""
        self._sumo.vehicle.setSpeedMode(vehicle_id, 0)
        self._sumo.vehicle.setLaneChangeMode(vehicle_id, 0)

    def place(self, vehicle_id: str, centre_m: Float64[np.ndarray, "2"], yaw_rad: float, speed_mps: float) -> None:
        """Put a vehicle that was taken over where the next step shall find it, on the road or off it."""
        half_m = self._identify(vehicle_id)[1].size_m[0] / 2
        vehicle = self._sumo.vehicle
        vehicle.setSpeed(vehicle_id, max(speed_mps, 0.0))
        vehicle.moveToXY(
            vehicle_id,
            "",
            -1,
            float(centre_m[0] + half_m * np.cos(yaw_rad)),
            float(centre_m[1] + half_m * np.sin(yaw_rad)),
            _angle_from_yaw(yaw_rad),
            keepRoute=2,
        )

    def remove(self, vehicle_id: str) -> None:
        """Take a vehicle out of the network."""
        self.unwatch(vehicle_id)
        self._sumo.vehicle.remove(vehicle_id)

    def close(self) -> None:
        """End the simulation; harmless when it has ended."""
        if self._sumo.isLoaded():
            self._sumo.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def _identify(self, name: str) -> tuple[int, ActorType]:
        if name not in self._known:
            domain = self._sumo.person if name.startswith("p") else self._sumo.vehicle
            if self._next_id >= 2**16:
                raise SimulatorError("More than 65535 actors in one simulation: restart it with another seed.")
            # SUMO names the type of a vehicle that it had to adapt "type@vehicle".
            type_id = str(domain.getTypeID(name)).partition("@")[0]
            self._known[name] = (self._next_id, self._types[type_id])
            self._next_id += 1
        return self._known[name]


def _yaw_from_angle(angle_deg: Float64[np.ndarray, "..."]) -> Float64[np.ndarray, "..."]:
    return wrap_angle(np.deg2rad(90.0 - angle_deg))


def _angle_from_yaw(yaw_rad: float) -> float:
    return float((90.0 - np.rad2deg(yaw_rad)) % 360.0)


@contextmanager
def _captured_stderr() -> Iterator[Callable[[], str]]:
    """Keep what SUMO's own code prints off the terminal; yields a function that tells what it was."""
    with tempfile.TemporaryFile() as file:
        terminal = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield lambda: os.pread(file.fileno(), 4000, 0).decode(errors="replace")
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)


def _import_libsumo() -> ModuleType:
    # libsumo reads SUMO_HOME when it is imported, and refuses a foreign one later.
    os.environ.setdefault("SUMO_HOME", str(sumo_home()))
    try:
        # It prints advice to take pyarrow away, which is for SUMO's own writing of Parquet: nothing here asks for that.
        with redirect_stdout(io.StringIO()):
            import libsumo
    except ImportError as error:
        raise MissingExtraError("libsumo", "sumo", "The embedded simulator") from error
    return libsumo
