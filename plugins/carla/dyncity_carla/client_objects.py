"""The client library's objects as plain values of ours."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from dyncity_carla.frames import CarlaTransform
from dyncity_carla.ports import ActorInfo, ActorSnapshot, LidarSweep

_POINT = np.dtype(
    [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("cos", "<f4"), ("actor", "<u4"), ("tag", "<u4")],
)


SETTING_NAMES = (
    "synchronous_mode",
    "no_rendering_mode",
    "fixed_delta_seconds",
    "substepping",
    "max_substep_delta_time",
    "max_substeps",
    "max_culling_distance",
    "deterministic_ragdolls",
    "tile_stream_distance",
    "actor_active_distance",
    "spectator_as_ego",
)
"""Attributes of ``carla.WorldSettings``."""


class ClientSnapshot:
    """A ``carla.WorldSnapshot``."""

    def __init__(self, snapshot: Any) -> None:
        self._snapshot = snapshot

    @property
    def frame(self) -> int:
        """Number of the tick."""
        return int(self._snapshot.frame)

    @property
    def elapsed_s(self) -> float:
        """Simulated time since the server loaded the world."""
        return float(self._snapshot.timestamp.elapsed_seconds)

    @property
    def delta_s(self) -> float:
        """Simulated time since the tick before."""
        return float(self._snapshot.timestamp.delta_seconds)

    @property
    def ids(self) -> Sequence[int]:
        """All actors that the world holds."""
        return [int(actor.id) for actor in self._snapshot]

    def actor(self, actor_id: int) -> ActorSnapshot | None:
        """One actor, or None where the world does not hold it."""
        found = self._snapshot.find(actor_id)
        if found is None:
            return None
        velocity = found.get_velocity()
        return ActorSnapshot(transform_of(found.get_transform()), (velocity.x, velocity.y, velocity.z))


def settings_of(theirs: Any) -> dict[str, bool | int | float | None]:
    """The plain values of a ``carla.WorldSettings``, by name."""
    return {name: getattr(theirs, name) for name in SETTING_NAMES}


def info_of(actor: Any) -> ActorInfo:
    """The plain values of a ``carla.Actor``."""
    return ActorInfo(int(actor.id), str(actor.type_id), str(actor.attributes.get("role_name", "")))


def sweep_of(measured: Any) -> LidarSweep:
    """A copy of a ``carla.SemanticLidarMeasurement``, whose memory the client library takes back."""
    points = np.frombuffer(bytes(measured.raw_data), _POINT)
    return LidarSweep(
        frame=int(measured.frame),
        sensor=transform_of(measured.transform),
        points_m=np.stack([points["x"], points["y"], points["z"]], axis=-1),
        actor_ids=points["actor"].copy(),
        tags=points["tag"].copy(),
    )


def transform_of(theirs: Any) -> CarlaTransform:
    """The plain values of a ``carla.Transform``."""
    location, rotation = theirs.location, theirs.rotation
    return CarlaTransform(location.x, location.y, location.z, rotation.pitch, rotation.yaw, rotation.roll)
