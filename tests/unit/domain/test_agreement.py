import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dyncity_sim.domain.agreement import static_agreement
from dyncity_sim.domain.frames import inverse, poses_from_planar, transform_points
from dyncity_sim.domain.grid import CARLASC_GRID
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.errors import InvalidInputError

Build = Callable[..., Any]
ROAD, BUILDING, VEHICLE = (CARLASC.index(n) for n in ("road", "building", "vehicle"))


def blocks(seed: int) -> np.ndarray:
    """Labels in blocks of 8 cells, so that a shift by whole cells can be told from one by more."""
    rng = np.random.default_rng(seed)
    coarse = rng.choice(np.array([0, ROAD, BUILDING], dtype=np.uint8), (16, 16, 8))
    return coarse.repeat(8, axis=0).repeat(8, axis=1)


def agreement(first: np.ndarray, second: np.ndarray, pose: np.ndarray | None = None, **masks: np.ndarray) -> float:
    return static_agreement(first, second, np.eye(4) if pose is None else pose, CARLASC_GRID, CARLASC, **masks)


def test_a_frame_agrees_with_itself() -> None:
    labels = blocks(0)
    assert agreement(labels, labels) == 1.0


def test_the_share_counts_wrong_and_freed_cells() -> None:
    second = np.zeros(CARLASC_GRID.shape, dtype=np.uint8)
    second[:, :, 0] = ROAD
    first = second.copy()
    first[:32, :, 0] = BUILDING
    first[32:64, :, 0] = 0
    assert agreement(first, second) == 0.5


def test_cells_that_move_are_not_asked_about() -> None:
    first, second = blocks(1), blocks(1)
    second[40:60, 40:60, 3] = VEHICLE
    assert agreement(first, second) == 1.0


def test_occupied_cells_of_the_first_that_the_second_has_free_are_not_asked_about() -> None:
    second = np.zeros(CARLASC_GRID.shape, dtype=np.uint8)
    second[0, 0, 0] = ROAD
    assert agreement(np.full_like(second, ROAD), second) == 1.0


@pytest.mark.parametrize(("dx", "dy"), [(5, 0), (0, -7), (12, 30)])
def test_a_shift_by_whole_cells_is_undone_by_the_pose(dx: int, dy: int) -> None:
    first = blocks(2)
    second = np.zeros_like(first)
    inside = np.roll(first, (-dx, -dy), axis=(0, 1))
    second[: 128 - dx, max(0, -dy) : 128 - max(0, dy)] = inside[: 128 - dx, max(0, -dy) : 128 - max(0, dy)]
    pose_first_from_second = poses_from_planar(np.array([0.4 * dx, 0.4 * dy, 0.0]))
    assert agreement(first, second, pose_first_from_second) == 1.0
    assert agreement(first, second) < 0.7
    assert agreement(first, second, inverse(pose_first_from_second)) < 0.7


def test_a_quarter_turn_is_undone_by_the_pose() -> None:
    first = blocks(3)
    # The second frame's forward axis is the first's left: its cell (x, y) is the first's (-y, x).
    second = np.ascontiguousarray(np.rot90(first, -1, axes=(0, 1)))
    quarter = poses_from_planar(np.array([0.0, 0.0, np.pi / 2]))
    assert agreement(first, second, quarter) == 1.0
    assert agreement(first, second, inverse(quarter)) < 0.7


def test_masks_leave_out_cells_of_either_frame() -> None:
    first, second = blocks(4), blocks(4)
    wrong = np.zeros(CARLASC_GRID.shape, dtype=bool)
    wrong[:50] = True
    first[wrong] = CARLASC.index("pole")
    assert agreement(first, second) < 1.0
    assert agreement(first, second, mask=~wrong) == 1.0
    assert agreement(first, second, first_mask=~wrong) == 1.0


def test_nothing_in_common_is_not_a_number() -> None:
    labels = blocks(5)
    assert math.isnan(agreement(labels, labels, poses_from_planar(np.array([100.0, 0.0, 0.0]))))
    assert math.isnan(agreement(labels, np.zeros_like(labels)))


def test_another_shape_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="second_labels"):
        agreement(blocks(0), blocks(0)[:64])


def test_any_pose_is_undone_up_to_cells_on_edges() -> None:
    def seen_from(pose: np.ndarray) -> np.ndarray:
        x, y = np.meshgrid(CARLASC_GRID.centres(0), CARLASC_GRID.centres(1), indexing="ij")
        world = transform_points(pose, np.stack([x, y, np.zeros_like(x)], axis=-1).reshape(-1, 3))
        board = (np.floor(world[:, 0] / 6) + np.floor(world[:, 1] / 6)).astype(int) % 2
        labels = np.zeros(CARLASC_GRID.shape, dtype=np.uint8)
        labels[:, :, 0] = np.where(board == 0, ROAD, BUILDING).reshape(x.shape)
        return labels

    first, second = (poses_from_planar(np.array(p)) for p in ([3.0, -8.0, 0.4], [9.5, -4.0, 0.9]))
    along = agreement(seen_from(first), seen_from(second), inverse(first) @ second)
    assert 0.93 < along < 1.0
    assert agreement(seen_from(first), seen_from(second)) < 0.7
