"""Streets of 32 frames, of which the second half is to come; the ego drives at 6 m/s through what stands there."""

import numpy as np
import pytest
from dyncity_models.drive.making_way import ACCELERATIONS_MPS2
from dyncity_models.drive.ways import runs_into

from dyncity_sim.domain.frames import planar_from_poses
from dyncity_sim.domain.grid import CARLASC_GRID

GRID = CARLASC_GRID
SECONDS = 0.1 * np.arange(1, 17)
EGO_M = 6.0 * 1.5
"""Where the ego is in the last frame that is known."""


@pytest.fixture
def to_come(build_street, forecast_halfway):
    """How actors go on from the middle of their street, by place along it, and whom the ego runs into."""

    def forecast(actors):
        street = build_street(32, 6.0, actors)
        planar = planar_from_poses(street.poses_world_from_ego)
        coming = forecast_halfway(street)
        coming = coming.only(np.argsort(coming.poses[:, 0]))
        each = [coming.one(n) for n in range(len(coming.cells))]
        hit = [runs_into(one.seen_from(planar[16:], SECONDS), coming.half_extent_m) for one in each]
        return coming, hit

    return forecast


def test_a_vehicle_that_stands_in_the_egos_way_sets_off_no_harder_than_it_must(to_come, street_actor):
    coming, hit = to_come([street_actor(EGO_M + 13.0, 0.0)])
    assert hit == [False]
    assert -coming.brakings_mps2[0] in ACCELERATIONS_MPS2[:2]
    assert coming.rolled_m(SECONDS)[0, -1] == pytest.approx(-coming.brakings_mps2[0] * 1.6**2 / 2)


def test_a_slow_vehicle_before_the_ego_speeds_up(to_come, street_actor):
    coming, hit = to_come([street_actor(EGO_M + 8.0 - 3.0, 0.0, speed_mps=2.0)])
    assert hit == [False]
    assert coming.brakings_mps2[0] < 0


def test_a_queue_sets_off_together(to_come, street_actor):
    coming, hit = to_come([street_actor(EGO_M + 12.5, 0.0), street_actor(EGO_M + 18.5, 0.0)])
    assert hit == [False, False]
    assert coming.brakings_mps2[0] == coming.brakings_mps2[1] < 0


def test_who_has_no_road_before_it_stays(to_come, street_actor):
    truck = street_actor(EGO_M + 18.0, 0.0, np.pi / 2, size_m=(9.5, 2.4, 2.6))
    coming, hit = to_come([street_actor(EGO_M + 12.5, 0.0), truck])
    assert hit[0]
    assert coming.brakings_mps2[0] == 0


def test_who_would_have_to_be_too_fast_stays(to_come, street_actor):
    coming, hit = to_come([street_actor(EGO_M + 7.0, 0.0)])
    assert hit == [True]
    assert coming.brakings_mps2.tolist() == [0.0]


def test_who_faces_the_ego_stays(to_come, street_actor):
    coming, hit = to_come([street_actor(EGO_M + 12.0 + 9.0, 0.0, np.pi, speed_mps=6.0)])
    assert hit == [True]
    assert coming.brakings_mps2[0] > 0


def test_who_is_not_in_the_egos_way_goes_on_as_it_did(to_come, street_actor):
    coming, hit = to_come([street_actor(EGO_M + 13.0, 4.3), street_actor(EGO_M + 6.0 - 9.0, -1.0, speed_mps=6.0)])
    assert hit == [False, False]
    assert coming.brakings_mps2.tolist() == [0.0, 0.0]
