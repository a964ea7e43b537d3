"""The embedded simulator: one ego of ours in SUMO traffic, behind the simulator port."""

import dataclasses
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from jaxtyping import Int64

from dyncity_sim.domain.conditions import MAX_SPEED_MPS, EgoPlan
from dyncity_sim.domain.frames import Pose, Poses, wrap_angle
from dyncity_sim.domain.generation import GeneratedChunk
from dyncity_sim.domain.grid import CARLASC_GRID, Grid
from dyncity_sim.domain.recording import RecordedFrame
from dyncity_sim.errors import InvalidInputError, SimulatorError
from dyncity_sumo.actors import ActorTable
from dyncity_sumo.ego import Motion, car_of_ego, ego_pose
from dyncity_sumo.egos import OwnEgo
from dyncity_sumo.routes import SPACING_M, Route
from dyncity_sumo.town import Town, open_town
from dyncity_sumo.traffic import STEP_US, VehicleState
from dyncity_sumo.visibility import draw_rig

TRAFFIC_S = 3600.0
"""There is traffic for this long."""

SLOWEST_START_MPS = 3.0
"""The ego is a car that drives at least this fast when it is chosen."""

CANDIDATES = 16
"""So many cars near the middle of traffic are considered."""

TURN_WITHIN_M = (15.0, 90.0)
"""The ego's first turn should lie this far ahead: something to see, after a run-in."""

LONGEST_SEARCH_FRAMES = 600
"""Give up when no car has become fit to be the ego by then."""

ROUTE_FREE_M = 250.0
"""The ego's route must go on this far when it is chosen, so that a drive does not end at once."""


@dataclass(frozen=True)
class _Planned:
    """Where the plans given so far end.

    Attributes:
        motion: the driver's state there.
        time_us: when.
    """

    motion: Motion
    time_us: int


class SumoSimulators:
    """What the entry point names: SUMO has no options of its own."""

    default_map = "berlin"

    def add_arguments(self, parser: ArgumentParser) -> None:
        """None to add."""

    def open(self, map_spec: str, seed: int, options: Namespace) -> "SumoSimulator":
        """A running simulation, see ``SumoSimulator``."""
        return SumoSimulator(map_spec, seed)


PLUGIN = SumoSimulators()


class SumoSimulator:
    """SUMO traffic, a static city, and one ego that follows plans exactly; implements the simulator port.

    SUMO cannot go back in time, so plans are predictions of our own driver with every other actor going on as it
    does now, however far ahead, and following a plan puts the ego on its poses whatever the others do meanwhile.

    Args:
        map_spec: see ``dyncity_sumo.network.prepare_network``.
        seed: at least 0; decides the town, its traffic, and which car is the ego.

    Raises:
        MapError: the map is unknown, cannot be read, or has no lane for cars.
        MissingExtraError: a package of the extra ``sumo`` is not installed.
        SimulatorError: SUMO does not start, or another simulation runs in this process.
    """

    def __init__(self, map_spec: str, seed: int) -> None:
        if seed < 0:
            raise InvalidInputError("seed", seed, "an integer of at least 0")
        self._resources = ExitStack()
        try:
            workdir = Path(self._resources.enter_context(tempfile.TemporaryDirectory(prefix="dyncity-sumo-")))
            self._town: Town = self._resources.enter_context(open_town(map_spec, seed, workdir, TRAFFIC_S))
            self._rig = draw_rig(np.random.default_rng([seed, 3]))
            self._ego = _choose_ego(self._town, seed)
            self._planned: _Planned | None = None
            self._step()
        except BaseException:
            self._resources.close()
            raise

    @property
    def attribution(self) -> str:
        """Credit that the map's licence asks for; empty when none is due."""
        return self._town.network.attribution

    @property
    def grid(self) -> Grid:
        """CarlaSC's grid."""
        return CARLASC_GRID

    @property
    def opendrive(self) -> str:
        """The road network as an OpenDRIVE document."""
        return self._town.network.opendrive

    @property
    def shown_tracks(self) -> None:
        """Nothing of what is generated is shown."""
        return None

    def observe(self) -> RecordedFrame:
        """What is around the ego now."""
        others = self._actors[self._actors.ids != self._town.traffic.actor_id(self._ego.vehicle_id)]
        return self._town.scenery.frame(
            self._pose_world_from_ego, others, self._rig, self._town.traffic.time_us, CARLASC_GRID
        )

    def plan(self, frames: int) -> EgoPlan:
        """Where our driver would be over ``frames`` steps from the end of the last plan on; nothing moves.

        Raises:
            InvalidInputError: fewer than two frames.
            RoadEndsError: the road ends ahead of the ego.
        """
        if frames < 2:
            raise InvalidInputError("frames", frames, "at least 2")
        now_us = self._town.traffic.time_us
        if self._planned is None or self._planned.time_us <= now_us:
            self._planned = _Planned(self._ego.driver.motion, now_us)
        ahead_us = self._planned.time_us - now_us
        motions = self._ego.predict(self._planned.motion, self._actors.moved_on(ahead_us * 1e-6), frames)
        poses = np.stack([self._pose_of(motion) for motion in motions])
        times_us = _next_times_us(self._planned.time_us, frames)
        self._planned = _Planned(motions[-1], int(times_us[-1]))
        return EgoPlan(poses, times_us)

    def follow(self, plan: EgoPlan, generated: GeneratedChunk | None = None) -> Iterator[RecordedFrame]:
        """Drive the ego exactly along ``plan``, one step at a time, and yield each frame after its step.

        SUMO's traffic is its own: what was generated is not shown in it.

        Raises:
            InvalidInputError: the plan's times are not the next steps, or it begins away from the ego.
        """
        expected_us = _next_times_us(self._town.traffic.time_us, len(plan))
        if not np.array_equal(plan.times_us, expected_us):
            raise InvalidInputError(
                "plan.times_us",
                f"{plan.times_us[0]} to {plan.times_us[-1]}",
                f"{expected_us[0]} to {expected_us[-1]} in steps of {STEP_US}",
                "Plans are followed in the order in which they were given; the next begins one step ahead of now.",
            )
        jump_m = float(np.linalg.norm(plan.poses_world_from_ego[0, :2, 3] - self._pose_world_from_ego[:2, 3]))
        if jump_m > MAX_SPEED_MPS * STEP_US / 1e6:
            raise InvalidInputError(
                "plan.poses_world_from_ego[0]", f"{jump_m:.1f} m from the ego", "the ego's next step"
            )
        return self._follow(plan.poses_world_from_ego)

    def close(self) -> None:
        """End the simulation and remove its files; harmless when done before."""
        self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def _follow(self, poses_world_from_ego: Poses) -> Iterator[RecordedFrame]:
        for pose in poses_world_from_ego:
            self._ego.place(self._motion_along(pose))
            self._step(pose)
            yield self.observe()

    def _step(self, pose_world_from_ego: Pose | None = None) -> None:
        traffic = self._town.traffic
        self._town.step()
        if not traffic.is_present(self._ego.vehicle_id):
            raise SimulatorError(f"SUMO lost the ego at {traffic.time_us / 1e6:.1f} s.")
        self._actors: ActorTable = traffic.actors()
        own = self._ego.pose_world_from_ego()
        self._pose_world_from_ego: Pose = own if pose_world_from_ego is None else pose_world_from_ego

    def _motion_along(self, pose_world_from_ego: Pose) -> Motion:
        """The driver's state on a pose that was asked for, with the speed and steering that lead there."""
        before = self._ego.driver.motion
        centre_m, yaw_rad = car_of_ego(pose_world_from_ego)
        moved = centre_m - before.xy_m
        moved_m = float(moved @ np.array([np.cos(yaw_rad), np.sin(yaw_rad)]))
        speed_mps = max(moved_m * 1e6 / STEP_US, 0.0)
        turned_rad = float(wrap_angle(np.array(yaw_rad - before.yaw_rad)))
        steer_rad = before.steer_rad
        if moved_m > 0.05:
            steer_rad = float(np.arctan2(turned_rad * self._ego.wheelbase_m, moved_m))
        return dataclasses.replace(
            before,
            x_m=float(centre_m[0]),
            y_m=float(centre_m[1]),
            yaw_rad=yaw_rad,
            speed_mps=speed_mps,
            steer_rad=steer_rad,
            s_m=self._ego.route.line.project(centre_m, before.s_m + moved_m),
        )

    def _pose_of(self, motion: Motion) -> Pose:
        road_m = float(self._ego.route.line.at(motion.s_m)[0][2])
        return ego_pose(motion.xy_m, motion.yaw_rad, self._town.scenery.ground_m(motion.xy_m, road_m))


