"""What columns show from above, and where one could drive, on hand-made columns."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dyncity_sim.domain.grid import CARLASC_GRID, Grid
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.errors import InvalidInputError
from dyncity_sim.groundtruth.bev import bev_map
from dyncity_sim.groundtruth.free_space import free_space

ROAD, SIDEWALK, VEHICLE, TREE, BUILDING = (
    CARLASC.index(name) for name in ("road", "sidewalk", "vehicle", "vegetation", "building")
)
GRID = Grid((9, 9, 8), (-1.8, -1.8, -2.0), (0.4, 0.4, 0.375))


def cells() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    labels = np.zeros(GRID.shape, np.uint8)
    labels[..., 0] = ROAD
    return labels, np.ones(GRID.shape, bool), np.zeros(GRID.shape, np.uint16)


def test_a_car_under_a_tree_is_what_the_column_shows():
    labels, known, instances = cells()
    labels[3, 4, 1:4] = VEHICLE
    instances[3, 4, 1:4] = 7
    labels[3, 4, 6] = TREE
    labels[5, 5, 6] = TREE
    bev = bev_map(labels, known, instances, GRID, CARLASC)
    assert (bev.labels[3, 4], bev.instances[3, 4]) == (VEHICLE, 7)
    assert bev.height_m[3, 4] == pytest.approx(-2.0 + 4 * 0.375)
    assert (bev.labels[5, 5], bev.instances[5, 5]) == (TREE, 0)
    assert bev.labels[0, 0] == ROAD
    assert bev.observed.all()


def test_columns_that_nobody_knows_and_that_are_free_show_nothing_and_differ_in_observed():
    labels, known, instances = cells()
    labels[2, 2] = 0
    known[1, 1] = False
    bev = bev_map(labels, known, instances, GRID, CARLASC)
    assert (bev.labels[1, 1], bev.observed[1, 1]) == (0, False)
    assert (bev.labels[2, 2], bev.observed[2, 2]) == (0, True)
    assert np.isnan(bev.height_m[[1, 2], [1, 2]]).all()


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1))
def test_every_column_shows_a_known_cell_of_its_own_with_nothing_of_its_kind_above(seed):
    rng = np.random.default_rng(seed)
    labels = rng.choice([0, ROAD, VEHICLE, TREE], size=GRID.shape, p=[0.7, 0.1, 0.1, 0.1]).astype(np.uint8)
    known = rng.random(GRID.shape) < 0.7
    instances = np.where(labels == VEHICLE, rng.integers(0, 9, GRID.shape), 0).astype(np.uint16)
    bev = bev_map(labels, known, instances, GRID, CARLASC)
    for x, y in np.ndindex(9, 9):
        column = [(int(labels[x, y, z]), int(instances[x, y, z]), z) for z in range(8) if known[x, y, z]]
        occupied = [cell for cell in column if cell[0]]
        moving = [cell for cell in occupied if cell[0] == VEHICLE]
        shown = (moving or occupied or [(0, 0, None)])[-1]
        assert (bev.labels[x, y], bev.instances[x, y]) == shown[:2]
        assert bool(bev.observed[x, y]) == bool(column)


def test_road_is_drivable_where_all_above_it_is_known_and_free():
    labels, known, _ = cells()
    labels[1, 1, 2] = VEHICLE
    labels[2, 2, 6] = TREE
    labels[3, 3, 0] = SIDEWALK
    labels[6, 6, 1] = BUILDING
    known[4, 5, 3] = False
    known[5, 5, 7] = False
    drivable = free_space(labels, known, GRID, CARLASC).drivable
    assert drivable[0, 0]
    assert not drivable[1, 1], "a car stands there"
    assert drivable[2, 2], "a crown 1.9 m over the road is in nobody's way"
    assert not drivable[3, 3], "a sidewalk is no road"
    assert not drivable[6, 6], "what lies on the road is in the way"
    assert not drivable[4, 5], "nobody knows what stands there"
    assert drivable[5, 5], "what is 2.2 m over the road does not matter"


def test_a_wall_is_seen_and_hides_what_is_behind_it_from_the_ego():
    labels, known, _ = cells()
    labels[6, :, 0:8] = BUILDING
    visible = free_space(labels, known, GRID, CARLASC).visible
    assert visible[:7].all()
    assert not visible[7:].any()


def test_crowns_and_kerbs_hide_nothing_and_unknown_columns_are_not_seen():
    labels, known, _ = cells()
    labels[6, :, 6:] = TREE
    labels[5, :, 0] = SIDEWALK
    known[8, 8] = False
    visible = free_space(labels, known, GRID, CARLASC).visible
    assert visible.sum() == 80
    assert not visible[8, 8]


@pytest.mark.parametrize("seed", range(3))
def test_sight_is_that_of_lines_walked_in_small_steps(seed):
    rng = np.random.default_rng(seed)
    labels = np.zeros(GRID.shape, np.uint8)
    labels[rng.random((9, 9)) < 0.25] = BUILDING
    labels[4, 4] = 0
    position = tuple(rng.uniform(-0.15, 0.15, 2))
    visible = free_space(labels, np.ones(GRID.shape, bool), GRID, CARLASC, position).visible
    start = (np.array(position) + 1.8) / 0.4
    expected = np.zeros((9, 9), bool)
    expected[4, 4] = True
    for column in np.ndindex(9, 9):
        if column == (4, 4):
            continue
        way = np.array(column) + 0.5 - start
        for along in np.linspace(0, 15, 20_000):
            cell = tuple(np.floor(start + along * way).astype(int))
            if not all(0 <= c < 9 for c in cell):
                break
            if labels[cell][0]:
                expected[cell] = True
                break
            expected[column] |= along >= 1
    assert (visible == expected).mean() > 0.98, "small steps may miss a corner"


def test_an_ego_outside_the_grid_is_refused():
    labels, known, _ = cells()
    with pytest.raises(InvalidInputError, match="over the grid"):
        free_space(labels, known, GRID, CARLASC, (9.0, 0.0))


def test_the_street_is_drivable_but_for_its_actors(street):
    occupancy, _, frames = street
    free = free_space(frames[0].labels, np.ones(CARLASC_GRID.shape, bool), CARLASC_GRID, CARLASC)
    columns = np.isin(occupancy.labels[0], CARLASC.moving_labels).any(axis=2)
    assert not (free.drivable & columns).any()
    road = (occupancy.labels[0] == ROAD).any(axis=2)
    assert (free.drivable | columns)[road].all()
    assert not free.drivable[~road].any()
