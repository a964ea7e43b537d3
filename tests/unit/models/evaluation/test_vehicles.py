"""Cars that are followed, flicker, jump and fall to pieces in the synthetic street."""

from dataclasses import replace

import numpy as np
import pytest
from dyncity_models.evaluation.vehicles import VehicleSizes, size_distance, vehicle_motion, vehicle_sizes

from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.errors import InvalidInputError

VEHICLE = CARLASC.index("vehicle")
CAR_M = (4.4, 2.0, 1.5)


@pytest.fixture
def car(street_actor):
    """A function that places a car; at 4 m/s it moves by one cell a frame."""

    def place(x_m=-6.1, y_m=-2.1, speed_mps=4.0, absent=(), size_m=CAR_M):
        return street_actor(x_m, y_m, 0.0, speed_mps, size_m, absent=frozenset(absent))

    return place


def test_a_steady_car_has_one_size_one_track_and_possible_motion(build_street, car):
    found = vehicle_motion(build_street(16, 0.0, [car()]))
    assert (found.tracks, found.steps) == (1, 16 - 6)
    assert found.fragment_share == found.untracked_share == found.impossible_share == 0.0
    assert found.lifetime_share == 1.0
    assert (found.length_jitter_m, found.width_jitter_m) == pytest.approx((0.0, 0.0), abs=1e-9)


def test_cars_are_steady_up_to_their_cells_from_an_ego_that_turns(build_street, car):
    cars = [car(4.0, -2.1, 7.3), car(12.0, 3.1, -5.0), car(-10.0, 9.3, 0.0)]
    found = vehicle_motion(build_street(16, 7.0, cars, curvature_per_m=0.03))
    assert found.tracks == 3
    assert found.lifetime_share == 1.0
    assert found.fragment_share == found.untracked_share == found.impossible_share == 0.0
    assert 0.0 < found.length_jitter_m < 0.2
    assert 0.0 < found.width_jitter_m < 0.2


def test_two_cars_side_by_side_are_two(build_street, car):
    found = vehicle_motion(build_street(16, 0.0, [car(y_m=-2.1), car(y_m=0.7)]))
    assert found.tracks == 2
    assert found.fragment_share == found.impossible_share == 0.0
    assert found.lifetime_share == 1.0


def test_a_car_that_is_gone_for_some_frames_lives_for_the_others(build_street, car):
    found = vehicle_motion(build_street(16, 0.0, [car(absent=(0, 1, 5, 6, 10))]))
    assert found.tracks == 1
    assert found.lifetime_share == pytest.approx(11 / 16)


def test_frames_before_a_car_comes_into_view_are_not_missed(build_street, car):
    """It overtakes the ego from behind the border of the grid."""
    found = vehicle_motion(build_street(16, 0.0, [car(x_m=-30.1, speed_mps=12.0)]))
    assert found.tracks == 1
    assert found.lifetime_share == 1.0


def test_a_car_that_shows_for_two_frames_only_is_untracked(build_street, car):
    street = build_street(16, 0.0, [car(), car(y_m=3.1, absent=set(range(16)) - {7, 8})])
    found = vehicle_motion(street)
    assert found.tracks == 1
    assert found.untracked_share == pytest.approx(2 / 18, abs=0.02)


def test_a_car_whose_cells_come_and_go_jitters(build_street, car):
    whole, half = build_street(16, 0.0, [car()]), build_street(16, 0.0, [car(size_m=(2.4, 1.2, 1.5))])
    labels = whole.labels.copy()
    labels[1::2] = half.labels[1::2]
    found = vehicle_motion(replace(whole, labels=labels))
    assert found.tracks == 1
    assert found.length_jitter_m == pytest.approx(1.0, abs=0.2)
    assert found.width_jitter_m == pytest.approx(0.4, abs=0.15)


def test_a_car_that_jumps_aside_for_a_frame_moves_impossibly(build_street, car):
    """The parabola through seven sightings is bent most where the jump is its first, middle or last."""
    street, aside = build_street(16, 0.0, [car()]), build_street(16, 0.0, [car(y_m=-3.3)])
    labels = street.labels.copy()
    labels[8] = aside.labels[8]
    found = vehicle_motion(replace(street, labels=labels))
    assert found.tracks == 1
    assert found.impossible_share == pytest.approx(3 / 10)


