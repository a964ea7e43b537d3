"""Faults on demand: what a server under load, on a bad day, or of another version does."""

import asyncio
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any

from dyncity_sim.errors import InvalidInputError

DIED = 70
"""Exit status of a server that was told to die."""

FAULTS: dict[str, dict[str, tuple[type, object]]] = {
    "slow": {"method": (str, "*"), "seconds": (float, 1.0), "count": (int, 1)},
    "stall": {"seconds": (float, 10.0)},
    "lose-sensor-frames": {"count": (int, 1), "sensor": (int, 0)},
    "drop": {"channel": (str, "all"), "in_ticks": (int, 0)},
    "die": {"in_ticks": (int, 1)},
    "refuse-spawns": {"count": (int, 1_000_000)},
    "version": {"text": (str, "0.9.15")},
    "empty-opendrive": {"on": (int, 1)},
    "delay-waypoints": {"seconds": (float, 3.0)},
}
"""Each fault with its parameters: type and default."""


@dataclass
class Slowness:
    """Replies of one method (or ``*``) that come late."""

    method: str
    seconds: float
    count: int


@dataclass
class Faults:
    """The faults that are on.

    Attributes:
        slow: late replies.
        stalled_until: monotonic time until which nothing is answered and nothing moves.
        lost_sensor_frames: messages not to send, by sensor id; 0 counts for any sensor.
        drop_in_ticks: channels to cut, by the ticks left until then.
        die_in_ticks: ticks left until the process ends in the middle of one; None: it does not.
        version: what the server calls itself, or None for the truth.
        empty_opendrive: whether the map's document is empty.
        delay_waypoints_s: seconds from loading a map until it has lanes.
    """

    slow: list[Slowness] = field(default_factory=list)
    stalled_until: float = 0.0
    lost_sensor_frames: dict[int, int] = field(default_factory=dict)
    drop_in_ticks: dict[str, int] = field(default_factory=dict)
    die_in_ticks: int | None = None
    version: str | None = None
    empty_opendrive: bool = False
    delay_waypoints_s: float = 0.0

    def turn_on(self, name: str, parameters: Mapping[str, Any]) -> None:
        """Turn on one of the faults that concern neither connections nor the world."""
        match name:
            case "slow":
                self.slow.append(Slowness(**parameters))
            case "stall":
                self.stalled_until = time.monotonic() + parameters["seconds"]
            case "lose-sensor-frames":
                self.lost_sensor_frames[parameters["sensor"]] = parameters["count"]
            case "drop":
                self.drop_in_ticks[parameters["channel"]] = parameters["in_ticks"]
            case "die":
                self.die_in_ticks = parameters["in_ticks"]
            case "version":
                self.version = parameters["text"] or None
            case "empty-opendrive":
                self.empty_opendrive = bool(parameters["on"])

    def clear(self) -> None:
        """Turn everything off; replies that are being held up stay so."""
        vars(self).update(vars(Faults()))

    async def hold_up(self, method: str) -> None:
        """Wait as long as this method's reply is to be late."""
        await self.pass_stall()
        for slowness in self.slow:
            if slowness.count > 0 and slowness.method in (method, "*"):
                slowness.count -= 1
                await asyncio.sleep(slowness.seconds)
                return

    async def pass_stall(self) -> None:
        """Wait until nothing stalls."""
        while (left := self.stalled_until - time.monotonic()) > 0:
            await asyncio.sleep(left)

    def loses_frame_of(self, sensor_id: int) -> bool:
        """Whether this message of a sensor is lost."""
        for key in (sensor_id, 0):
            if self.lost_sensor_frames.get(key, 0) > 0:
                self.lost_sensor_frames[key] -= 1
                return True
        return False

    def die_in_tick(self) -> None:
        """End the process here if it is time to."""
        if self.die_in_ticks is not None:
            self.die_in_ticks -= 1
            if self.die_in_ticks <= 0:
                os._exit(DIED)

    def channels_to_drop(self) -> list[str]:
        """Channels whose connections are to be cut in this tick."""
        due = [channel for channel, left in self.drop_in_ticks.items() if left <= 1]
        self.drop_in_ticks = {c: left - 1 for c, left in self.drop_in_ticks.items() if left > 1}
        return due


def checked_fault(name: str, given: Mapping[str, object]) -> dict[str, object]:
    """All parameters of a fault, with defaults for those not given.

    Raises:
        InvalidInputError: no such fault or parameter, or a value of another type.
    """
    if name not in FAULTS:
        raise InvalidInputError("fault", repr(name), f"one of {', '.join(FAULTS)}")
    parameters = FAULTS[name]
    if unknown := set(given) - set(parameters):
        raise InvalidInputError(f"fault {name}", ", ".join(sorted(unknown)), f"parameters {', '.join(parameters)}")
    values: dict[str, object] = {}
    for key, (kind, default) in parameters.items():
        value = given.get(key, default)
        try:
            values[key] = kind(value)
        except (TypeError, ValueError):
            raise InvalidInputError(f"fault {name}.{key}", repr(value), f"a value of type {kind.__name__}") from None
        if kind is not str and not 0 <= kind(value) < inf:
            raise InvalidInputError(f"fault {name}.{key}", value, "a number of at least 0")
    return values


def parse_fault(text: str) -> tuple[str, dict[str, object]]:
    """A fault from the command line: ``name`` or ``name:key=value,key=value``."""
    name, _, rest = text.partition(":")
    pairs = dict(part.partition("=")[::2] for part in rest.split(",") if part)
    return name, checked_fault(name, pairs)
