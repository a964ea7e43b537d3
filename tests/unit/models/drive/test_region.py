from dataclasses import replace

import numpy as np
import pytest
import torch
from dyncity_models.config import AutoencoderConfig
from dyncity_models.data.clips import UNOBSERVED
from dyncity_models.drive.memory import DriveMemory
from dyncity_models.drive.one_frame import forecast
from dyncity_models.drive.region import known_latents, layout_of, settled, taught, whole_frame, with_region
from dyncity_models.hexplane import Planes

from dyncity_sim.domain.conditions import VehicleLayout
from dyncity_sim.domain.frames import planar_from_poses
from dyncity_sim.domain.grid import CARLASC_GRID
from dyncity_sim.domain.taxonomy import CARLASC

GRID, SHAPE = CARLASC_GRID, (16, *CARLASC_GRID.shape)
VEHICLE = CARLASC.index("vehicle")


@pytest.fixture(scope="module")
def street(build_street, street_actor):
    """A street with a parked car and one that drives ahead."""
    return build_street(16, 6.0, [street_actor(8.0, 4.0), street_actor(6.0, -2.0, 0.0, 9.0)])


def poses(street):
    return planar_from_poses(street.poses_world_from_ego), street.poses_world_from_ego[:, 2, 3]


def empty(street):
    planar, heights_m = poses(street)
    return DriveMemory.empty(planar[0], float(heights_m[0]), GRID)


def known_from(street, observed):
    return replace(street, observed=observed)


def only(frames):
    observed = np.zeros(SHAPE, dtype=bool)
    observed[frames] = True
    return observed


def learn(street, observed, memory=None):
    return taught(empty(street) if memory is None else memory, known_from(street, observed), *poses(street))


def test_what_one_frame_knows_of_the_static_world_is_known_in_all_frames_that_see_it(street):
    seen = learn(street, only(0)).seen_from(*poses(street), GRID)
    known = seen != UNOBSERVED
    static = ~np.isin(street.labels, CARLASC.moving_labels)
    assert np.array_equal(seen[0][static[0]], street.labels[0][static[0]])
    # the ego drives forward: of what the last frame sees, the strip ahead is new
    assert known[15, :100].mean() > 0.95
    assert not known[15, -20:].any()
    assert (seen[15][known[15]] == street.labels[15][known[15]]).mean() > 0.98


def test_a_cell_that_only_the_last_known_frame_shows_is_learnt(street):
    observed = np.zeros(SHAPE, dtype=bool)
    observed[7, 50:60, 30:40] = True
    seen = learn(street, observed).seen_from(*poses(street), GRID)
    assert (seen[7, 51:59, 31:39] != UNOBSERVED).mean() > 0.95


def test_a_region_is_believed_over_what_the_drive_remembers(street):
    other = np.where(street.labels == CARLASC.index("road"), CARLASC.index("sidewalk"), street.labels).astype(np.uint8)
    before = empty(street).learn(other, *poses(street), GRID)
    observed = np.zeros(SHAPE, dtype=bool)
    observed[:, :, 64:] = True
    seen = learn(street, observed, before).seen_from(*poses(street), GRID)
    road = street.labels == CARLASC.index("road")
    assert (seen[0, :, 64:][road[0, :, 64:]] == CARLASC.index("road")).all()
    assert (seen[0, :, :63][road[0, :, :63]] == CARLASC.index("sidewalk")).all()


def test_movers_of_a_region_are_not_learnt_but_stand_in_for_those_before_the_chunk(street):
    memory = learn(street, only([3, 9]))
    assert not np.isin(memory.labels, CARLASC.moving_labels).any()
    vehicles = (street.labels[3] == VEHICLE).any(axis=-1)
    assert np.array_equal(memory.movers, [vehicles, vehicles, 0 * vehicles, 0 * vehicles])
    assert np.array_equal(memory.movers_planar, poses(street)[0][[3, 3, 3, 3]])


def test_movers_that_a_drive_remembers_stay_as_they_were(street):
    movers = np.zeros((4, *GRID.shape[:2]), dtype=bool)
    movers[0, 3, 4] = True
    before = replace(empty(street), movers=movers, movers_planar=np.ones((4, 3)))
    after = learn(street, only(0), before)
    assert np.array_equal(after.movers, movers)
    assert np.array_equal(after.movers_planar, np.ones((4, 3)))


def test_cells_outside_of_a_region_stay_as_they_were_generated(street):
    observed = only(4)
    labels = with_region(np.full(SHAPE, 3, dtype=np.uint8), known_from(street, observed))
    assert np.array_equal(labels[observed], street.labels[observed])
    assert (labels[~observed] == 3).all()


def masks(known, static=None, forward_m=0.0):
    """Settled latent cells of a chunk whose ego moves ``forward_m`` a frame along the canvas."""
    known = torch.from_numpy(known)[None]
    tokens = torch.where(known if static is None else torch.from_numpy(static)[None], 0, UNOBSERVED)
    along = forward_m * (torch.arange(16.0) - 8)
    canvas_from_ego = torch.stack([along, 0 * along, 0 * along], dim=-1)[None]
    return [mask[0, 0].bool() for mask in settled(tokens.byte(), known, canvas_from_ego, AutoencoderConfig())]