def test_a_car_that_is_suddenly_elsewhere_is_two_that_live_half_as_long(build_street, car):
    street, elsewhere = build_street(16, 0.0, [car()]), build_street(16, 0.0, [car(y_m=5.1)])
    labels = np.concatenate([street.labels[:8], elsewhere.labels[8:]])
    found = vehicle_motion(replace(street, labels=labels))
    assert found.tracks == 2
    assert found.lifetime_share == pytest.approx(8 / 16)


def test_nothing_drives_at_120_kmh_in_a_town_and_nothing_follows_200(build_street, car):
    fast, faster = (vehicle_motion(build_street(16, v, [car(speed_mps=v)])) for v in (33.3, 55.6))
    assert (fast.steps, fast.impossible_share) == (10, 1.0)
    assert (faster.tracks, faster.untracked_share) == (0, 1.0)


def test_crumbs_of_vehicles_are_counted_beside_the_whole_ones(build_street, car):
    crumbs = [car(x_m, 3.1, 0.0, size_m=(0.6, 0.6, 1.5)) for x_m in (-8.0, 0.0, 8.0)]
    found = vehicle_motion(build_street(16, 0.0, [car(), *crumbs]))
    assert found.fragment_share == pytest.approx(3 / 4)
    assert vehicle_motion(build_street(16, 0.0, crumbs)).fragment_share == 1.0


def test_pedestrians_are_no_vehicles(build_street, street_actor):
    walker = street_actor(5.0, -6.0, 0.0, 1.2, (0.6, 0.6, 1.8), CARLASC.index("pedestrian"))
    assert vehicle_motion(build_street(16, 0.0, [walker])).tracks == 0
    assert vehicle_sizes(build_street(16, 0.0, [walker])) == VehicleSizes((), ())


@pytest.mark.parametrize("measure", [vehicle_motion, vehicle_sizes])
def test_vehicles_that_were_seen_in_part_are_refused(build_street, car, measure):
    street = build_street(16, 0.0, [car()])
    with pytest.raises(InvalidInputError, match=r"occupancy\.observed"):
        measure(replace(street, observed=street.labels > 0))


def test_without_vehicles_nothing_is_measured(build_street):
    found = vehicle_motion(build_street(16, 5.0))
    assert (found.tracks, found.steps) == (0, 0)
    assert np.isnan(
        [
            found.fragment_share,
            found.untracked_share,
            found.lifetime_share,
            found.length_jitter_m,
            found.width_jitter_m,
            found.impossible_share,
        ]
    ).all()


def test_sizes_are_those_of_vehicles_that_were_seen_whole(build_street, car):
    cars = [car(), car(-4.1, 2.7, 0.0, size_m=(12.0, 2.4, 3.0)), car(-25.6, 8.0, 0.0)]
    found = vehicle_sizes(build_street(16, 0.0, cars))
    assert sorted(found.lengths_m) == pytest.approx([4.4, 12.0], abs=0.3)
    assert sorted(found.widths_m) == pytest.approx([2.0, 2.4], abs=0.3)


def test_the_distance_of_sizes_is_how_far_they_must_be_moved():
    recorded = [VehicleSizes((4.5, 4.5), (1.8, 2.0)), VehicleSizes((), ())]
    generated = [VehicleSizes((3.5,), (1.9,)), VehicleSizes((4.0,), (1.7,))]
    found = size_distance(generated, recorded)
    assert (found.length_m, found.width_m) == pytest.approx((0.75, 0.1))
    assert (found.generated, found.recorded) == (2, 2)
    assert size_distance(recorded, recorded).length_m == 0.0


@pytest.mark.parametrize("generated", [[], [VehicleSizes((), ())]])
def test_there_is_no_distance_without_vehicles(generated):
    found = size_distance(generated, [VehicleSizes((4.5,), (1.8,))])
    assert (found.generated, found.recorded) == (0, 1)
    assert np.isnan([found.length_m, found.width_m]).all()
