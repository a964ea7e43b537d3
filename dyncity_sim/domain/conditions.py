"""What a chunk is generated from: ego plan, command, vehicle layout, continuation, known region."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Int64

from dyncity_sim.domain.frames import PlanarPoses, Poses, check_poses, check_times, planar_from_poses, wrap_angle
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.errors import InvalidInputError

CONDITIONS = ("known_region", "continuation", "plan", "layout", "command")
"""Names of all conditions, in the order in which guidance adds them."""

MAX_SPEED_MPS = 70.0
"""Fastest ego a plan may ask for between two frames (252 km/h); faster is a unit mistake."""

MAX_ACCELERATION_MPS2 = 100.0
"""Largest change of an ego's velocity; at 10 Hz a place that is off by a metre. Brakes and crashes stay below."""

MAX_YAW_RATE_RADPS = 2 * np.pi
"""Fastest turn of an ego; a spinning car is slower."""

LAYOUT_COLUMNS = 4
"""Columns of the grid along each side of a cell of a vehicle layout."""

MOST_STEPS = 1000
"""Most network evaluations along a trajectory that a request may ask for; a model may offer fewer."""

MOST_RESAMPLES = 50
"""Most walks of each interval that a request may ask for."""

MOST_GUIDANCE = 20
"""Largest scale of guidance that a request may ask for."""

POSE_TOLERANCE = 1e-4
"""How far a known region's poses may be off the plan's, metres and entries of rotations."""


class Command(enum.Enum):
    """A driving command for one chunk; LEFT is a positive change of yaw (counter-clockwise from above)."""

    STATIC = "static"
    FORWARD = "forward"
    LEFT = "left"
    RIGHT = "right"


STATIC_DISTANCE_M = 0.8
"""Under this path length over a chunk the ego counts as standing (0.5 m/s over 1.6 s)."""

TURN_ANGLE_RAD = np.deg2rad(10.0)
"""From this change of yaw over a chunk on, the ego counts as turning."""


@dataclass(frozen=True, eq=False)
class EgoPlan:
    """Where the ego will be over the next chunk.

    Attributes:
        poses_world_from_ego: ``(T, 4, 4)``; ``world`` is any gravity-aligned right-handed frame
            (metres) that stays the same over a drive. Frame 0 of the next chunk is 0.1 s after the
            last frame of the one before.
        times_us: time of each pose, microseconds, strictly increasing.
    """

    poses_world_from_ego: Poses
    times_us: Int64[np.ndarray, " T"]

    def __post_init__(self) -> None:
        poses = check_poses(self.poses_world_from_ego, "plan.poses_world_from_ego")
        if len(poses) < 2:
            raise InvalidInputError("plan.poses_world_from_ego", "1 pose", "at least 2")
        times_us = check_times(self.times_us, "plan.times_us", len(poses))
        _check_drivable(poses, times_us)
        object.__setattr__(self, "poses_world_from_ego", poses)
        object.__setattr__(self, "times_us", times_us)

    def __len__(self) -> int:
        return len(self.poses_world_from_ego)

    @property
    def command(self) -> Command:
        """The command this plan amounts to."""
        return command_along(planar_from_poses(self.poses_world_from_ego))


def command_along(planar: PlanarPoses) -> Command:
    """The command that poses (x, y, yaw in metres and radians) amount to, by the thresholds of this module.

    Unlike those of a plan, they may jump: what is measured does.
    """
    travelled_m = np.linalg.norm(np.diff(planar[:, :2], axis=0), axis=1).sum()
    turned_rad = float(wrap_angle(np.diff(planar[:, 2])).sum())
    if travelled_m < STATIC_DISTANCE_M:
        return Command.STATIC
    if abs(turned_rad) < TURN_ANGLE_RAD:
        return Command.FORWARD
    return Command.LEFT if turned_rad > 0 else Command.RIGHT


