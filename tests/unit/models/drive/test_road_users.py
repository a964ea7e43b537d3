from dataclasses import replace

import numpy as np
import pytest
from dyncity_models.data.clips import UNOBSERVED
from dyncity_models.drive.memory import DriveMemory
from dyncity_models.drive.onward import onward, waiting
from dyncity_models.drive.packing import pack
from dyncity_models.drive.persistence import keeping_pace
from dyncity_models.drive.region import road_users_to_come, seconds_since
from dyncity_models.drive.road_users import road_users_of
from dyncity_models.drive.ways import MOST_BRAKING_MPS2

from dyncity_sim.domain.conditions import Conditions, Continuation, EgoPlan, VehicleLayout
from dyncity_sim.domain.frames import planar_from_poses
from dyncity_sim.domain.grid import CARLASC_GRID
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.scene.actors.find import find_tracks

GRID = CARLASC_GRID
VEHICLE, PEDESTRIAN = CARLASC.index("vehicle"), CARLASC.index("pedestrian")


@pytest.fixture
def walker(street_actor):
    """A function that places somebody who walks, or stands."""

    def place(x_m, y_m, yaw_rad=0.0, speed_mps=0.0):
        return street_actor(x_m, y_m, yaw_rad, speed_mps, size_m=(0.8, 0.8, 1.7), label=PEDESTRIAN)

    return place


def remembered(chunk):
    """What a drive knows after a chunk that it was shown whole."""
    planar, heights_m = planar_from_poses(chunk.poses_world_from_ego), chunk.poses_world_from_ego[:, 2, 3]
    users, motion = road_users_of(chunk)
    memory = DriveMemory.empty(planar[0], float(heights_m[0]), GRID).learn(chunk.labels, planar, heights_m, GRID)
    columns = (chunk.labels[[15, 10, 15, 10]] == VEHICLE).any(axis=-1)
    where = planar[[15, 10, 15, 10]]
    return replace(memory, movers=columns, movers_planar=where, road_users=users, motion=motion)


def continued(street):
    """How vehicles drive on in the second of a street's two chunks, and where they do in truth."""
    planar, heights_m = planar_from_poses(street.poses_world_from_ego)[16:], street.poses_world_from_ego[16:, 2, 3]
    coming = onward(remembered(street[:16]), planar, heights_m, GRID)
    seen = coming.seen_from(planar, seconds_since(street.times_us[16:], coming.frame))
    return coming, seen, street.labels[16:] == VEHICLE


def middle_m(cells):
    return (np.argwhere(cells.any(axis=-1)).mean(axis=0) + 0.5) * 0.4 - 25.6


def test_vehicles_are_numbered_cell_for_cell_with_the_speeds_they_had(build_street, street_actor):
    street = build_street(16, 6.0, [street_actor(14.0, 4.3), street_actor(6.0, -1.0, 0.0, 9.0)])
    numbers, motion = road_users_of(street)
    assert np.array_equal(numbers > 0, street.labels[15] == VEHICLE)
    assert set(np.unique(numbers)) == {0, 1, 2}
    assert sorted(motion[:, 5]) == pytest.approx([0.0, 9.0], abs=0.5)
    for number, (x_m, y_m, *_) in enumerate(motion, start=1):
        assert middle_m(numbers == number) == pytest.approx([x_m, y_m], abs=0.3)


@pytest.mark.parametrize("pace_mps", [0.8, 1.1, 1.4])
def test_pedestrians_are_as_fast_as_they_were(build_street, walker, pace_mps):
    """Over the whole chunk; half a second of cells of 0.4 m says little of a walk."""
    places = [(x_m, side * 6.5) for x_m in (-12.0, -3.0, 5.0, 14.0) for side in (-1, 1)]
    _, motion = road_users_of(build_street(16, 5.0, [walker(x, y, 0.1, pace_mps) for x, y in places]))
    assert len(motion) == len(places)
    assert motion[:, 5] == pytest.approx(pace_mps, abs=0.3)
    assert motion[:, 5].mean() == pytest.approx(pace_mps, rel=0.05)


@pytest.mark.parametrize("speed_mps", [1.6, 2.4])
def test_a_slow_vehicle_goes_where_it_is_seen_to_go(build_street, street_actor, speed_mps):
    """On the left of the ego, where vehicles that stand face it."""
    street = build_street(32, 2.0, [street_actor(10.0, 3.6, 0.0, speed_mps)])
    _, motion = road_users_of(street[:16])
    assert motion[:, 5] == pytest.approx([speed_mps], abs=0.3)
    assert np.cos(motion[:, 2]) == pytest.approx([1.0], abs=0.01)
    coming, _, _ = continued(street)
    assert coming.rolled_m(np.array([1.6]))[0, 0] == pytest.approx(1.6 * speed_mps, abs=0.5)


