"""The inspection channel: JSON lines over TCP through which a test sees the truth and turns faults on.

A request is ``{"ask": NAME, ...}``, its reply ``{"ok": ...}`` or ``{"error": "..."}``.
"""

import asyncio
import dataclasses
import json
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from dyncity_carla.loopback.actors import Actor
from dyncity_carla.loopback.calls import CallLog
from dyncity_carla.loopback.faults import checked_fault
from dyncity_carla.loopback.world import World
from dyncity_sim.errors import InvalidInputError

LONGEST_LINE_BYTES = 2**24


class Inspected(Protocol):
    """What is inspected; ``dyncity_carla.loopback.server.LoopbackServer`` is one."""

    @property
    def world(self) -> World:
        """The world."""
        ...

    @property
    def calls(self) -> CallLog:
        """The call log."""
        ...

    @property
    def history(self) -> "History":
        """Where actors were."""
        ...

    def connections(self) -> dict[str, Any]:
        """Clients, and subscribers by stream."""
        ...

    def turn_on(self, name: str, parameters: Mapping[str, Any]) -> None:
        """Turn a fault on."""
        ...

    def clear_faults(self) -> None:
        """Turn all faults off."""
        ...


class History:
    """Where every actor was in the last frames.

    Args:
        kept: number of frames.
    """

    def __init__(self, kept: int) -> None:
        self._frames: deque[tuple[int, float, list[int], np.ndarray]] = deque(maxlen=kept)

    def add(self, world: World) -> None:
        """Remember this frame."""
        ids = [actor.id for actor in world.actors]
        self._frames.append((world.moment.frame, world.moment.elapsed_s, ids, world.actors.transforms.copy()))

    def between(self, first: int, last: int) -> list[dict[str, Any]]:
        """Frames ``first`` to ``last``, both included, as far as they are kept."""
        return [
            {"frame": frame, "elapsed_s": elapsed_s, "transforms": dict(zip(ids, rows.tolist(), strict=True))}
            for frame, elapsed_s, ids, rows in self._frames
            if first <= frame <= last
        ]


class InspectionServer:
    """Answers questions of tests; never held up by faults."""

    def __init__(self, inspected: Inspected) -> None:
        self._inspected = inspected
        self.port = 0

    async def start(self, host: str, port: int) -> None:
        """Listen on ``port``, or a free one where it is 0."""
        self._server = await asyncio.start_server(self._serve, host, port, limit=LONGEST_LINE_BYTES)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening."""
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write(json.dumps(self._answered(line), default=_shown).encode() + b"\n")
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    def _answered(self, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
            ask = _QUESTIONS[request.pop("ask")]
            return {"ok": ask(self._inspected, **request)}
        except InvalidInputError as error:
            return {"error": str(error)}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            return {
                "error": f"{line[:200].decode(errors='replace').strip()}: {error!r}; one of {', '.join(_QUESTIONS)}"
            }


def _world(inspected: Inspected) -> dict[str, Any]:
    world = inspected.world
    return {
        "episode": world.episode_id,
        "map": world.roads.name,
        "frame": world.moment.frame,
        "elapsed_s": world.moment.elapsed_s,
        "settings": dataclasses.asdict(world.settings),
        "weather": world.weather,
        "spectator": world.spectator.id,
        "actors": [_actor(world, actor) for actor in world.actors],
        **inspected.connections(),
    }


def _actor(world: World, actor: Actor) -> dict[str, Any]:
    table = world.actors
    return {
        "id": actor.id,
        "type": actor.blueprint.id,
        "attributes": actor.attributes,
        "parent": actor.parent,
        "transform": table.transforms[actor.row].tolist(),
        "velocity": table.velocities[actor.row].tolist(),
        "box_centre": [0.0, 0.0, actor.blueprint.box_height_m],
        "box_extent": list(actor.blueprint.extent_m),
        "semantic_tag": actor.blueprint.semantic_tag,
        "simulates_physics": actor.simulates_physics,
        "has_gravity": actor.has_gravity,
        "collides": actor.collides,
        "autopilot": actor.autopilot,
        "own_traffic": actor.own_traffic,
        "control": actor.control,
    }


def _calls(inspected: Inspected, method: str | None = None, after: int = 0, most: int = 1000) -> list[dict[str, Any]]:
    return [call.shown() for call in inspected.calls.select(method, after, most)]


def _take_violations(inspected: Inspected) -> list[str]:
    taken = list(inspected.calls.violations)
    inspected.calls.violations.clear()
    return taken


def _ground(inspected: Inspected, places: list[list[float]]) -> dict[str, Any]:
    rows = np.array(places, dtype=np.float64).reshape(-1, 3)
    ground = inspected.world.ground
    heights, tags = ground.cells(rows)
    return {"height_m": heights.tolist(), "tags": tags.tolist()}


def _fault(inspected: Inspected, name: str, **parameters: Any) -> None:
    inspected.turn_on(name, checked_fault(name, parameters))


def _environment(inspected: Inspected) -> list[dict[str, Any]]:
    scenery = inspected.world.scenery
    return [
        {
            "id": scenery.FIRST_ID + n,
            "name": scenery.names[n],
            "tag": int(scenery.tags[n]),
            "transform": [*scenery.centres[n].tolist(), 0.0, float(scenery.yaws_deg[n]), 0.0],
            "extent": scenery.extents[n].tolist(),
            "enabled": bool(scenery.enabled[n]),
        }
        for n in range(len(scenery))
    ]


def _clear_faults(inspected: Inspected) -> None:
    inspected.clear_faults()


_QUESTIONS: dict[str, Callable[..., Any]] = {
    "world": _world,
    "calls": _calls,
    "counts": lambda inspected: dict(inspected.calls.counts),
    "violations": lambda inspected: list(inspected.calls.violations),
    "take_violations": _take_violations,
    "frames": lambda inspected, first, last: inspected.history.between(first, last),
    "ground": _ground,
    "environment": _environment,
    "fault": _fault,
    "clear_faults": _clear_faults,
}


def _shown(value: object) -> object:
    """Binary arguments and numpy numbers as JSON has them."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} does not go into JSON")