REACHED = (torch.arange(32) + 0.5) * 2 - 32
"""Metres of the centres of latent cells along one axis."""


def test_the_known_left_side_settles_its_half_and_the_lines_along_it():
    known = np.zeros(SHAPE, dtype=bool)
    known[:, :, 64:] = True
    xy, tx, ty = masks(known)
    left, reached = REACHED > 0, REACHED.abs() < 25.6
    # the outermost cells reach past the grid: what falls on them is known as well
    assert torch.equal(xy, (reached[:, None] & (left & reached)[None]))
    assert not tx.any()
    assert torch.equal(ty, (left & reached).expand(8, -1))


def test_a_hole_unsettles_the_lines_that_cross_it_in_its_frames():
    known = np.ones(SHAPE, dtype=bool)
    known[6, 40:60, 64:84] = False
    xy, tx, ty = masks(known)
    for line, cell in ((tx[3], 50), (ty[3], 74)):
        unsettled_m = REACHED[~line & (REACHED.abs() < 25.6)]
        assert float(unsettled_m.mean()) == pytest.approx((cell - 64) * 0.4, abs=1.0)
    others = [0, 1, 2, 4, 5, 6, 7]
    assert torch.equal(tx[others], (REACHED.abs() < 25.6).expand(7, -1))
    # one of sixteen frames is more than a twentieth
    assert not xy[(REACHED > -8) & (REACHED < -4)][:, (REACHED > 2) & (REACHED < 6)].any()
    assert xy[:, REACHED < -2][REACHED.abs() < 25.6][:, 4:].all()


def test_one_frame_settles_the_static_world_that_it_teaches_but_no_motion():
    xy, tx, ty = masks(only(0), np.ones(SHAPE, dtype=bool))
    assert xy[REACHED.abs() < 25.6][:, REACHED.abs() < 25.6].all()
    assert not tx.any()
    assert not ty.any()


def test_nothing_is_settled_where_no_frame_looks():
    xy, tx, _ = masks(np.ones(SHAPE, dtype=bool), forward_m=-0.5)
    # the first frame stands 4 m ahead of the middle one
    assert xy[:, REACHED.abs() < 25][(REACHED > 25) & (REACHED < 29.6)].all()
    assert not xy[:, REACHED.abs() > 27].any()
    assert not xy[REACHED > 30].any()
    assert tx[0][REACHED > 28].tolist() == [True, False]
    assert not tx[7][REACHED > 28].any()


def test_nothing_is_imposed_where_no_latent_is_settled_or_all_are():
    values = Planes(torch.ones(1, 2, 4, 4), torch.ones(1, 2, 2, 4), torch.ones(1, 2, 2, 4))
    none, some, everything = (
        Planes(*(share * torch.ones(1, 1, *value.shape[2:]) for value, share in zip(values, shares, strict=True)))
        for shares in ((0, 0, 0), (0, 1, 0), (1, 1, 1))
    )
    assert known_latents(values, none, 1) is None
    assert known_latents(values, everything, 1) is None
    known = known_latents(values, some, 3)
    assert known.resamples == 3
    assert torch.equal(values.shaped(known.mask).tx, torch.ones(1, 2, 2, 4, dtype=torch.bool))
    assert int(known.mask.sum()) == 16


def test_one_known_frame_is_whole_but_two_or_half_a_frame_are_not(street):
    assert whole_frame(known_from(street, only(4))) == 4
    half = np.zeros(SHAPE, dtype=bool)
    half[0, :64] = True
    assert whole_frame(known_from(street, only([0, 1]))) is None
    assert whole_frame(known_from(street, half)) is None


def test_what_a_vehicle_leaves_is_free_and_where_it_came_from_is_told(build_street, street_actor):
    street = build_street(16, 6.0, [street_actor(12.0, -1.0, 0.0, 6.0), street_actor(12.0, 4.3)])
    region, (planar, heights_m) = known_from(street, only(0)), poses(street)
    coming = forecast(region, 0, planar, np.random.default_rng(0))
    memory = taught(empty(street), region, planar, heights_m, coming)
    seen = memory.seen_from(planar[:1], heights_m[:1], GRID)[0]
    vehicles = street.labels[0] == VEHICLE
    driven, parked = coming.leaving, vehicles & ~coming.leaving
    assert driven.any()
    assert parked.any()
    assert (seen[driven] == 0).all()
    assert (seen[parked] == UNOBSERVED).all()
    middles_m = [
        np.argwhere(columns & driven.any(axis=(0, 2))[None])[:, 0].mean() * 0.4 for columns in memory.movers[:2]
    ]
    # five frames of 6 m/s lie between the two
    assert middles_m[0] - middles_m[1] == pytest.approx(3.0, abs=0.4)
    assert np.array_equal(memory.movers_planar, planar[[0, 0, 0, 0]])


def test_the_layout_of_cells_with_vehicles_is_that_of_their_occupancy(street):
    layout = layout_of(street.labels == VEHICLE, known_from(street, only(0)))
    assert np.array_equal(layout.cells, VehicleLayout.of(street).cells)
