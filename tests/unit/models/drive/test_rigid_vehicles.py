from dataclasses import replace

import numpy as np
import pytest
from dyncity_models.drive.bodies import Body
from dyncity_models.drive.classes import FREE, PEDESTRIAN, VEHICLE
from dyncity_models.drive.drawing import Drawn
from dyncity_models.drive.rigid_vehicles import with_rigid_vehicles
from scipy import ndimage

from dyncity_sim.domain.grid import CARLASC_GRID as GRID
from dyncity_sim.domain.recording import ActorKind
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.scene.actors.find import find_tracks

BUILDING = CARLASC.index("building")


@pytest.fixture
def street(build_street, street_actor):
    """A parked car, one that drives ahead of the ego, one that comes towards it, and somebody who walks."""
    cars = [street_actor(16.0, 4.3), street_actor(9.0, -1.0, 0.0, 6.0), street_actor(22.0, 1.5, np.pi, 5.0)]
    walker = street_actor(5.0, -6.5, 0.5, 1.2, (0.8, 0.8, 1.75), PEDESTRIAN)
    return build_street(16, 4.0, [*cars, walker])


def rigid(chunk, labels=None):
    chunk = chunk if labels is None else replace(chunk, labels=labels)
    return with_rigid_vehicles(chunk, [t for t in find_tracks(chunk) if t.kind is not ActorKind.PEDESTRIAN])


def without(chunk, cells):
    return np.where(cells & (chunk.labels == VEHICLE), FREE, chunk.labels).astype(np.uint8)


def overlap(labels, true):
    shown, expected = labels == VEHICLE, true == VEHICLE
    return (shown & expected).sum() / (shown | expected).sum()


def frames_with_vehicle(labels):
    return (labels == VEHICLE).any(axis=(1, 2, 3))


def test_vehicles_that_are_rigid_stay_as_they_are_and_all_else_does(street):
    found = rigid(street)
    assert overlap(found, street.labels) > 0.93
    changed = found != street.labels
    assert np.isin(found[changed], [FREE, VEHICLE]).all()
    assert np.isin(street.labels[changed], [FREE, VEHICLE]).all()


def test_a_street_without_vehicles_stays_as_it_is(build_street):
    empty = build_street(16, 6.0, curvature_per_m=0.02)
    assert np.array_equal(rigid(empty), empty.labels)


def test_frayed_vehicles_are_whole_again(street):
    rng = np.random.default_rng(0)
    frayed = without(street, rng.random(street.labels.shape) < 0.3)
    fringe = ndimage.binary_dilation(frayed == VEHICLE, np.ones((1, 3, 3, 1))) & (frayed == FREE)
    frayed[fringe & (rng.random(frayed.shape) < 0.2)] = VEHICLE
    assert overlap(frayed, street.labels) < 0.7
    assert overlap(rigid(street, frayed), street.labels) > 0.85


@pytest.mark.parametrize("gone", [slice(6, 9), slice(11, 16), slice(0, 5)])
def test_a_vehicle_that_some_frames_lack_is_there_in_all(build_street, street_actor, gone):
    street = build_street(16, 4.0, [street_actor(9.0, -1.0, 0.0, 6.0)])
    cells = np.zeros(street.labels.shape, dtype=bool)
    cells[gone] = True
    found = rigid(street, without(street, cells))
    assert all(overlap(found[frame], street.labels[frame]) > 0.6 for frame in range(16))


def test_a_vehicle_goes_no_farther_than_there_is_room(build_street, street_actor):
    street = build_street(16, 4.0, [street_actor(9.0, -1.0, 0.0, 8.0)])
    cells = np.zeros(street.labels.shape, dtype=bool)
    cells[8:] = True
    labels = without(street, cells)
    for frame in range(8, 16):
        x = GRID.centres(0) + street.poses_world_from_ego[frame, 0, 3]
        labels[frame, x > 15.5, :, 1:] = BUILDING
    shown = frames_with_vehicle(rigid(street, labels))
    assert shown[:8].all()
    assert not shown[-1]


def test_a_vehicle_does_not_drive_into_the_ego(build_street, street_actor):
    street = build_street(16, 4.0, [street_actor(16.0, 0.0, np.pi, 6.0)])
    cells = np.zeros(street.labels.shape, dtype=bool)
    cells[6:] = True
    shown = frames_with_vehicle(rigid(street, without(street, cells)))
    assert shown[:9].all()
    assert not shown[-1]


@pytest.mark.parametrize(("aside_m", "stays"), [(0.5, False), (1.2, False), (2.4, True)])
def test_whom_the_ego_would_run_into_is_not_there_and_who_stands_beside_its_way_is(
    build_street, street_actor, aside_m, stays
):
    street = build_street(16, 8.0, [street_actor(9.0, aside_m)])
    assert frames_with_vehicle(rigid(street)).all() == stays
    assert frames_with_vehicle(rigid(street)).any() == stays


