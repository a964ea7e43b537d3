"""Actors as one table per step: what traffic hands to recording, and recording to painting."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float64, Int64, UInt8, UInt16

from dyncity_sim.domain.frames import poses_from_planar
from dyncity_sim.domain.recording import ActorKind, ActorState

ACTOR_KINDS: tuple[ActorKind, ...] = tuple(ActorKind)
"""The kind behind each code of ``ActorTable.kinds``."""

KIND_CODES: dict[ActorKind, int] = {kind: code for code, kind in enumerate(ACTOR_KINDS)}
"""The code of each kind."""


@dataclass(frozen=True, eq=False)
class ActorTable:
    """N actors at one time, sorted by id.

    Attributes:
        ids: ``(N,)``, positive and unique.
        kinds: ``(N,)`` codes, indices into ACTOR_KINDS.
        centres_m: ``(N, 3)`` world centres of the bounding boxes.
        yaws_rad: ``(N,)`` counter-clockwise from east; boxes stand upright.
        sizes_m: ``(N, 3)`` length, width, height.
        speeds_mps: ``(N,)`` along the box's own x axis.
    """

    ids: UInt16[np.ndarray, " N"]
    kinds: UInt8[np.ndarray, " N"]
    centres_m: Float64[np.ndarray, "N 3"]
    yaws_rad: Float64[np.ndarray, " N"]
    sizes_m: Float64[np.ndarray, "N 3"]
    speeds_mps: Float64[np.ndarray, " N"]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, rows: Bool[np.ndarray, " N"] | Int64[np.ndarray, " M"]) -> "ActorTable":
        """The actors of a mask or of row numbers."""
        return ActorTable(*(column[rows] for column in vars(self).values()))

    @property
    def feet_m(self) -> Float64[np.ndarray, "N 3"]:
        """World points at the middle of the boxes' undersides."""
        return self.centres_m - self.sizes_m / 2 * np.array([0.0, 0.0, 1.0])

    def near(self, xy_m: Float64[np.ndarray, "2"], radius_m: float) -> "ActorTable":
        """Actors whose centre is within ``radius_m`` of a world point, by the larger of |dx| and |dy|."""
        return self[(np.abs(self.centres_m[:, :2] - xy_m) <= radius_m).all(axis=1)]

    def moved_on(self, time_s: float) -> "ActorTable":
        """Where all are after that time if each drives straight on at its speed."""
        heading = np.column_stack([np.cos(self.yaws_rad), np.sin(self.yaws_rad), np.zeros(len(self))])
        return replace(self, centres_m=self.centres_m + time_s * self.speeds_mps[:, None] * heading)

    def states(self) -> Iterator[ActorState]:
        """Each row as a domain ActorState."""
        poses = poses_from_planar(np.column_stack([self.centres_m[:, :2], self.yaws_rad]))
        poses[:, 2, 3] = self.centres_m[:, 2]
        for row in range(len(self)):
            length_m, width_m, height_m = (float(edge) for edge in self.sizes_m[row])
            yield ActorState(
                int(self.ids[row]),
                ACTOR_KINDS[self.kinds[row]],
                poses[row],
                (length_m, width_m, height_m),
                float(self.speeds_mps[row]),
            )


def merged(tables: list[ActorTable]) -> ActorTable:
    """One table of all rows, sorted by id."""
    columns = zip(*(vars(table).values() for table in tables), strict=True)
    together = ActorTable(*(np.concatenate(parts) for parts in columns))
    return together[np.argsort(together.ids, kind="stable")]


def no_actors() -> ActorTable:
    """A table without rows."""
    return ActorTable(
        np.zeros(0, np.uint16),
        np.zeros(0, np.uint8),
        np.zeros((0, 3)),
        np.zeros(0),
        np.zeros((0, 3)),
        np.zeros(0),
    )
