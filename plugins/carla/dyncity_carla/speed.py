"""How fast the ego may go: speed limits of the OpenDRIVE document, bends, and comfort."""

import math
from bisect import bisect_right
from collections.abc import Sequence
from xml.etree import ElementTree

import numpy as np
from jaxtyping import Float64

from dyncity_carla.ports import LaneKey
from dyncity_carla.route import SPACING_M, Route
from dyncity_sim.errors import MapError

DEFAULT_LIMIT_MPS = 50 / 3.6
"""Where the document says nothing: built-up area."""

FASTEST_MPS = 25.0
"""No faster than this, whatever the document says: a chunk then still overlaps the one before."""

SIDEWAYS_MPS2 = 2.0
"""Sideways acceleration in bends."""

ACCELERATION_MPS2 = 1.8
BRAKING_MPS2 = 2.2
JERK_MPS3 = 4.0
"""How fast the acceleration changes."""

SLOWEST_MPS = 1.5
"""Bends are never taken slower than this: kinks in a map are no reason to stop."""

_MPS = {"": 1.0, "m/s": 1.0, "km/h": 1 / 3.6, "mph": 0.44704}


class SpeedLimits:
    """Speed limits by road, as an OpenDRIVE document gives them (``road/type/speed``).

    Raises:
        MapError: the document is not XML, a road has no number, or a limit is none.
    """

    def __init__(self, opendrive: str) -> None:
        try:
            root = ElementTree.fromstring(opendrive)
        except ElementTree.ParseError as error:
            raise MapError("OpenDRIVE", str(error), "an OpenDRIVE document") from error
        self._limits = {_number(road): _road_limits(road) for road in root.iter("road")}

    def at(self, lane: LaneKey) -> float:
        """Metres per second at a place of a road."""
        limits = self._limits.get(lane.road, [])
        index = bisect_right(limits, lane.s_m, key=lambda limit: limit[0]) - 1
        return min(limits[index][1], FASTEST_MPS) if index >= 0 else DEFAULT_LIMIT_MPS


def allowed_mps(route: Route, limits: SpeedLimits) -> Float64[np.ndarray, " N"]:
    """Speed at each point of a route that limits, bends and braking ahead of them allow; 0 where the road ends."""
    bends = np.sqrt(SIDEWAYS_MPS2 / np.maximum(np.abs(route.curvature()), 1e-6))
    speeds = np.minimum(_limits_along(route.lanes, limits), np.maximum(bends, SLOWEST_MPS))
    if route.ends:
        speeds[-1] = 0.0
    gain = 2 * BRAKING_MPS2 * SPACING_M
    for index in range(len(speeds) - 2, -1, -1):
        speeds[index] = min(speeds[index], float(np.sqrt(speeds[index + 1] ** 2 + gain)))
    return speeds


def next_speed(speed_mps: float, acceleration_mps2: float, allowed: float, step_s: float) -> tuple[float, float]:
    """Speed and acceleration one step on, towards what is allowed; gas comes softly, brakes as hard as they must."""
    missing_mps = allowed - speed_mps
    if missing_mps <= 0:
        wanted = max(missing_mps / step_s, -2 * BRAKING_MPS2)
    else:
        # No more than can be let off, at the same jerk, by the time that the speed is reached.
        softest = min(float(np.sqrt(JERK_MPS3 * missing_mps)), missing_mps / step_s)
        wanted = min(softest, ACCELERATION_MPS2, max(acceleration_mps2, 0.0) + JERK_MPS3 * step_s)
    return max(speed_mps + wanted * step_s, 0.0), wanted


def _limits_along(lanes: Sequence[LaneKey], limits: SpeedLimits) -> Float64[np.ndarray, " N"]:
    return np.array([limits.at(lane) for lane in lanes])


def _road_limits(road: ElementTree.Element) -> list[tuple[float, float]]:
    """(from this distance on, metres per second), sorted; types without a speed keep the default."""
    limits = []
    for kind in road.findall("type"):
        speed = kind.find("speed")
        limit = DEFAULT_LIMIT_MPS
        if speed is not None and speed.get("max", "") not in ("no limit", "undefined", ""):
            unit = speed.get("unit", "")
            if unit not in _MPS:
                raise MapError("OpenDRIVE speed unit", repr(unit), f"one of {', '.join(u for u in _MPS if u)}")
            limit = (
                _not_negative("speed", speed.get("max", ""), "a number of at least 0, 'no limit' or 'undefined'")
                * _MPS[unit]
            )
        limits.append((_not_negative("type s", kind.get("s", "0"), "a number of at least 0"), limit))
    return sorted(limits)


def _number(road: ElementTree.Element) -> int:
    text = road.get("id", "")
    if not text.isdecimal():
        raise MapError("OpenDRIVE road id", repr(text), "a whole number, the only id that CARLA knows roads by")
    return int(text)


def _not_negative(name: str, text: str, expected: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise MapError(f"OpenDRIVE {name}", repr(text), expected)
    return value