def test_what_left_before_the_last_frame_is_not_there(build_street, street_actor):
    gone = street_actor(8.0, -1.0, absent=frozenset(range(14, 16)))
    numbers, motion = road_users_of(build_street(16, 2.0, [gone]))
    assert not numbers.any()
    assert motion.shape == (0, 7)


def test_the_cells_of_a_vehicle_that_was_are_of_the_one_that_is_there_now(build_street, street_actor):
    was, there = street_actor(4.0, -1.0, absent=frozenset(range(14, 16))), street_actor(29.0, -1.0, np.pi, 16.0)
    street = build_street(16, 2.0, [was, there])
    assert len(find_tracks(street[10:])) == 2
    numbers, motion = road_users_of(street)
    assert set(np.unique(numbers)) == {0, 1}
    assert motion[:, 5] == pytest.approx([16.0], abs=1.0)


def test_pedestrians_are_told_from_vehicles_and_from_riders_beside_them(build_street, street_actor, walker):
    rider = street_actor(14.0, -3.2, 0.0, 4.0, size_m=(1.8, 0.8, 1.2), rider_label=PEDESTRIAN)
    street = build_street(16, 2.0, [rider, walker(14.0, -6.0, 0.0, 1.5), walker(9.0, 6.5)])
    numbers, motion = road_users_of(street)
    assert sorted(motion[:, 6]) == [0, 1, 1]
    on_foot = 1 + np.flatnonzero(motion[:, 6])
    columns = (street.labels[15] == VEHICLE).any(axis=-1, keepdims=True)
    assert np.array_equal(np.isin(numbers, on_foot), (street.labels[15] == PEDESTRIAN) & ~columns)
    assert sorted(motion[on_foot - 1, 5]) == pytest.approx([0.0, 1.5], abs=0.7)


def test_a_pedestrian_whose_cells_fall_apart_for_a_frame_is_there(build_street):
    street = build_street(16, 0.0)
    labels = street.labels.copy()
    whole = [(76, 48), (77, 48), (76, 47)]
    for frame, columns in zip(range(10, 16), [*[whole] * 4, [(75, 49), (77, 47)], whole], strict=True):
        for x, y in columns:
            labels[frame, x - (frame == 15), y, 3:6] = PEDESTRIAN
    street = replace(street, labels=labels)
    (track,) = find_tracks(street[10:])
    assert track.times_us[-1] == street.times_us[14], "tracking alone loses it"
    numbers, motion = road_users_of(street)
    assert np.array_equal(numbers == 1, labels[15] == PEDESTRIAN)
    assert motion[:, 6].tolist() == [1]
    assert motion[0, :2] == pytest.approx(middle_m(labels[15] == PEDESTRIAN), abs=0.6)


def test_a_pedestrian_walks_straight_on(build_street, walker):
    for yaw_rad, speed_mps in ((0.0, 1.5), (np.pi / 2, 1.2), (2.4, 1.4)):
        coming, seen, _ = continued(build_street(32, 1.0, [walker(10.0, -9.0, yaw_rad, speed_mps)]))
        assert coming.on_foot.tolist() == [True]
        way_m = middle_m(seen[15]) - middle_m(seen[0])
        # The ego drives 1.5 m meanwhile.
        expected_m = 1.5 * speed_mps * np.array([np.cos(yaw_rad), np.sin(yaw_rad)]) - [1.5, 0.0]
        assert way_m == pytest.approx(expected_m, abs=0.8)


def test_a_pedestrian_stops_before_a_wall_and_before_the_way_of_the_ego(build_street, walker):
    """At the end of the first chunk it stands at a y of -2.8 m, or -6.8 m, and would come 2.5 m far."""
    across = build_street(32, 4.0, [walker(10.0, -5.2, np.pi / 2, 1.6)])
    beside = build_street(32, 4.0, [walker(10.0, -9.2, np.pi / 2, 1.6)])
    walled = beside.labels.copy()
    walled[:, :, 51:53, 1:6] = CARLASC.index("building")
    for street, most_m in ((across, 1.8), (beside, 2.8), (replace(beside, labels=walled), 1.2)):
        coming, _, _ = continued(street)
        assert most_m - 0.7 < coming.rolled_m(np.array([1.6]))[0, 0] <= most_m


