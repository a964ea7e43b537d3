"""What an encoder is shown of a chunk, and the maps that say where."""

import numpy as np
import pytest
import torch
from dyncity_models.data.clips import UNOBSERVED
from dyncity_models.data.views import (
    behind_line,
    column_points,
    covered,
    hidden_by,
    known_latent_mask,
    known_tokens,
    moved_to_canvas,
    mover_columns,
    remembered_tokens,
    vehicle_layout,
)

from dyncity_sim.domain.grid import CARLASC_GRID
from dyncity_sim.domain.taxonomy import CARLASC

VEHICLE, PEDESTRIAN = CARLASC.index("vehicle"), CARLASC.index("pedestrian")


def test_known_tokens_hide_movers_and_unknown_columns(street_clip):
    labels = torch.from_numpy(street_clip.labels)[None]
    known = torch.zeros(labels.shape[:4], dtype=torch.bool)
    known[:, :, 64:] = True
    tokens = known_tokens(labels, known)
    movers = torch.isin(labels, torch.tensor(CARLASC.moving_labels))
    assert movers[:, :, 64:].any()
    assert (tokens[:, :, :64] == UNOBSERVED).all()
    assert (tokens[movers] == UNOBSERVED).all()
    shown = known[..., None] & ~movers
    assert torch.equal(tokens[shown], labels[shown])


PARKED, LEAVING, PASSING, ARRIVING = range(4)


@pytest.fixture
def remembered():
    """A function that gives the tokens, and who is where, of a chunk whose movers do as some of the above say."""

    def build(*doings, yaw_rate=0.02):
        planar = torch.stack([torch.arange(32) * 0.8, torch.zeros(32), torch.arange(32) * yaw_rate], dim=-1)
        road, vehicle = CARLASC.index("road"), VEHICLE
        labels = torch.zeros(1, 32, 128, 128, 8, dtype=torch.uint8)
        labels[..., 0] = road
        movers = torch.zeros(labels.shape, dtype=torch.bool)
        points = column_points(planar[None], 128, 25.6)
        for doing in doings:
            for frame in range(32):
                x = {
                    PARKED: 20.0,
                    LEAVING: 20.0 + 0.9 * max(frame - 15, 0),
                    PASSING: 0.9 * frame,
                    ARRIVING: 14.0 + min(0.9 * frame, 22.0),
                }[doing]
                offset = points[0, frame] - torch.tensor([x, {PASSING: 2.0, ARRIVING: 6.0}.get(doing, -6.0)])
                body = (offset.abs() < torch.tensor([2.2, 0.9])).all(dim=-1)
                movers[0, frame, ..., 1:4] |= body[..., None]
        labels[movers] = vehicle
        past, chunk = labels[:, :16], labels[:, 16:]
        recent = past[:, [-1, -6]]
        known = torch.ones(1, 16, 128, 128, dtype=torch.bool)
        tokens = remembered_tokens(chunk, recent, planar[None, 16:], planar[None, [15, 10]], known, 25.6)
        return tokens, movers[:, 16:]

    return build


def test_what_is_remembered_does_not_tell_where_movers_will_be(remembered):
    empty, _ = remembered()
    for doing in (PASSING, ARRIVING):
        tokens, movers = remembered(doing)
        assert movers.any(dim=(2, 3, 4)).sum() > 8
        assert (tokens != empty).float().mean() < 1e-4
    assert (remembered(PARKED)[0] != remembered(LEAVING)[0]).float().mean() < 1e-4


def test_what_stood_before_a_chunk_leaves_a_hole_in_all_of_it(remembered):
    tokens, movers = remembered(PARKED)
    assert (tokens[movers] == UNOBSERVED).float().mean() > 0.85
    left, gone = remembered(LEAVING)
    holes = (left == UNOBSERVED) & ~gone
    assert holes[0, -1].sum() > 0.7 * movers[0, -1].sum()


def test_remembered_cells_are_those_of_the_static_world_or_unknown(street_clip):
    labels = torch.from_numpy(street_clip.labels[16:32])[None]
    recent = torch.from_numpy(street_clip.labels[[15, 10]])[None]
    planar = torch.from_numpy(street_clip.planar).float()[None]
    known = torch.zeros(labels.shape[:4], dtype=torch.bool)
    known[:, :, 64:] = True
    tokens = remembered_tokens(labels, recent, planar[:, 16:32], planar[:, [15, 10]], known, 25.6)
    movers = torch.isin(labels, torch.tensor(CARLASC.moving_labels))
    assert (tokens[:, :, :64] == UNOBSERVED).all()
    assert not torch.isin(tokens, torch.tensor(CARLASC.moving_labels)).any()
    still = known[..., None] & ~movers & (tokens != UNOBSERVED)
    assert torch.equal(tokens[still], labels[still])
    assert still.float().sum() > 0.98 * (known[..., None] & ~movers).sum()


def test_column_points_are_those_of_the_grid_carried_by_the_pose():
    points = column_points(torch.tensor([[[10.0, 20.0, np.pi / 2]]]), 128, 25.6)
    assert points.shape == (1, 1, 128, 128, 2)
    x, y = CARLASC_GRID.centres(0), CARLASC_GRID.centres(1)
    # facing north: forward is +y of the world, left is -x
    assert points[0, 0, 100, 3].tolist() == pytest.approx([10.0 - y[3], 20.0 + x[100]], abs=1e-4)