def test_splinters_go_and_what_the_border_cuts_stays(build_street):
    street = build_street(16, 0.0)
    labels = street.labels.copy()
    labels[3:9, 80:82, 64:66, 1:3] = VEHICLE
    labels[4, 90:96, 60:64, 1:3] = VEHICLE
    labels[15, 126:, 60:64, 1:4] = VEHICLE
    found = rigid(street, labels)
    assert np.array_equal(found[:15], street.labels[:15])
    assert np.array_equal(found[15], labels[15])


def test_riders_stay_on_their_bicycles_and_who_walks_is_left_alone(build_street, street_actor):
    rider = street_actor(8.0, -2.0, 0.0, 5.0, (1.8, 0.8, 1.8), rider_label=PEDESTRIAN)
    walker = street_actor(5.0, 6.5, 0.5, 1.2, (0.8, 0.8, 1.75), PEDESTRIAN)
    street = build_street(16, 4.0, [rider, walker])
    found = rigid(street)
    left = (GRID.centres(1) > 0)[:, None]
    assert np.array_equal((found == PEDESTRIAN) & left, (street.labels == PEDESTRIAN) & left)
    riding = (found == PEDESTRIAN) & ~left
    assert riding.any(axis=(1, 2, 3)).all()
    assert ((found == VEHICLE).any(axis=-1) | ~riding.any(axis=-1)).all()


def test_a_vehicle_on_a_slope_keeps_its_height(street):
    poses = street.poses_world_from_ego.copy()
    layers = np.arange(16) // 3
    poses[:, 2, 3] -= layers * GRID.voxel_size_m[2] / 2
    sinking = np.stack([np.roll(frame, n // 2, axis=-1) for frame, n in zip(street.labels, layers, strict=True)])
    for frame, n in enumerate(layers // 2):
        sinking[frame, ..., :n] = sinking[frame, ..., n : n + 1]
    chunk = replace(street, poses_world_from_ego=poses, labels=np.ascontiguousarray(sinking))
    assert overlap(rigid(chunk), sinking) > 0.75


def test_a_vehicle_that_is_narrow_at_its_ends_is_a_box_as_high_as_it_was_everywhere(build_street, street_actor):
    lying = street_actor(10.0, -3.0, size_m=(4.4, 1.8, 1.0))
    cabin = street_actor(9.4, -3.0, size_m=(2.4, 1.8, 1.6))
    street = build_street(16, 4.0, [lying, cabin])
    labels = street.labels.copy()
    for frame, shown in enumerate(labels):
        x, y = np.argwhere((shown == VEHICLE).any(axis=-1)).T
        ends, middle = (x < x.min() + 3) | (x > x.max() - 3), (y.min() + y.max()) / 2
        tips = ends & (np.abs(y - middle) > 0.5)
        shown[x[tips], y[tips]] = np.where(shown[x[tips], y[tips]] == VEHICLE, FREE, shown[x[tips], y[tips]])
        assert tips.sum() >= 8, frame
    found = rigid(street, labels)
    assert filled(labels) < 0.85
    assert filled(found) > 0.95
    assert overlap(found, street.labels) > overlap(labels, street.labels)
    heights = (found[8] == VEHICLE).sum(axis=-1)
    assert {heights[x][heights[x] > 0].max() for x in range(128) if heights[x].any()} == {2, 4}


def filled(labels):
    """Share of the rectangle around the vehicle of the middle frame that it fills, seen from above."""
    columns = np.argwhere((labels[8] == VEHICLE).any(axis=-1))
    return len(columns) / np.prod(np.ptp(columns, axis=0) + 1)


@pytest.mark.parametrize(("ahead_m", "turned_rad", "one"), [(0.0, 1.0, True), (2.5, 0.0, True), (4.6, 0.0, False)])
def test_two_vehicles_are_not_in_one_place(build_street, street_actor, ahead_m, turned_rad, one):
    streets = [build_street(16, 4.0, [street_actor(*at)]) for at in ((9.0, -2.0), (9.0 + ahead_m, -2.0, turned_rad))]
    (first, other), drawn = map(drawn_in, streets), np.zeros(streets[0].labels.shape, dtype=np.bool_)
    first.put_into(streets[0].labels * 0, drawn)
    assert drawn.any(axis=(1, 2, 3)).all()
    assert other.is_in_another(drawn) == one


def drawn_in(street):
    (track,) = find_tracks(street)
    return Drawn.of(Body.voted(track, street, street.labels == VEHICLE), street)


def test_of_a_vehicle_that_something_cuts_off_the_larger_piece_is_drawn(build_street, street_actor):
    street = build_street(16, 0.0, [street_actor(10.0, -2.0)])
    labels, drawn = np.zeros_like(street.labels), np.zeros(street.labels.shape, dtype=np.bool_)
    beyond = GRID.centres(0) > 11.3
    labels[:, (GRID.centres(0) > 10.9) & ~beyond] = BUILDING
    drawn_in(street).put_into(labels, drawn)
    assert ((labels == VEHICLE) == drawn).all()
    assert drawn[:, ~beyond].any(axis=(1, 2, 3)).all()
    assert not drawn[:, beyond].any()
