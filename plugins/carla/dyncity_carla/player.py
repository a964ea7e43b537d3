"""Presenting tracks: every tick, one batch that spawns, moves and removes what the scene has at that time."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias

import numpy as np

from dyncity_carla.assets import Library
from dyncity_carla.frames import CarlaTransform, carla_from_poses, mirrored_points
from dyncity_carla.ports import BoundingBox, Command, Destroy, Outcome, Place, Spawn
from dyncity_carla.timeline import Timeline
from dyncity_sim.domain.frames import Pose
from dyncity_sim.domain.recording import ActorKind

ACTOR_LIFTS_M = (0.2, 1.2, 100.0)
PROP_LIFTS_M = (0.2, 0.6, 1.2)
"""Where there is no room for a figure, it is made this much higher and put down at once.

The last step is above everything that may be in an actor's way: its track leads through that at later ticks as well.
A prop stays out of what it would stand in.
"""

PERSISTENCE_TICKS = 10
"""A figure for which there is no room is tried for at each of so many ticks, and from then on at every tenth."""

MOVED_M = 1e-3
"""A guess at an actor's place that is off by more than this is put right once its box is known."""


class Stage(Protocol):
    """What presenting needs of a session."""

    def batch(self, commands: list[Command]) -> list[Outcome]:
        """Do many things at once, before the next tick."""
        ...


@dataclass(frozen=True, eq=False)
class Figure:
    """A thing to show at one time.

    Attributes:
        id: stable over time; positive for an actor of the scene, negative for a prop.
        blueprint_id: what stands for it.
        size_m: length, width, height of the thing itself; the blueprint's may differ.
        pose_world_from_actor: ``(4, 4)`` middle of the thing's box, right-handed.
    """

    id: int
    blueprint_id: str
    size_m: tuple[float, float, float]
    pose_world_from_actor: Pose

    @property
    def what(self) -> str:
        """What role names say that it is."""
        return f"track{self.id}" if self.is_actor else f"prop{-self.id}"

    @property
    def is_actor(self) -> bool:
        """Whether it is on a track, and not a prop."""
        return self.id > 0


@dataclass(frozen=True)
class Unspawned:
    """A figure for which the world had no room.

    Attributes:
        id: of the figure.
        blueprint_id: what should have stood for it.
        attempts: ticks at which it was wanted and not there.
        reason: the server's words at the last attempt.
        shown_later: room was found after all.
    """

    id: int
    blueprint_id: str
    attempts: int
    reason: str
    shown_later: bool = False


def told_of(unspawned: Iterable[Unspawned]) -> list[str]:
    """What found no room, a line for each blueprint and reason, those of most figures first."""
    counted = Counter((figure.blueprint_id, figure.reason) for figure in unspawned)
    return [f"{count} x {blueprint_id}: {reason}" for (blueprint_id, reason), count in counted.most_common()]


BoxOf: TypeAlias = Callable[[int], BoundingBox]
RoleOf: TypeAlias = Callable[[str], str]


