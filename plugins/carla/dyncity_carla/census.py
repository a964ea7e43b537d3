"""Who else is in the world: CARLA's vehicles and walkers as actors of ours."""

from collections.abc import Mapping

import numpy as np

from dyncity_carla.assets import family_of
from dyncity_carla.frames import mirrored_points, pose_from_carla
from dyncity_carla.ports import ActorInfo, BoundingBox, Snapshot
from dyncity_carla.world import CarlaWorld
from dyncity_sim.domain.frames import Pose
from dyncity_sim.domain.recording import ActorKind, ActorState
from dyncity_sim.errors import SimulatorError

KINDS: Mapping[str, ActorKind] = {kind.value: kind for kind in ActorKind}

MOST_ACTORS = 2**16 - 1
"""Cells hold the number of their actor in 16 bits, and 0 for none."""


class Census:
    """Keeps track of the actors of a world, asking the server only about those that are new.

    Args:
        world: connected.

    Attributes:
        numbers: our id of each actor of the server that was ever counted; running from 1.
    """

    def __init__(self, world: CarlaWorld) -> None:
        self._world = world
        self._blueprints = {blueprint.id: blueprint for blueprint in world.blueprints()}
        self._known: dict[int, ActorInfo] = {}
        self._boxes: dict[int, BoundingBox] = {}
        self._last: dict[int, tuple[float, Pose]] = {}
        self.numbers: dict[int, int] = {}

    def states(self, snapshot: Snapshot, leave_out: int) -> list[ActorState]:
        """All vehicles and walkers of a tick but one, sorted by our id.

        Speeds are what actors moved since they were last asked about: those that are placed have no velocity.

        Raises:
            SimulatorError: more were counted than a frame's cells can tell apart.
        """
        if any(actor_id not in self._known for actor_id in snapshot.ids):
            self._known |= {actor.id: actor for actor in self._world.actors()}
        states, now = [], {}
        for actor_id in snapshot.ids:
            info = self._known.get(actor_id)
            found = snapshot.actor(actor_id)
            kind = None if info is None else self._kind(info)
            if actor_id == leave_out or info is None or found is None or kind is None:
                continue
            box = self._box(actor_id)
            if box is None:
                continue
            pose = pose_from_carla(found.transform)
            pose[:3, 3] += pose[:3, :3] @ mirrored_points(np.array(box.centre_m))
            now[actor_id] = (snapshot.elapsed_s, pose)
            speed_mps = self._speed(actor_id, snapshot.elapsed_s, pose, found.velocity_mps)
            number = self._number(actor_id)
            states.append(ActorState(number, kind, pose, box.size_m, speed_mps))
        self._last = now
        return sorted(states, key=lambda state: state.id)

    def _number(self, actor_id: int) -> int:
        if actor_id not in self.numbers and len(self.numbers) == MOST_ACTORS:
            raise SimulatorError(
                f"More than {MOST_ACTORS} actors came and went in one drive, and frames cannot tell more apart: begin "
                "another drive."
            )
        return self.numbers.setdefault(actor_id, len(self.numbers) + 1)

    def _kind(self, info: ActorInfo) -> ActorKind | None:
        blueprint = self._blueprints.get(info.type_id)
        family = None if blueprint is None else family_of(blueprint)
        return None if family is None else KINDS[family]

    def _box(self, actor_id: int) -> BoundingBox | None:
        """The box of an actor; None where it is gone since, or has none."""
        if actor_id not in self._boxes:
            try:
                self._boxes[actor_id] = self._world.bounding_box(actor_id)
            except SimulatorError:
                if self._world.is_silent:
                    raise
                return None
        box = self._boxes[actor_id]
        return box if min(box.size_m) > 0 else None

    def _speed(self, actor_id: int, elapsed_s: float, pose: Pose, velocity_mps: tuple[float, float, float]) -> float:
        before_s, before = self._last.get(actor_id, (elapsed_s, pose))
        if elapsed_s > before_s:
            moved_m = pose[:3, 3] - before[:3, 3]
            return float(moved_m @ pose[:3, 0]) / (elapsed_s - before_s)
        return float(mirrored_points(np.array(velocity_mps)) @ pose[:3, 0])