def _check_drivable(poses: Poses, times_us: Int64[np.ndarray, " T"]) -> None:
    """Raise InvalidInputError where a plan jumps."""
    step_s = np.diff(times_us) * 1e-6
    velocity_mps = np.diff(poses[:, :3, 3], axis=0) / step_s[:, None]
    between_s = (step_s[1:] + step_s[:-1]) / 2
    limits = (
        (np.linalg.norm(velocity_mps, axis=1), MAX_SPEED_MPS, "m/s", 1),
        (np.linalg.norm(np.diff(velocity_mps, axis=0), axis=1) / between_s, MAX_ACCELERATION_MPS2, "m/s^2", 2),
        (np.abs(wrap_angle(np.diff(planar_from_poses(poses)[:, 2]))) / step_s, MAX_YAW_RATE_RADPS, "rad/s", 1),
    )
    for values, most, unit, frames in limits:
        if len(values) and values.max() > most:
            worst = int(values.argmax())
            raise InvalidInputError(
                "plan.poses_world_from_ego",
                f"{values[worst]:.0f} {unit} between frames {worst} and {worst + frames}",
                f"at most {most:.4g} {unit}",
                "A vehicle cannot drive that: poses are in metres along one path, times in microseconds.",
            )


@dataclass(frozen=True, eq=False)
class VehicleLayout:
    """Where vehicles stand in each frame, seen from above.

    Attributes:
        cells: True where a vehicle is, ``(T, X, Y)`` in the ego frame of each frame, x forward and y left; a cell
            covers ``LAYOUT_COLUMNS`` x ``LAYOUT_COLUMNS`` columns of the grid (1.6 m on the CarlaSC grid).
    """

    cells: Bool[np.ndarray, "T X Y"]

    def __post_init__(self) -> None:
        cells = np.ascontiguousarray(self.cells)
        if cells.dtype != np.bool_ or cells.ndim != 3 or 0 in cells.shape:
            raise InvalidInputError("layout.cells", f"{cells.dtype} {cells.shape}", "bool (T, X, Y)")
        object.__setattr__(self, "cells", cells)

    def __len__(self) -> int:
        return len(self.cells)

    @classmethod
    def of(cls, occupancy: OccupancySequence) -> "VehicleLayout":
        """The layout of an occupancy sequence: a cell is True where any of its columns holds a vehicle.

        Raises:
            InvalidInputError: the taxonomy has no vehicles, or a cell would be cut by the border of the grid.
        """
        frames, x, y = occupancy.labels.shape[:3]
        if x % LAYOUT_COLUMNS or y % LAYOUT_COLUMNS:
            raise InvalidInputError("occupancy.grid", f"{x} x {y} columns", f"multiples of {LAYOUT_COLUMNS}")
        columns = (occupancy.labels == occupancy.taxonomy.index("vehicle")).any(axis=-1)
        if occupancy.observed is not None:
            columns &= occupancy.observed.any(axis=-1)
        blocks = columns.reshape(frames, x // LAYOUT_COLUMNS, LAYOUT_COLUMNS, y // LAYOUT_COLUMNS, LAYOUT_COLUMNS)
        return cls(blocks.any(axis=(2, 4)))


@dataclass(frozen=True)
class Continuation:
    """What the next chunk needs to know of those before it; opaque to all but the model that made it.

    Attributes:
        model_id: the model that made it, and the only one that can read it.
        payload: the model's own bytes.
    """

    model_id: str
    payload: bytes


@dataclass(frozen=True)
class Conditions:
    """Everything a chunk is generated from; each part is optional.

    Attributes:
        plan: ego plan of the chunk. Required by models whose planes live in a common frame.
        command: driving command, or None to leave it to the plan or to chance.
        continuation: from the reply before, or from EncodeOccupancy; None starts a new drive.
        layout: where vehicles are to stand, or None to leave it to chance. One without any vehicle is a
            condition, too.
        known_region: the chunk as far as it is known already; generation fills in the rest. Its ``observed`` says
            which cells are known, at least one and not all of them; its frames are the chunk's, at the plan's poses
            and times.

    Raises:
        InvalidInputError: the known region knows everything or nothing, or does not lie along the plan.
    """

    plan: EgoPlan | None = None
    command: Command | None = None
    continuation: Continuation | None = None
    layout: VehicleLayout | None = None
    known_region: OccupancySequence | None = None

    def __post_init__(self) -> None:
        if self.known_region is not None:
            _check_region(self.known_region, self.plan)

    def given(self) -> tuple[str, ...]:
        """Names of the conditions that are there, in the order of ``CONDITIONS``."""
        return tuple(name for name in CONDITIONS if getattr(self, name) is not None)


def _check_region(region: OccupancySequence, plan: EgoPlan | None) -> None:
    wanted = "some cells that are known and some that are not"
    if region.observed is None or region.observed.all():
        raise InvalidInputError(
            "known_region.observed", "a mask that covers every cell", wanted, "There is nothing to generate."
        )
    if not region.observed.any():
        raise InvalidInputError(
            "known_region.observed", "a mask that covers no cell", wanted, "Leave the known region out."
        )
    if plan is None:
        return
    if len(region) != len(plan):
        raise InvalidInputError("known_region.labels", f"{len(region)} frames", f"{len(plan)}, those of the plan")
    apart = np.abs(region.poses_world_from_ego - plan.poses_world_from_ego).max(axis=(1, 2))
    if apart.max() > POSE_TOLERANCE:
        frame = int(apart.argmax())
        raise InvalidInputError(
            "known_region.poses_world_from_ego",
            f"a pose that is {apart[frame]:.3g} off the plan's at frame {frame}",
            "the plan's poses",
            "Grids are never resampled silently.",
        )
    if (region.times_us != plan.times_us).any():
        raise InvalidInputError("known_region.times_us", "other times than the plan's", "the plan's times")


@dataclass(frozen=True)
class SamplingOptions:
    """How to sample; None leaves the choice to the model's defaults.

    Attributes:
        seed: same seed, conditions, weights and device give the same labels; None lets the server draw.
        steps: network evaluations along the sampling trajectory.
        guidance_scale: classifier-free guidance; 1 is none.
        sampler: name of the sampler, one of those the model lists.
        guidance_scales: a scale of its own for a condition of that name, instead of ``guidance_scale`` or the
            model's default.
        resamples: how often each interval is walked to fit generated cells to a known region (RePaint, Lugmayr et
            al. 2022, section 4.2); more costs as many times the steps. Without a known region it has no effect.
    """

    seed: int | None = None
    steps: int | None = None
    guidance_scale: float | None = None
    sampler: str | None = None
    guidance_scales: Mapping[str, float] = field(default_factory=dict, hash=False)
    resamples: int | None = None

    def __post_init__(self) -> None:
        if self.seed is not None and not 0 <= self.seed < 2**63:
            raise InvalidInputError("options.seed", self.seed, "an integer in [0, 2^63)")
        if self.steps is not None and not 1 <= self.steps <= MOST_STEPS:
            raise InvalidInputError("options.steps", self.steps, f"an integer in [1, {MOST_STEPS}]")
        if self.guidance_scale is not None:
            _check_scale("options.guidance_scale", self.guidance_scale)
        for name, scale in self.guidance_scales.items():
            if name not in CONDITIONS:
                raise InvalidInputError("options.guidance_scales", repr(name), f"one of {', '.join(CONDITIONS)}")
            _check_scale(f"options.guidance_scales[{name}]", scale)
        if self.resamples is not None and not 1 <= self.resamples <= MOST_RESAMPLES:
            raise InvalidInputError("options.resamples", self.resamples, f"an integer in [1, {MOST_RESAMPLES}]")


def _check_scale(name: str, scale: float) -> None:
    if not 0 <= scale <= MOST_GUIDANCE:
        raise InvalidInputError(name, scale, f"a number in [0, {MOST_GUIDANCE}]")
