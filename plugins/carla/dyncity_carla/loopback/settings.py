"""The world's settings, as they travel."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Settings:
    """``carla.WorldSettings``, with its defaults."""

    synchronous_mode: bool = False
    no_rendering_mode: bool = False
    fixed_delta_seconds: float | None = None
    substepping: bool = True
    max_substep_delta_time: float = 0.01
    max_substeps: int = 10
    max_culling_distance: float = 0.0
    deterministic_ragdolls: bool = False
    tile_stream_distance: float = 3000.0
    actor_active_distance: float = 2000.0
    spectator_as_ego: bool = True

    @property
    def wire(self) -> list[object]:
        """The EpisodeSettings that a client gets."""
        fixed = [False] if self.fixed_delta_seconds is None else [True, self.fixed_delta_seconds]
        return [
            self.synchronous_mode,
            self.no_rendering_mode,
            fixed,
            self.substepping,
            self.max_substep_delta_time,
            self.max_substeps,
            self.max_culling_distance,
            self.deterministic_ragdolls,
            self.tile_stream_distance,
            self.actor_active_distance,
            self.spectator_as_ego,
        ]

    @classmethod
    def from_wire(cls, wire: list[Any]) -> "Settings":
        """The settings that a client sent; a fixed step of 0 is none, as in CARLA."""
        fixed = wire[2]
        step = float(fixed[1]) if fixed[0] and fixed[1] > 0 else None
        return cls(wire[0], wire[1], step, *wire[3:])
