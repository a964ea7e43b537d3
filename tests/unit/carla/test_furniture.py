"""Street furniture on a long street: what is kept, and what makes room."""

import numpy as np
import pytest
from dyncity_carla.assets import FURNITURE, Library
from dyncity_carla.furniture import MOST_PIECES, Furniture
from dyncity_carla.ports import Blueprint

from dyncity_sim.domain.frames import poses_from_planar
from dyncity_sim.domain.grid import CARLASC_GRID, LIDAR_HEIGHT_M
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.taxonomy import CARLASC

CHUNK_M = 13.2


def street_of_barriers(ego_m):
    """Barriers of 0.8 m every 2 m, in two rows on either side of a street along x."""
    labels = np.zeros((1, *CARLASC_GRID.shape), dtype=np.uint8)
    labels[..., 0] = CARLASC.index("road")
    along = (CARLASC_GRID.centres(0) + ego_m) % 2.0 < 0.8
    for side_m in (-8.0, -6.0, 6.0, 8.0):
        beside = np.abs(CARLASC_GRID.centres(1) - side_m) < 0.5
        labels[0, np.ix_(along, beside)[0], np.ix_(along, beside)[1], 1:4] = CARLASC.index("barrier")
    pose = poses_from_planar(np.array([ego_m, 0.0, 0.0]), LIDAR_HEIGHT_M)
    return OccupancySequence(labels, pose[None], np.array([0]), CARLASC_GRID, CARLASC)


@pytest.fixture
def furniture():
    return Furniture(Library([Blueprint(prop, {}) for props in FURNITURE.values() for prop in props]))


def test_on_a_street_full_of_furniture_the_nearest_stands_behind_and_ahead(furniture):
    for chunk in range(8):
        furniture.add(street_of_barriers(CHUNK_M * chunk))
        ahead_m = np.array([piece.pose_world_from_piece[0, 3] for piece in furniture.pieces]) - CHUNK_M * chunk
        assert len(ahead_m) == MOST_PIECES
        assert abs((ahead_m > 0).sum() - MOST_PIECES / 2) <= 6
        assert np.abs(ahead_m).max() < 20.0


def test_a_piece_that_is_still_near_keeps_its_number(furniture):
    furniture.add(street_of_barriers(0.0))
    before = {figure.id: figure.pose_world_from_actor for figure in furniture.figures}
    furniture.add(street_of_barriers(2.0))
    kept = [figure for figure in furniture.figures if figure.id in before]
    assert len(kept) > MOST_PIECES / 2
    for figure in kept:
        np.testing.assert_array_equal(figure.pose_world_from_actor, before[figure.id])
