"""Recording drives: many egos in one town, and only what is worth keeping.

Poses and actors are captured at every step, voxels only for what is kept: most of the time of a frame goes into
its voxels and rays, and most of what egos do (waiting, going straight) is kept in part only.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float64

from dyncity_sim.domain.conditions import MAX_SPEED_MPS, STATIC_DISTANCE_M, TURN_ANGLE_RAD
from dyncity_sim.domain.frames import Poses, planar_from_poses, wrap_angle
from dyncity_sim.domain.grid import CARLASC_GRID, FRAMES_PER_CHUNK
from dyncity_sumo.actors import ActorTable
from dyncity_sumo.egos import Ego, OwnEgo, SumoEgo
from dyncity_sumo.scenery import reaches_in
from dyncity_sumo.shots import Capture, Shot, held_actors, held_pose
from dyncity_sumo.town import Town
from dyncity_sumo.traffic import STEP_US
from dyncity_sumo.wayward import WaywardEgo

LARGEST_YAW_STEP_RAD = 0.15
LARGEST_SPEED_STEP_MPS = 1.6
"""Beyond these between two frames an ego did not drive but was moved: a teleport, a kink, a turn on the spot."""

SETTLE_FRAMES = 30
"""Frames after an ego is chosen before it is recorded: insertion and hand-over are not driving."""

SPACING_M = 45.0
"""Egos of a town start at least this far apart, where there is room."""

SHARES = {"straight": 0.5, "standing": 0.08}
"""Largest share of a recording's bursts that go straight or stand; the rest turn."""

KEEP = {"turning": 1.0, "straight": 0.4, "standing": 0.15, "off-nominal": 1.0}
"""Chance of keeping a burst while its kind is below its share; above it, a twentieth of that."""

KEEP_SLOW_START = 0.15
"""Chance of keeping a burst that starts from a standstill."""

SLOW_START_MPS = 0.7

PAUSE_FRAMES = (5, 25)
"""After a burst an ego is left alone for a number of frames in this range."""

RETRY_FRAMES = 8
"""A burst that is not kept loses this many of its first frames before it is judged again."""

SHORTEST_DRIVE_FRAMES = 3 * FRAMES_PER_CHUNK
"""Long drives that end before are dropped."""


@dataclass(eq=False)
class _Take:
    """An ego and what was captured of it so far."""

    ego: Ego
    shots: list[Shot] = field(default_factory=list)
    off_nominal: list[bool] = field(default_factory=list)
    settle_frames: int = SETTLE_FRAMES

    def add(self, shot: Shot) -> None:
        self.shots.append(shot)
        self.off_nominal.append(self.ego.is_off_nominal)

    def drop(self, frames: int) -> None:
        """Forget the first frames."""
        del self.shots[:frames], self.off_nominal[:frames]

    def broken_off(self) -> "_Take":
        """What was captured so far, as a take of its own; this one begins anew."""
        broken = _Take(self.ego, self.shots, self.off_nominal)
        self.shots, self.off_nominal = [], []
        return broken

    def kind(self, frames: int) -> str:
        """Who drives in the first frames, and how: an off-nominal ego that keeps to its lane is like the others."""
        if any(self.off_nominal[:frames]):
            return "off-nominal"
        return "own" if isinstance(self.ego, OwnEgo) else self.ego.kind


