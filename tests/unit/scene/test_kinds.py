"""Kinds of actors by size, rider and speed."""

import pytest

from dyncity_sim.domain.recording import ActorKind
from dyncity_sim.scene.actors.kinds import kind_of


@pytest.mark.parametrize(
    ("kind", "size_m", "ridden", "speed_mps"),
    [
        (ActorKind.CAR, (3.6, 1.6, 1.5), False, 0.0),
        (ActorKind.CAR, (4.8, 1.9, 1.7), False, 12.0),
        (ActorKind.VAN, (5.6, 2.0, 2.4), False, 8.0),
        (ActorKind.TRUCK, (7.8, 2.5, 2.8), False, 8.0),
        (ActorKind.BUS, (12.0, 2.6, 2.8), False, 8.0),
        (ActorKind.BICYCLE, (1.75, 0.6, 1.7), True, 4.0),
        (ActorKind.MOTORCYCLE, (2.2, 0.9, 1.5), True, 4.0),
        (ActorKind.MOTORCYCLE, (1.9, 0.7, 1.7), True, 12.0),
    ],
)
def test_vehicles_of_common_sizes_are_told_with_more_confidence_than_not(kind, size_m, ridden, speed_mps):
    told, confidence = kind_of(True, size_m, True, ridden, speed_mps)
    assert told is kind
    assert 0.5 < confidence <= 1


def test_a_pedestrian_is_one_and_a_lump_of_its_class_hardly():
    assert kind_of(False, (0.6, 0.6, 1.7), True, False, 1.2)[1] > 0.95
    assert kind_of(False, (3.0, 2.0, 0.8), True, False, 0.0)[1] < 0.1


def test_what_no_vehicle_looks_like_has_a_kind_with_little_confidence():
    assert 0 < kind_of(True, (3.0, 3.9, 0.7), True, False, 0.0)[1] < 0.1


def test_between_two_kinds_confidence_is_lower_than_at_either():
    heights_m = (1.5, 1.9, 2.4)
    car, between, van = (kind_of(True, (4.8, 1.9, height_m), True, False, 5.0)[1] for height_m in heights_m)
    assert between < min(car, van)


def test_the_end_of_a_car_at_the_border_is_a_car_and_not_something_short():
    assert kind_of(True, (1.6, 1.9, 1.5), False, False, 5.0)[0] is ActorKind.CAR
