"""Parts of a chunk that are known: what is carried to other frames, and which latents are settled."""

import numpy as np
import pytest
import torch
from dyncity_models.backends.reference.region import carried, settled
from dyncity_models.reference.config import PLANES, ReferenceAutoencoderConfig

from dyncity_sim.domain.frames import poses_from_planar
from dyncity_sim.domain.grid import Grid
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.taxonomy import CARLASC

GRID = Grid((16, 12, 4), (-3.2, -2.4, -2.0), (0.4, 0.4, 0.5))
CONFIG = ReferenceAutoencoderConfig(frames=4, grid=GRID.shape)
ROAD, BUILDING, VEHICLE = (CARLASC.index(name) for name in ("road", "building", "vehicle"))


def region_of(labels, observed, planar, height_m=(0.0, 0.0, 0.0, 0.0)):
    poses = poses_from_planar(np.array(planar, dtype=np.float64))
    poses[:, 2, 3] = height_m
    return OccupancySequence(labels, poses, np.arange(4) * 100_000, GRID, CARLASC, observed)


@pytest.fixture
def scene():
    """A building and a car in frame 0, the only one that is known; what other frames hold is not to be read."""
    labels = np.full((4, *GRID.shape), VEHICLE, np.uint8)
    labels[0] = 0
    labels[0, :, :, 0] = ROAD
    labels[0, 8:10, 2:4] = BUILDING
    labels[0, 12, 8, 1] = VEHICLE
    observed = np.zeros(labels.shape, np.bool_)
    observed[0] = True
    return labels, observed


def test_static_cells_are_carried_along_the_poses_and_movers_are_not(scene):
    labels, known = carried(region_of(*scene, [(0.8 * t, 0, 0) for t in range(4)]))
    for frame in range(4):
        shift = 2 * frame
        expected = scene[0][0, shift:]
        mover = expected == VEHICLE
        seen = labels[frame, : GRID.shape[0] - shift]
        assert np.array_equal(seen[~mover], expected[~mover])
        assert known[frame, : GRID.shape[0] - shift][mover].all() == (frame == 0)
        assert not known[frame, GRID.shape[0] - shift :].any()
        assert not labels[frame, GRID.shape[0] - shift :].any()


def test_a_turn_and_a_climb_are_followed(scene):
    labels, known = carried(region_of(*scene, [(0, 0, np.pi / 2 * t) for t in range(4)], (0.0, 0.5, 0.5, 0.5)))
    # Facing left, what lay at (x, y) lies at (y, -x), and half a metre lower. The grid is longer than it is wide.
    assert known[1, 2:14, :, :3].sum() > 0
    x, y = 9, 3
    there = GRID.indices(np.array([GRID.centres(1)[y], -GRID.centres(0)[x], 0.0]))
    assert labels[1, there[0], there[1], 0] == scene[0][0, x, y, 1] == BUILDING
    assert not known[1, :, :, 3].any()


def test_a_frame_keeps_what_it_knows_and_takes_the_rest_from_the_nearest_in_time():
    labels = np.zeros((4, *GRID.shape), np.uint8)
    labels[:, ..., 0] = np.arange(5, 9)[:, None, None]
    observed = np.zeros(labels.shape, np.bool_)
    observed[0] = observed[3] = True
    observed[1, :4] = True
    filled, known = carried(region_of(labels, observed, [(0, 0, 0)] * 4))
    assert known.all()
    assert filled[1, 0, 0, 0] == 6
    assert filled[1, 8, 0, 0] == 5
    assert filled[2, 0, 0, 0] == 6
    assert filled[2, 8, 0, 0] == 8


def masks_of(observed, known=None):
    observed = torch.from_numpy(observed)
    masks = settled(observed, observed if known is None else torch.from_numpy(known), CONFIG)
    found = {name: mask[0, 0].bool().numpy() for name, mask in zip(PLANES, masks, strict=True)}
    assert {name: mask.shape for name, mask in found.items()} == {name: CONFIG.plane_shape(name) for name in PLANES}
    return found


def test_latents_on_known_cells_are_settled_but_for_those_beside_unknown_ones():
    observed = np.zeros((4, *GRID.shape), np.bool_)
    observed[:, :8] = True
    found = masks_of(observed)
    assert found["xy"][:3].all()
    assert not found["xy"][3:].any()
    assert found["xz"][:3].all()
    assert found["tx"][:, :3].all()
    assert not found["tx"][:, 3:].any()
    # Every cell of these reaches over the unknown half.
    assert not found["yz"].any()
    assert not found["ty"].any()
    assert not found["tz"].any()


def test_a_handful_of_unknown_cells_sets_nothing_free_and_more_of_them_do():
    observed = np.ones((4, *GRID.shape), np.bool_)
    observed[0, 4, 4, 1] = False
    assert all(mask.all() for mask in masks_of(observed).values())
    observed[:, 4, 4] = False
    found = masks_of(observed)
    assert found["xz"].all()
    assert found["tx"].all()
    assert not found["xy"][1:4, 1:4].any()
    assert found["xy"][4:].all()


def test_carried_cells_settle_what_does_not_change_and_known_frames_what_does():
    observed = np.zeros((4, *GRID.shape), np.bool_)
    observed[:2] = True
    found = masks_of(observed, np.ones_like(observed))
    assert all(found[name].all() for name in ("xy", "xz", "yz"))
    for name in ("tx", "ty", "tz"):
        assert found[name][0].all()
        assert not found[name][1].any()
