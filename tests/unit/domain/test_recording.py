from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from dyncity_sim.domain.grid import CARLASC_GRID
from dyncity_sim.domain.recording import ActorKind, ActorState, RecordedFrame
from dyncity_sim.domain.scene import Track
from dyncity_sim.errors import InvalidInputError

ACTOR = ActorState(7, ActorKind.CAR, np.eye(4), (4.0, 1.8, 1.5), 3.0)
TRACK = Track(7, ActorKind.CAR, (4.0, 1.8, 1.5), np.eye(4)[None], np.array([0]), np.zeros((1, 3)))
FRAME = RecordedFrame(
    np.zeros(CARLASC_GRID.shape, np.uint8),
    np.zeros(CARLASC_GRID.shape, np.float32),
    np.zeros(CARLASC_GRID.shape, np.uint16),
    (ACTOR,),
    np.eye(4),
    0,
    CARLASC_GRID,
)
NAN, INFINITE = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"id": 0}, r"actor\.id"),
        ({"id": 2**16}, r"actor\.id"),
        ({"size_m": (4.0, NAN, 1.5)}, "actor 7 size_m"),
        ({"size_m": (4.0, 0.0, 1.5)}, "actor 7 size_m"),
        ({"size_m": (4.0, 1.8)}, "actor 7 size_m"),
        ({"speed_mps": NAN}, "actor 7 speed_mps"),
        ({"pose_world_from_actor": np.full((4, 4), INFINITE)}, "actor 7 pose_world_from_actor"),
        ({"pose_world_from_actor": np.eye(3)}, "actor 7 pose_world_from_actor"),
    ],
)
def test_an_actor_that_is_nowhere_or_has_no_size_is_refused(change: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInputError, match=field):
        replace(ACTOR, **change)


@pytest.mark.parametrize("size_m", [(NAN, 1.8, 1.5), (4.0, INFINITE, 1.5), (4.0, 1.8, -1.5)])
def test_a_track_without_a_size_is_refused(size_m: tuple[float, float, float]) -> None:
    with pytest.raises(InvalidInputError, match="track 7 size_m"):
        replace(TRACK, size_m=size_m)


@pytest.mark.parametrize("count", [NAN, -1.0])
def test_counts_that_count_nothing_are_refused(count: float) -> None:
    counts = FRAME.counts.copy()
    counts[3, 4, 5] = count
    with pytest.raises(InvalidInputError, match=r"frame\.counts"):
        replace(FRAME, counts=counts)