class Player:
    """Shows figures in a world; what is shown follows the figures of each tick, without physics.

    A blueprint's box stands where the figure's box stands: middle on middle seen from above, underside on underside.
    How an actor's origin lies in its box is asked once per blueprint, after its first actor was made.

    Args:
        stage: takes the batches.
        box_of: the bounding box of an actor.
        role: role name of a figure, by what it is.
    """

    def __init__(self, stage: Stage, box_of: BoxOf, role: RoleOf) -> None:
        self._stage, self._box_of, self._role = stage, box_of, role
        self._boxes: dict[str, BoundingBox] = {}
        self._shown: dict[int, tuple[int, str]] = {}
        self._placed: dict[int, CarlaTransform] = {}
        self._seen: set[int] = set()
        self._unspawned: dict[int, Unspawned] = {}

    @property
    def shown(self) -> Mapping[int, int]:
        """Actor of each figure that is in the world."""
        return {figure: actor for figure, (actor, _) in self._shown.items()}

    @property
    def unspawned(self) -> tuple[Unspawned, ...]:
        """Everything that found no room at first, with what became of it."""
        return tuple(self._unspawned[number] for number in sorted(self._unspawned))

    def present(self, figures: Iterable[Figure], besides: Sequence[Command] = ()) -> list[Outcome]:
        """Make the next tick show exactly these figures; returns the outcomes of the commands ``besides``.

        One batch, and a second one only when a blueprint is used for the first time or something found no room.
        """
        wanted = {figure.id: figure for figure in figures}
        gone = [number for number in self._shown if number not in wanted]
        standing = [wanted[number] for number in self._shown if number in wanted]
        new = [figure for number, figure in wanted.items() if number not in self._shown and self._is_due(number)]
        commands: list[Command] = [*besides]
        commands += [Destroy(self._shown[number][0]) for number in gone]
        moving = [
            (figure, to)
            for figure, to in zip(standing, origins_of(standing, self._boxes), strict=True)
            if to != self._placed.get(figure.id)
        ]
        commands += [Place(self._shown[figure.id][0], to) for figure, to in moving]
        commands += [self._spawn(figure, 0.0) for figure in new]
        outcomes = self._stage.batch(commands)
        for number in gone:
            self._lose(number)
        first = len(besides) + len(gone)
        for (figure, to), outcome in zip(moving, outcomes[first : first + len(moving)], strict=True):
            self._placed[figure.id] = to
            if outcome.refusal:
                # Somebody destroyed it: it comes back at the next tick.
                self._lose(figure.id)
        self._settle(new, outcomes[first + len(moving) :])
        return outcomes[: len(besides)]

    def look(self, actor_ids: Sequence[int]) -> None:
        """Take note of the actors that a tick shows: what was there and is not any more comes back at the next one.

        What no tick has shown yet is not missed: another client's tick can be older than the last batch.
        """
        there = set(actor_ids)
        for number, (actor_id, _) in list(self._shown.items()):
            if actor_id in self._seen and actor_id not in there:
                self._lose(number)
        self._seen = there

    def _lose(self, number: int) -> None:
        del self._shown[number]
        self._placed.pop(number, None)

    def _settle(self, new: Sequence[Figure], outcomes: Sequence[Outcome]) -> None:
        """Note what was spawned, and lift what was not; put right what stood on a guess."""
        refused = self._note(new, outcomes)
        for actor_lift_m, prop_lift_m in zip(ACTOR_LIFTS_M, PROP_LIFTS_M, strict=True):
            if not refused:
                break
            again = [figure for figure, _ in refused]
            lifts_m = [actor_lift_m if figure.is_actor else prop_lift_m for figure in again]
            outcomes = self._stage.batch([self._spawn(*pair) for pair in zip(again, lifts_m, strict=True)])
            refused = self._note(again, outcomes)
        for figure, reason in refused:
            before = self._unspawned.get(figure.id)
            attempts = before.attempts + 1 if before else 1
            self._unspawned[figure.id] = Unspawned(figure.id, figure.blueprint_id, attempts, reason)

    def _note(self, figures: Sequence[Figure], outcomes: Sequence[Outcome]) -> list[tuple[Figure, str]]:
        """Keep what was made, and put it right where its blueprint's box was a guess; returns what was refused."""
        guesses = {figure.id: self._at(figure) for figure in figures}
        made = [(figure, outcome) for figure, outcome in zip(figures, outcomes, strict=True) if not outcome.refusal]
        for figure, outcome in made:
            self._shown[figure.id] = (outcome.actor_id, figure.blueprint_id)
            if figure.blueprint_id not in self._boxes:
                self._boxes[figure.blueprint_id] = self._box_of(outcome.actor_id)
            if figure.id in self._unspawned:
                self._unspawned[figure.id] = replace(self._unspawned[figure.id], shown_later=True)
        corrections: list[Command] = [
            Place(outcome.actor_id, self._at(figure))
            for figure, outcome in made
            if self._at(figure).distance_m(guesses[figure.id]) > MOVED_M
        ]
        if corrections:
            self._stage.batch(corrections)
        return [(f, outcome.refusal) for f, outcome in zip(figures, outcomes, strict=True) if outcome.refusal]

    def _is_due(self, number: int) -> bool:
        """Whether to try again for a figure that found no room."""
        tried = self._unspawned.get(number)
        if tried is None or tried.shown_later or tried.attempts < PERSISTENCE_TICKS:
            return True
        self._unspawned[number] = replace(tried, attempts=tried.attempts + 1)
        return tried.attempts % PERSISTENCE_TICKS == 0

    def _spawn(self, figure: Figure, lift_m: float) -> Spawn:
        settle = self._at(figure)
        at = replace(settle, z_m=settle.z_m + lift_m)
        return Spawn(figure.blueprint_id, self._role(figure.what), at, settle)

    def _at(self, figure: Figure) -> CarlaTransform:
        return origins_of([figure], self._boxes)[0]


def origins_of(figures: Sequence[Figure], boxes: Mapping[str, BoundingBox]) -> list[CarlaTransform]:
    """Where actors' origins have to be so that their boxes stand on the figures' ground, middle on middle.

    While a box is not known, vehicles and props are taken to have their origin on the ground, walkers in their
    middle, as in CARLA.
    """
    if not figures:
        return []
    poses = np.stack([figure.pose_world_from_actor for figure in figures])
    shifts = np.array([_shift(figure, boxes.get(figure.blueprint_id)) for figure in figures])
    poses[:, :3, 3] += np.einsum("nij,nj->ni", poses[:, :3, :3], shifts)
    return carla_from_poses(poses)


def _shift(figure: Figure, box: BoundingBox | None) -> tuple[float, float, float]:
    """From the middle of a figure's box to the origin of its actor, right-handed in the actor's frame."""
    to_ground_m = -figure.size_m[2] / 2
    if box is None:
        return 0.0, 0.0, to_ground_m + (figure.size_m[2] / 2 if figure.blueprint_id.startswith("walker.") else 0.0)
    x_m, y_m, _ = mirrored_points(np.array(box.centre_m)).tolist()
    return -x_m, -y_m, to_ground_m - box.bottom_m


class Casting:
    """Keeps for each figure the blueprint that it was first given.

    Args:
        library: the server's blueprints.
    """

    def __init__(self, library: Library) -> None:
        self._library = library
        self._cast: dict[int, str] = {}

    def blueprint(self, number: int, kind: ActorKind, size_m: tuple[float, float, float]) -> str:
        """The blueprint for a figure: the nearest in size when it is first asked for, the same from then on."""
        if number not in self._cast:
            self._cast[number] = self._library.nearest(kind, size_m).id
        return self._cast[number]

    def figures(self, timeline: Timeline, time_us: int) -> list[Figure]:
        """Those that stand for the actors of a time."""
        return [
            Figure(track.id, self.blueprint(track.id, track.kind, track.size_m), track.size_m, pose)
            for track, pose in timeline.at(time_us)
        ]