class Crew:
    """Keeps a number of egos going in a town and collects drives of them, until a time.

    Args:
        town: where.
        egos: how many at a time; every second one is driven by us.
        rng: chooses egos, their flaws, and what is kept.
        until_us: simulated time at which the collection ends (when traffic does).
        off_nominal: share of egos that are driven off-nominally, and share of bursts that show it.
    """

    def __init__(
        self, town: Town, egos: int, rng: np.random.Generator, until_us: int, off_nominal: float = 0.0
    ) -> None:
        self._town = town
        self._egos = egos
        self._rng = rng
        self._until_us = until_us
        self._takes: list[_Take] = []
        self._wayward = round(off_nominal * egos) or int(off_nominal > 0)
        self._shares = SHARES | {"off-nominal": off_nominal, "nominal": 1 - off_nominal}
        self._kept = dict.fromkeys(KEEP, 0)

    def bursts(self, frames: int) -> Iterator[Capture]:
        """Bursts of ``frames`` frames that are worth keeping."""
        while self._town.traffic.time_us < self._until_us:
            self._step()
            for take in self._takes:
                if len(take.shots) < frames:
                    continue
                if self._is_wanted(take, frames):
                    capture = self._capture(take, frames)
                    take.drop(len(take.shots))
                    take.settle_frames = int(self._rng.integers(*PAUSE_FRAMES))
                    yield capture
                else:
                    # The same ego a little later may be about to turn.
                    take.drop(RETRY_FRAMES)

    def drives(self, frames: int) -> Iterator[Capture]:
        """Long drives of up to ``frames`` frames, nothing left out.

        An ego that arrives early makes a shorter one, and so does one that goes astray or is moved.
        """
        while self._town.traffic.time_us < self._until_us:
            for take in self._step():
                if len(take.shots) >= SHORTEST_DRIVE_FRAMES:
                    yield self._capture(take, len(take.shots))
            for take in self._takes:
                if len(take.shots) >= frames:
                    yield self._capture(take, frames)
                    take.drop(len(take.shots))

    def _step(self) -> list[_Take]:
        """One frame for everyone; returns takes that end: of egos that are done, and what others broke off."""
        self._enlist()
        actors = self._town.traffic.actors()
        for take in self._takes:
            take.ego.prepare(actors)
        self._town.step()
        done = [take for take in self._takes if take.ego.is_done]
        for take in done:
            take.ego.leave()
        self._takes = [take for take in self._takes if take not in done]
        actors = held_actors(self._town.traffic.actors())
        return done + [broken for take in self._takes if (broken := self._shoot(take, actors))]

    def _shoot(self, take: _Take, actors: ActorTable) -> _Take | None:
        """Add a shot to a take; returns the shots before it where it does not go on from them."""
        if take.settle_frames > 0:
            take.settle_frames -= 1
            return None
        if take.ego.is_astray(actors):
            return take.broken_off()
        shot = Shot(held_pose(take.ego.pose_world_from_ego()), actors, self._town.traffic.time_us)
        moved = take.shots and not is_driving(_poses_of([*take.shots[-2:], shot]))
        broken = take.broken_off() if moved else None
        take.add(shot)
        return broken

    def _is_wanted(self, take: _Take, frames: int) -> bool:
        poses_world_from_ego = _poses_of(take.shots[:frames])
        manoeuvre = manoeuvre_of(poses_world_from_ego)
        shown = "off-nominal" if take.kind(frames) == "off-nominal" else manoeuvre
        chance = KEEP[shown]
        kept = sum(self._kept.values())
        nominal = 0 if shown == "off-nominal" else kept - self._kept["off-nominal"]
        if self._kept[shown] > self._shares.get(shown, 1.0) * kept or nominal > self._shares["nominal"] * kept:
            chance /= 20
        start_mps = float(np.linalg.norm(np.diff(poses_world_from_ego[:2, :2, 3], axis=0))) * 1e6 / STEP_US
        if manoeuvre != "standing" and start_mps < SLOW_START_MPS:
            chance *= KEEP_SLOW_START
        if self._rng.random() >= chance:
            return False
        self._kept[shown] += 1
        return True

    def _capture(self, take: _Take, frames: int) -> Capture:
        ego_id = self._town.traffic.actor_id(take.ego.vehicle_id)
        shots = tuple(_without_what_is_out_of_view(shot, ego_id) for shot in take.shots[:frames])
        return Capture(shots, ego_id, take.kind(frames), manoeuvre_of(_poses_of(shots)))

    def _enlist(self) -> None:
        missing = self._egos - len(self._takes)
        if missing <= 0:
            return
        taken = {take.ego.vehicle_id for take in self._takes}
        free = [car for car in self._town.traffic.cars() if car not in taken]
        own = sum(isinstance(take.ego, OwnEgo) for take in self._takes)
        wayward = sum(isinstance(take.ego, WaywardEgo) for take in self._takes)
        for car in self._rng.permutation(free)[: 4 * missing]:
            if len(self._takes) >= self._egos:
                return
            state = self._town.traffic.vehicle_state(str(car))
            if self._is_crowded(np.array(state.xyz_m[:2])):
                continue
            if own < max(self._egos // 2, self._wayward):
                if state.lane_id not in self._town.lanes or state.lane_id.startswith(":"):
                    continue
                own += 1
                if wayward < self._wayward:
                    wayward += 1
                    self._takes.append(_Take(WaywardEgo(self._town, str(car), self._rng)))
                else:
                    self._takes.append(_Take(OwnEgo(self._town, str(car), self._rng)))
            else:
                self._takes.append(_Take(SumoEgo(self._town, str(car))))

    def _is_crowded(self, xy_m: Float64[np.ndarray, "2"]) -> bool:
        return any(np.linalg.norm(take.ego.pose_world_from_ego()[:2, 3] - xy_m) < SPACING_M for take in self._takes)


def _poses_of(shots: Sequence[Shot]) -> Poses:
    return np.stack([shot.pose_world_from_ego for shot in shots])


def _without_what_is_out_of_view(shot: Shot, ego_id: int) -> Shot:
    others = shot.actors[shot.actors.ids != ego_id]
    return replace(shot, actors=others[reaches_in(others, shot.pose_world_from_ego, CARLASC_GRID)])


def is_driving(poses_world_from_ego: Float64[np.ndarray, "T 4 4"]) -> bool:
    """Whether two or three consecutive poses are such as a car can take at 10 Hz."""
    planar = planar_from_poses(poses_world_from_ego)
    speeds_mps = np.linalg.norm(np.diff(planar[:, :2], axis=0), axis=1) * 1e6 / STEP_US
    yaw_steps_rad = np.abs(wrap_angle(np.diff(planar[:, 2])))
    return bool(
        (speeds_mps < MAX_SPEED_MPS).all()
        and (yaw_steps_rad < LARGEST_YAW_STEP_RAD).all()
        and (np.abs(np.diff(speeds_mps)) < LARGEST_SPEED_STEP_MPS).all()
    )


def manoeuvre_of(poses_world_from_ego: Float64[np.ndarray, "T 4 4"]) -> str:
    """What a burst shows: ``turning`` when any chunk of it would carry a turn command, ``standing`` or ``straight``."""
    planar = planar_from_poses(poses_world_from_ego)
    yaws_rad = np.unwrap(planar[:, 2])
    span = min(FRAMES_PER_CHUNK - 1, len(planar) - 1)
    travelled_m = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(planar[:, :2], axis=0), axis=1))])
    turns = np.abs(yaws_rad[span:] - yaws_rad[:-span]) >= TURN_ANGLE_RAD
    moves = travelled_m[span:] - travelled_m[:-span] >= STATIC_DISTANCE_M
    if (turns & moves).mean() >= 0.2:
        return "turning"
    return "straight" if moves.any() else "standing"