def test_pedestrians_who_came_as_forecast_keep_the_pace_and_others_what_was_found_of_them(build_street, walker):
    street = build_street(32, 4.0, [walker(14.0, 6.5, 0.0, 1.5), walker(12.0, -6.5)])
    coming, _, _ = continued(street)
    ego = planar_from_poses(street.poses_world_from_ego)[-1]
    ends = coming.poses_at(ego, 1.6)
    walks = int(coming.speeds_mps.argmax())
    assert ends[walks, :2] == pytest.approx([14.0 + 1.5 * 3.1 - 4.0 * 3.1, 6.5], abs=0.5)
    strolls = np.array([*(ends[walks] + [0.4, 0.3, 0.5]), 0.8, 0.8, 0.6, 1.0])
    elsewhere = strolls + np.array([3.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    car = np.array([*ends[walks], 4.5, 1.8, 3.0, 0.0])
    stands = np.array([*ends[1 - walks], 0.8, 0.8, 0.7, 1.0])
    kept = keeping_pace(np.stack([strolls, elsewhere, car, stands]), coming, ego, 1.6)
    assert kept[0].tolist() == [*strolls[:2], ends[walks, 2], 0.8, 0.8, coming.speeds_mps[walks], 1.0]
    assert np.array_equal(kept[1:], [elsewhere, car, stands])


def test_who_stands_beside_a_pedestrian_who_came_as_forecast_does_not_walk(build_street, walker):
    street = build_street(32, 4.0, [walker(14.0, 6.5, 0.0, 1.5)])
    coming, _, _ = continued(street)
    ego = planar_from_poses(street.poses_world_from_ego)[-1]
    (end,) = coming.poses_at(ego, 1.6)
    came = np.array([*np.add(end, (0.1, 0.0, 0.2)), 0.8, 0.8, 1.2, 1.0])
    stands = np.array([*np.add(end, (0.0, 0.6, 0.9)), 0.8, 0.8, 0.0, 1.0])
    kept = keeping_pace(np.stack([stands, came]), coming, ego, 1.6)
    assert np.array_equal(kept[0], stands)
    assert kept[1, 5] == coming.speeds_mps[0]


def test_a_vehicle_does_not_drive_through_who_stands_in_its_way(build_street, street_actor, walker):
    street = build_street(32, 1.0, [street_actor(0.0, -1.0, 0.0, 6.0), walker(20.0, -1.0)])
    planar, seconds = planar_from_poses(street.poses_world_from_ego)[16:], 0.1 * np.arange(1, 17)
    coming, _, _ = continued(street)
    car, standing = (coming.only(chosen) for chosen in (~coming.on_foot, coming.on_foot))
    straight = replace(car, curvatures_per_m=np.zeros(1), brakings_mps2=np.zeros(1))
    there = standing.seen_from(planar, seconds)
    assert (straight.seen_from(planar, seconds) & there).any()
    assert not (car.seen_from(planar, seconds) & there).any()
    assert car.rolled_m(seconds)[0, -1] > 5.0


@pytest.mark.parametrize("speed_mps", [3.0, 6.0, 10.0])
def test_a_vehicle_drives_on_in_the_next_chunk_as_fast_as_it_was(build_street, street_actor, speed_mps):
    coming, seen, true = continued(build_street(32, 6.0, [street_actor(4.0, -1.0, 0.0, speed_mps)]))
    assert coming.speeds_mps == pytest.approx([speed_mps], abs=0.4)
    for frame in range(0, 16, 5):
        assert middle_m(seen[frame]) == pytest.approx(middle_m(true[frame]), abs=0.7)


def test_an_oncoming_vehicle_comes_nearer(build_street, street_actor):
    coming, seen, true = continued(build_street(32, 1.0, [street_actor(22.0, 2.4, np.pi, 7.0)]))
    assert coming.speeds_mps == pytest.approx([7.0], abs=0.4)
    assert middle_m(seen[8]) == pytest.approx(middle_m(true[8]), abs=0.7)


def test_a_vehicle_that_stood_stands(build_street, street_actor):
    coming, seen, true = continued(build_street(32, 4.0, [street_actor(16.0, 2.4, np.pi)]))
    assert coming.speeds_mps.tolist() == [0.0]
    assert all(middle_m(seen[frame]) == pytest.approx(middle_m(true[frame]), abs=0.3) for frame in range(16))


def test_a_vehicle_stops_short_of_one_that_stands_in_its_way(build_street, street_actor):
    cars = [street_actor(0.0, -1.0, 0.0, 6.0), street_actor(22.0, 0.0, np.pi / 2, size_m=(9.5, 2.4, 2.6))]
    coming, _, _ = continued(build_street(32, 1.0, cars))
    fast = int(coming.speeds_mps.argmax())
    assert coming.speeds_mps[1 - fast] == 0
    gap_m = (22.0 - 1.2) - (9.0 + 2.25)
    assert 4.0 < coming.rolled_m(np.array([1.6]))[fast, 0] < gap_m


def test_a_vehicle_brakes_as_hard_as_it_must_and_no_harder_than_it_can(build_street, street_actor):
    times_s = np.arange(17) * 0.1
    for across_m, hardest_mps2 in ((20.0, 6.0), (14.5, MOST_BRAKING_MPS2)):
        cars = [street_actor(0.0, -1.0, 0.0, 6.0), street_actor(across_m, 0.0, np.pi / 2, size_m=(9.5, 2.4, 2.6))]
        coming, _, _ = continued(build_street(32, 1.0, cars))
        fast = int(coming.speeds_mps.argmax())
        rolled_m = coming.rolled_m(times_s)[fast]
        speeds = np.diff(rolled_m) / 0.1
        assert speeds[0] == pytest.approx(6.0, abs=0.8)
        assert (np.diff(speeds) <= 1e-9).all()
        assert 1.0 < -np.diff(speeds).min() / 0.1 <= hardest_mps2 + 1e-6


def test_a_vehicle_drives_on_where_nothing_is_known(build_street, street_actor):
    street = build_street(32, 0.0, [street_actor(10.0, -1.0, 0.0, 6.0)])
    memory = remembered(street[:16])
    planar, heights_m = planar_from_poses(street.poses_world_from_ego)[16:], np.zeros(16)
    blank = replace(memory, labels=np.full_like(memory.labels, UNOBSERVED))
    coming = onward(blank, planar, heights_m, GRID)
    assert coming.brakings_mps2.tolist() == [0.0]
    assert coming.curvatures_per_m.tolist() == [0.0]


def test_who_waits_covers_what_was_covered_half_a_second_before(build_street, street_actor):
    cars = [street_actor(14.0, 4.3), street_actor(4.0, -1.0, 0.0, 6.0)]
    memory = remembered(build_street(16, 0.0, cars))
    there = waiting(memory, GRID).seen_from(memory.movers_planar[:1], np.zeros(1))[0]
    parked = memory.road_users == 1 + int(memory.motion[:, 5].argmin())
    driving = (memory.road_users > 0) & ~parked
    assert (there & parked).sum() > 0.95 * parked.sum()
    # Of 4.5 m it has left 3 m behind.
    assert (there & driving).sum() == pytest.approx(driving.sum() / 3, rel=0.35)


def test_the_last_frame_before_a_chunk_lies_one_frame_period_before_it():
    times_us = 5_000_000 + np.arange(16) * 100_000
    assert seconds_since(times_us, -1) == pytest.approx(np.arange(1, 17) * 0.1)
    assert seconds_since(times_us, 3) == pytest.approx(np.arange(-3, 13) * 0.1)


def test_a_layout_or_a_known_region_takes_the_place_of_how_vehicles_were_moving(build_street, street_actor):
    street = build_street(32, 6.0, [street_actor(4.0, -1.0, 0.0, 6.0)])
    memory, chunk = remembered(street[:16]), street[16:]
    planar, heights_m = planar_from_poses(chunk.poses_world_from_ego), chunk.poses_world_from_ego[:, 2, 3]
    plan = EgoPlan(chunk.poses_world_from_ego, chunk.times_us)
    plain = Conditions(plan, plan.command, Continuation("model", pack(memory)))
    observed = np.zeros(chunk.labels.shape, dtype=np.bool_)
    observed[0] = True
    region = replace(chunk, observed=observed)

    def coming(conditions, memory=memory):
        return road_users_to_come(conditions, memory, planar, heights_m, GRID, 0)

    assert coming(plain).frame == -1
    assert coming(replace(plain, layout=VehicleLayout.of(chunk))) is None
    assert coming(replace(plain, known_region=region)) is None
    assert coming(replace(plain, continuation=None, known_region=region)).frame == 0
    assert coming(plain, DriveMemory.empty(planar[0], float(heights_m[0]), GRID)) is None


def test_a_street_in_which_nobody_was_says_that_nobody_comes(build_street):
    street = build_street(32, 6.0)
    memory, chunk = remembered(street[:16]), street[16:]
    planar, heights_m = planar_from_poses(chunk.poses_world_from_ego), chunk.poses_world_from_ego[:, 2, 3]
    conditions = Conditions(EgoPlan(chunk.poses_world_from_ego, chunk.times_us))
    coming = road_users_to_come(conditions, memory, planar, heights_m, GRID, 0)
    assert len(coming.cells) == 0
    seen = coming.seen_from(planar, seconds_since(chunk.times_us, coming.frame))
    assert seen.shape == chunk.labels.shape
    assert not seen.any()
