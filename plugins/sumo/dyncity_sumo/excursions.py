"""Driving that no lane keeper does: smooth ways off the guide line and back, and braking hard for nothing.

An ego that keeps to its lane teaches a model nothing of plans that do not. These drift, swerve, leave their lane for
some seconds, cut corners or take them wide. Each way is tried out in advance with the driver's own model, and only
taken when the whole of it stays on the carriageway and clear of everyone.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64

from dyncity_sumo.routes import SPACING_M, GuideLine

LATERAL_MPS2 = 2.0
"""Sideways acceleration of an excursion on a straight road."""

STEEPEST = 0.3
"""Metres sideways per metre ahead: 17 degrees."""

_PEAK_SLOPE, _PEAK_BEND = 1.875, 5.774
"""Largest first and second derivative of ``_smooth``."""

CURVE_RAD = 0.5
"""A corner is where the line turns by more than this within CORNER_M."""

CORNER_M = 14.0
CORNER_AHEAD_M = (8.0, 45.0)
"""So far ahead a corner is to be cut."""


@dataclass(frozen=True)
class Excursion:
    """A way off the guide line and back.

    Attributes:
        from_m: distance along the line at which it begins.
        rise_m: distance over which the car moves away from the line, and again over which it returns.
        hold_m: distance in between.
        offset_m: how far from the line, left positive.
    """

    from_m: float
    rise_m: float
    hold_m: float
    offset_m: float

    @property
    def to_m(self) -> float:
        """Where the car is back."""
        return self.from_m + 2 * self.rise_m + self.hold_m

    def at(self, s_m: Float64[np.ndarray, " N"]) -> Float64[np.ndarray, " N"]:
        """Offset at distances along the line; its curvature is continuous."""
        away = _smooth((s_m - self.from_m) / self.rise_m)
        back = _smooth((self.to_m - s_m) / self.rise_m)
        return self.offset_m * np.minimum(away, back)

    def given_up(self, s_m: float) -> "Excursion":
        """The same, but returning from ``s_m`` on as soon as it can; its offset up to there is as it was."""
        risen_m = min(max(s_m, self.from_m), self.to_m - self.rise_m)
        if risen_m >= self.from_m + self.rise_m:
            return replace(self, hold_m=risen_m - self.from_m - self.rise_m)
        # While it is still moving away it goes on to a smaller offset, which it leaves at once.
        share = float(_smooth(np.array((risen_m - self.from_m) / self.rise_m)))
        left_m = max(risen_m - self.from_m, 1.0)
        return replace(self, from_m=risen_m - left_m, rise_m=left_m, hold_m=0.0, offset_m=share * self.offset_m)


def excursion(from_m: float, offset_m: float, hold_m: float, speed_mps: float, gentleness: float = 1.0) -> Excursion:
    """The shortest excursion that stays within LATERAL_MPS2 at this speed and STEEPEST, times ``gentleness``.

    The rise is a quintic with zero slope and curvature at both ends, the usual minimum-jerk lane change (Flash and
    Hogan 1985).
    """
    offset = abs(offset_m)
    rise_m = max(speed_mps * np.sqrt(_PEAK_BEND * offset / LATERAL_MPS2), _PEAK_SLOPE * offset / STEEPEST)
    return Excursion(from_m, float(gentleness * rise_m), hold_m, offset_m)


def displaced(line: GuideLine, way: Excursion | None) -> GuideLine:
    """The line that leads along an excursion from ``line``; its points keep their distances along it."""
    if way is None:
        return line
    s_m = SPACING_M * np.arange(len(line.points_m))
    left = np.column_stack([-np.sin(line.yaws_rad), np.cos(line.yaws_rad), np.zeros(len(s_m))])
    points_m = line.points_m + way.at(s_m)[:, None] * left
    tangent = np.gradient(points_m[:, :2], axis=0)
    yaws_rad = np.unwrap(np.arctan2(tangent[:, 1], tangent[:, 0]))
    # Unwrapping starts anew at the first point.
    turns = np.round((line.yaws_rad[0] - yaws_rad[0]) / (2 * np.pi))
    return GuideLine(points_m, yaws_rad + 2 * np.pi * turns, line.speeds_mps)


def drawn_excursion(line: GuideLine, s_m: float, speed_mps: float, rng: np.random.Generator) -> Excursion:
    """An excursion that begins at ``s_m``: a corner cut or taken wide where there is one, else one of three kinds."""
    corner = corner_ahead(line, s_m)
    if corner is not None and rng.random() < 0.7:
        apex_m, left = corner
        inwards = 1.0 if rng.random() < 0.7 else -1.0
        offset_m = (1.0 if left else -1.0) * inwards * float(rng.uniform(0.5, 1.2))
        way = excursion(s_m, offset_m, 0.0, min(speed_mps, 6.0))
        from_m = max(apex_m - CORNER_M / 2 - way.rise_m, s_m)
        return replace(way, from_m=from_m, hold_m=max(apex_m + CORNER_M / 2 - from_m - way.rise_m, 0.0))
    side = 1.0 if rng.random() < 0.5 else -1.0
    kind = rng.random()
    if kind < 0.4:  # drift
        return excursion(s_m, side * float(rng.uniform(0.5, 1.2)), speed_mps * rng.uniform(1, 4), speed_mps, 2.5)
    if kind < 0.7:  # swerve
        return excursion(s_m, side * float(rng.uniform(0.7, 1.8)), speed_mps * rng.uniform(0, 0.5), speed_mps)
    return excursion(s_m, side * float(rng.uniform(1.5, 3.5)), speed_mps * rng.uniform(1, 4), speed_mps, 1.3)


def corner_ahead(line: GuideLine, s_m: float) -> tuple[float, bool] | None:
    """Where the line turns most within CORNER_AHEAD_M, and whether to the left; None where it hardly does."""
    first, last = (int((s_m + ahead_m) / SPACING_M) for ahead_m in CORNER_AHEAD_M)
    span = int(CORNER_M / SPACING_M)
    yaws_rad = line.yaws_rad[first : last + span]
    if len(yaws_rad) <= span:
        return None
    turned_rad = yaws_rad[span:] - yaws_rad[:-span]
    most = int(np.abs(turned_rad).argmax())
    if abs(turned_rad[most]) < CURVE_RAD:
        return None
    return (first + most) * SPACING_M + CORNER_M / 2, bool(turned_rad[most] > 0)


def _smooth(share: Float64[np.ndarray, "..."]) -> Float64[np.ndarray, "..."]:
    """From 0 to 1 with zero first and second derivatives at both ends."""
    u = np.clip(share, 0.0, 1.0)
    return u**3 * (10 - 15 * u + 6 * u**2)
