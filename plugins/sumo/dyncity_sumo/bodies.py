"""The shape of each kind of actor: one to three upright boxes, in CARLASC_RAW labels.

A bounding box alone makes every car a container. Two boxes (body and cabin) give a car its outline at the
grid's 0.4 m, a truck its cab, a two-wheeler its rider (CARLA tags riders as pedestrians).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, UInt8, UInt16

from dyncity_sim.domain.recording import ActorKind
from dyncity_sim.domain.taxonomy import CARLASC_RAW
from dyncity_sumo.actors import KIND_CODES, ActorTable

VEHICLE = CARLASC_RAW.index("vehicle")
PEDESTRIAN = CARLASC_RAW.index("pedestrian")

Part = tuple[float, float, float, float, float, int]
"""(x from, x to, width, z from, z to) as shares of the actor's size, 0 = rear, right or bottom; and a label."""

PARTS: dict[ActorKind, tuple[Part, ...]] = {
    ActorKind.CAR: ((0.0, 1.0, 1.0, 0.15, 0.62, VEHICLE), (0.08, 0.72, 0.9, 0.15, 1.0, VEHICLE)),
    ActorKind.VAN: ((0.0, 1.0, 1.0, 0.10, 0.55, VEHICLE), (0.0, 0.80, 1.0, 0.10, 1.0, VEHICLE)),
    ActorKind.BUS: ((0.0, 1.0, 1.0, 0.08, 1.0, VEHICLE),),
    ActorKind.TRUCK: ((0.0, 0.72, 1.0, 0.10, 1.0, VEHICLE), (0.76, 1.0, 0.95, 0.10, 0.85, VEHICLE)),
    ActorKind.MOTORCYCLE: ((0.0, 1.0, 0.8, 0.05, 0.60, VEHICLE), (0.25, 0.65, 1.0, 0.50, 1.0, PEDESTRIAN)),
    ActorKind.BICYCLE: ((0.0, 1.0, 0.8, 0.05, 0.50, VEHICLE), (0.25, 0.65, 1.0, 0.45, 1.0, PEDESTRIAN)),
    ActorKind.PEDESTRIAN: ((0.0, 1.0, 1.0, 0.0, 1.0, PEDESTRIAN),),
}
"""The boxes of each kind, in painting order: later ones win where both claim a cell."""


@dataclass(frozen=True, eq=False)
class Boxes:
    """M upright boxes in the world, in painting order: where two claim a cell, the later one gets it.

    Attributes:
        centres_m: ``(M, 2)`` world x, y.
        z_m: ``(M, 2)`` lower and upper face, world.
        yaws_rad: ``(M,)``.
        halves_m: ``(M, 2)`` half length and half width.
        labels: ``(M,)`` CARLASC_RAW.
        ids: ``(M,)`` the actor each box belongs to.
    """

    centres_m: Float64[np.ndarray, "M 2"]
    z_m: Float64[np.ndarray, "M 2"]
    yaws_rad: Float64[np.ndarray, " M"]
    halves_m: Float64[np.ndarray, "M 2"]
    labels: UInt8[np.ndarray, " M"]
    ids: UInt16[np.ndarray, " M"]

    def __len__(self) -> int:
        return len(self.ids)


def boxes_of(actors: ActorTable) -> Boxes:
    """The boxes of all actors; people come last, so that a vehicle beside them does not hide them."""
    row, share = _rows_and_shares(actors)
    length_m, width_m, height_m = actors.sizes_m[row].T
    forward_m = ((share[:, 0] + share[:, 1]) / 2 - 0.5) * length_m
    yaws_rad = actors.yaws_rad[row]
    heading = np.column_stack([np.cos(yaws_rad), np.sin(yaws_rad)])
    bottom_m = actors.centres_m[row, 2] - height_m / 2
    return Boxes(
        centres_m=actors.centres_m[row, :2] + forward_m[:, None] * heading,
        z_m=bottom_m[:, None] + share[:, 3:5] * height_m[:, None],
        yaws_rad=yaws_rad,
        halves_m=np.column_stack([(share[:, 1] - share[:, 0]) * length_m, share[:, 2] * width_m]) / 2,
        labels=share[:, 5].astype(np.uint8),
        ids=actors.ids[row],
    )


def _rows_and_shares(actors: ActorTable) -> tuple[np.ndarray, np.ndarray]:
    """For each box its actor's row and its Part, in painting order."""
    rows: list[np.ndarray] = [np.zeros(0, np.int64)]
    shares: list[np.ndarray] = [np.zeros((0, 6))]
    for kind, parts in PARTS.items():
        members = np.flatnonzero(actors.kinds == KIND_CODES[kind])
        for part in parts:
            rows.append(members)
            shares.append(np.tile(np.array(part, dtype=np.float64), (len(members), 1)))
    row, share = np.concatenate(rows), np.concatenate(shares)
    order = np.argsort(share[:, 5] == PEDESTRIAN, kind="stable")
    return row[order], share[order]