def test_points_are_covered_inside_the_square_of_any_pose_of_their_own_batch():
    planar = torch.tensor([[[0.0, 0.0, 0.0], [100.0, 0.0, np.pi / 4]], [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]])
    points = torch.tensor([[9.9, -9.9], [10.1, 0.0], [100.0, 14.0], [107.5, 7.5], [86.1, 0.0], [50.0, 0.0]])
    found = covered(points.expand(2, -1, -1), planar, 10.0)
    assert found.tolist() == [[True, False, True, False, True, False], [True] + 5 * [False]]


def test_gaps_are_discs_and_a_radius_of_zero_hides_nothing():
    points = torch.tensor([[[0.0, 0.0], [3.0, 0.0], [5.0, 0.0]]])
    centres, radii = torch.tensor([[[0.0, 0.0], [5.0, 0.0]]]), torch.tensor([[3.1, 0.0]])
    assert hidden_by(points, centres, radii).tolist() == [[True, True, False]]


def test_what_is_known_ends_at_a_straight_line():
    points = torch.tensor([[[12.0, 50.0], [14.0, -50.0]], [[0.0, 2.9], [0.0, 3.1]]])
    origin = torch.tensor([[10.0, 0.0], [0.0, 1.0]])
    angle = torch.tensor([0.0, np.pi / 2], dtype=torch.float32)
    near = behind_line(points, origin, angle, torch.tensor([3.0, 2.0]))
    assert near.tolist() == [[True, False], [True, False]]


def on_canvas(columns, planar, canvas_planar):
    arguments = (torch.from_numpy(values)[None] for values in (columns, planar, canvas_planar))
    return moved_to_canvas(*arguments, 25.6, 32.0, 64)[0].numpy()


def test_movers_are_drawn_on_the_canvas_where_they_stood():
    columns = np.zeros((2, 128, 128), dtype=bool)
    columns[0, 99:102, 63:66] = True
    columns[1, 99:102, 63:66] = True
    centre_m = CARLASC_GRID.centres(0)[100]
    planar = np.array([[5.0, 0.0, 0.0], [0.0, 0.0, np.pi / 2]])
    drawn = on_canvas(columns, planar, np.zeros(3))
    assert drawn.shape == (2, 64, 64)
    for mask, xy in zip(drawn, [(5.0 + centre_m, 0.2), (-0.2, centre_m)], strict=True):
        cells = np.argwhere(mask)
        assert len(cells) in (1, 2, 4)
        assert np.allclose(cells.mean(axis=0) + 0.5 - 32.0, xy, atol=0.5)


def test_a_car_survives_being_drawn_on_a_turned_canvas():
    columns = np.zeros((1, 128, 128), dtype=bool)
    columns[0, 90:101, 40:45] = True
    drawn = on_canvas(columns, np.zeros((1, 3)), np.array([3.0, 1.0, 0.6]))[0]
    cells = np.argwhere(drawn) + 0.5 - 32.0
    back = cells @ np.array([[np.cos(0.6), np.sin(0.6)], [-np.sin(0.6), np.cos(0.6)]]) + [3.0, 1.0]
    x_m, y_m = CARLASC_GRID.centres(0)[[90, 100]], CARLASC_GRID.centres(1)[[40, 44]]
    assert ((back > [x_m[0] - 1, y_m[0] - 1]) & (back < [x_m[1] + 1, y_m[1] + 1])).all()
    assert len(cells) >= 4.4 * 2.0


def test_what_lies_outside_the_canvas_is_not_drawn():
    everywhere = np.ones((1, 128, 128), dtype=bool)
    assert not on_canvas(everywhere, np.array([[100.0, 0.0, 0.0]]), np.zeros(3)).any()
    here = on_canvas(everywhere, np.zeros((1, 3)), np.zeros(3))[0]
    x = np.arange(64) + 0.5 - 32.0
    reached = np.abs(x) - 0.5 < 25.6
    assert np.array_equal(here, reached[:, None] & reached[None])


def test_a_latent_cell_is_known_when_it_and_its_neighbours_are():
    known = torch.zeros((2, 16, 16), dtype=torch.bool)
    known[0, 2:12, :] = True
    known[1] = True
    mask = known_latent_mask(known)
    assert mask.shape == (2, 1, 8, 8)
    assert mask[0, 0].any(dim=1).tolist() == [False, False, True, True, True, False, False, False]
    assert mask[0, 0, 2:5].all()
    assert mask[1].all()
    known[0, 6, 7] = False
    assert not known_latent_mask(known)[0, 0, 2:5, 2:5].any()


def test_mover_columns_are_vehicles_of_all_frames_then_pedestrians():
    labels = torch.zeros((1, 2, 128, 128, 8), dtype=torch.uint8)
    labels[0, 0, 1, 2, 3] = VEHICLE
    labels[0, 1, 4, 5, 6] = PEDESTRIAN
    found = mover_columns(labels)
    assert found.nonzero().tolist() == [[0, 0, 1, 2], [0, 3, 4, 5]]
    assert found.shape == (1, 4, 128, 128)


def test_a_layout_marks_every_cell_that_any_vehicle_stands_in():
    labels = torch.zeros((1, 2, 128, 128, 8), dtype=torch.uint8)
    labels[0, 0, 7, 8, 3] = VEHICLE
    labels[0, 1, 64:70, 0, 0] = VEHICLE
    labels[0, 1, 100, 100, 0] = PEDESTRIAN
    found = vehicle_layout(labels)
    assert found.shape == (1, 2, 32, 32)
    assert found.nonzero().tolist() == [[0, 0, 1, 2], [0, 1, 16, 0], [0, 1, 17, 0]]
