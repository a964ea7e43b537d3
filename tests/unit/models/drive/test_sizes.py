"""Vehicles of sizes that none has become ones of usual sizes, and all others stay as they are."""

import numpy as np
import pytest
from dyncity_models.data.clips import UNOBSERVED
from dyncity_models.drive.sizes import usual_sizes
from dyncity_models.drive.traffic import with_traffic
from scipy import ndimage

from dyncity_sim.domain.grid import CARLASC_GRID as GRID
from dyncity_sim.domain.taxonomy import CARLASC

VEHICLE = CARLASC.index("vehicle")
RNG = np.random.default_rng(0)
NOTHING = np.full(GRID.shape, UNOBSERVED, dtype=np.uint8)
CAR_M, BICYCLE_M = (4.4, 1.85), (1.8, 0.65)


@pytest.mark.parametrize(
    ("size_m", "ridden", "speed_mps"),
    [
        ((3.6, 1.6, 1.5), False, 0.0),
        ((5.0, 2.0, 1.7), False, 12.0),
        ((5.6, 2.4, 2.8), False, 8.0),
        ((4.6, 1.6, 2.1), False, 0.0),
        ((7.8, 2.5, 2.8), False, 8.0),
        ((12.0, 2.6, 2.8), False, 8.0),
        ((1.75, 0.6, 1.7), True, 4.0),
        ((2.2, 0.9, 1.5), True, 12.0),
    ],
)
def test_sizes_that_vehicles_have_are_left_alone(size_m, ridden, speed_mps):
    assert len(usual_sizes(size_m, ridden, speed_mps)) == 0


@pytest.mark.parametrize(
    ("size_m", "ridden", "usual_m"),
    [
        ((2.4, 1.9, 1.5), False, CAR_M),
        ((6.1, 1.9, 1.7), False, CAR_M),
        ((7.0, 2.0, 1.5), False, CAR_M),
        ((2.4, 2.6, 1.5), False, CAR_M),
        ((1.7, 1.3, 1.7), True, BICYCLE_M),
        ((1.7, 1.7, 2.8), False, (5.2, 1.98)),
    ],
)
def test_what_is_stunted_or_fused_is_most_likely_as_its_kind_is_in_the_mean(size_m, ridden, usual_m):
    likely, nearest = usual_sizes(size_m, ridden, 3.0)
    odd = likely != np.array(size_m[:2])
    assert odd.any()
    assert likely[odd] == pytest.approx(np.array(usual_m)[odd])
    drawn = np.array(size_m[:2])
    assert (np.abs(nearest - drawn) <= np.abs(likely - drawn)).all()
    assert len(usual_sizes((*nearest, size_m[2]), ridden, 3.0)) == 0


@pytest.fixture
def drawn(build_street, street_actor):
    """A function that says how long and wide what is left of some vehicles is in the middle of a street's chunk."""

    def draw(*vehicles):
        street = build_street(16, 4.0, [street_actor(*at, size_m=size_m) for *at, size_m in vehicles])
        found = with_traffic(street, None, NOTHING, 0.0, RNG)
        assert np.array_equal(found == VEHICLE, found != np.where(street.labels == VEHICLE, 0, street.labels))
        return [_extent_m(labels[8]) for labels in (found, street.labels)]

    return draw


def _extent_m(labels):
    return (np.ptp(np.argwhere((labels == VEHICLE).any(axis=-1)), axis=0) + 1) * GRID.voxel_size_m[0]


@pytest.mark.parametrize("speed_mps", [0.0, 5.0])
def test_a_stump_of_a_car_becomes_a_whole_one(drawn, speed_mps):
    found_m, stump_m = drawn((8.0, -3.0, 0.0, speed_mps, (2.4, 1.8, 1.5)))
    assert stump_m[0] <= 2.8
    assert found_m[0] == pytest.approx(4.4, abs=0.4)
    assert found_m[1] == pytest.approx(stump_m[1], abs=0.41)


def test_what_is_as_long_as_a_car_and_a_half_is_one(drawn):
    found_m, long_m = drawn((10.0, -3.0, 0.0, 4.0, (6.2, 1.8, 1.5)))
    assert long_m[0] >= 6.0
    assert found_m[0] == pytest.approx(4.4, abs=0.4)


@pytest.mark.parametrize(("gap_m", "length_m"), [(3.4, 4.4), (1.9, 3.4), (0.9, 2.6)])
def test_a_stump_between_two_cars_grows_as_far_as_there_is_room_without_touching_them(
    build_street, street_actor, gap_m, length_m
):
    stump_m = 2.4
    cars = [street_actor(10.2 + side * (2.2 + gap_m / 2 + stump_m / 2), -3.0) for side in (-1, 1)]
    stump = street_actor(10.2, -3.0, size_m=(stump_m, 1.8, 1.5))
    found = with_traffic(build_street(16, 0.0, [*cars, stump]), None, NOTHING, 0.0, RNG)
    pieces, count = ndimage.label((found[8] == VEHICLE).any(axis=-1))
    assert count == 3
    lengths_m = sorted((np.ptp(np.argwhere(pieces == n + 1)[:, 0]) + 1) * 0.4 for n in range(3))
    assert lengths_m[0] == pytest.approx(length_m, abs=0.4)


def test_a_car_that_the_border_of_the_grid_cuts_in_every_frame_is_no_stump(build_street, street_actor):
    street = build_street(16, 0.0, [street_actor(25.0, -3.0)])
    assert np.array_equal(with_traffic(street, None, NOTHING, 0.0, RNG), street.labels)