def _next_times_us(after_us: int, frames: int) -> Int64[np.ndarray, " T"]:
    return after_us + STEP_US * np.arange(1, frames + 1, dtype=np.int64)


def _choose_ego(town: Town, seed: int) -> OwnEgo:
    """Take over a car in motion near the middle of traffic, the one whose way turns most before long."""
    for _ in range(LONGEST_SEARCH_FRAMES):
        cars = town.traffic.cars()
        states = [town.traffic.vehicle_state(car) for car in cars]
        middle = np.median([state.xyz_m[:2] for state in states], axis=0) if states else np.zeros(2)
        apart_m = [float(np.hypot(*(np.array(state.xyz_m[:2]) - middle))) for state in states]
        nearest = [row for row in np.argsort(apart_m, kind="stable") if states[row].speed_mps >= SLOWEST_START_MPS]
        turns_rad = [_turn_ahead(town, states[row], _walk(seed)) for row in nearest[:CANDIDATES]]
        if turns_rad and max(turns_rad) >= 0:
            return OwnEgo(town, cars[nearest[int(np.argmax(turns_rad))]], _walk(seed), attentive=True)
        town.step()
    raise SimulatorError(f"No car drives on {town.network.name} after a minute of traffic: try another seed or map.")


def _walk(seed: int) -> np.random.Generator:
    """What decides the ego's route: the same for trying it out and for driving it."""
    return np.random.default_rng([seed, 4])


def _turn_ahead(town: Town, state: VehicleState, rng: np.random.Generator) -> float:
    """How far the way of a car turns between TURN_WITHIN_M from it, at most a right angle; -1 where it ends."""
    if state.lane_id not in town.lanes or state.lane_id.startswith(":"):
        return -1.0
    route = Route(town.lanes, town.traffic.junctions, state.lane_id, rng)
    here_m = route.line.project(np.array(state.xyz_m[:2]), 0.0, reach_m=np.inf)
    if not route.grow(here_m + ROUTE_FREE_M):
        return -1.0
    first, last = (int((here_m + ahead_m) / SPACING_M) for ahead_m in TURN_WITHIN_M)
    turned_rad = np.abs(route.line.yaws_rad[first:last] - route.line.yaws_rad[first])
    return float(min(turned_rad.max(initial=0.0), np.pi / 2))
