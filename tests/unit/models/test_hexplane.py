import numpy as np
import torch
from dyncity_models.hexplane import Planes, canvas_poses, cell_centres, compose, invert, sampling_grid, transform
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from dyncity_sim.domain.frames import inverse, poses_from_planar, transform_points, wrap_angle

METRES = st.floats(-1000, 1000)
POSES = st.tuples(METRES, METRES, st.floats(-10, 10)).map(np.array)


def matrix(planar):
    return poses_from_planar(np.asarray(planar))


@given(POSES, POSES)
def test_composed_poses_are_multiplied_matrices(a_from_b, b_from_c):
    composed = compose(torch.from_numpy(a_from_b), torch.from_numpy(b_from_c))
    assert np.allclose(matrix(composed), matrix(a_from_b) @ matrix(b_from_c), atol=1e-8)


@given(POSES)
def test_an_inverted_pose_is_the_inverse_matrix(pose):
    assert np.allclose(matrix(invert(torch.from_numpy(pose))), inverse(matrix(pose)), atol=1e-8)


@given(POSES, st.lists(st.tuples(METRES, METRES), min_size=1, max_size=5).map(np.array))
def test_transformed_points_are_those_of_the_matrix(pose, points):
    moved = transform(torch.from_numpy(pose), torch.from_numpy(points))
    expected = transform_points(matrix(pose), np.column_stack([points, np.zeros(len(points))]))
    assert np.allclose(moved, expected[:, :2], atol=1e-8)


def test_compose_broadcasts_one_frame_over_a_track():
    track = torch.randn(2, 16, 3, dtype=torch.float64)
    anchor = track[:, 8:9]
    together = compose(invert(anchor), track)
    alone = torch.stack([compose(invert(anchor[:, 0]), track[:, i]) for i in range(16)], dim=1)
    assert torch.equal(together, alone)


@given(st.integers(0, 15), st.integers(0, 2**32))
def test_the_canvas_is_the_ego_frame_of_its_anchor(anchor_frame, seed):
    rng = np.random.default_rng(seed)
    planar = torch.from_numpy(rng.normal(size=(1, 16, 3)) * [20, 20, 1])
    poses = canvas_poses(planar, anchor_frame)
    assert torch.allclose(poses[0, anchor_frame], torch.zeros(3, dtype=torch.float64), atol=1e-9)
    relative = inverse(matrix(planar[0, anchor_frame]))[None] @ matrix(planar[0])
    assert np.allclose(matrix(poses[0]), relative, atol=1e-8)


def test_canvas_poses_are_continuous_where_the_heading_crosses_west():
    yaw = wrap_angle(np.pi + np.linspace(-0.1, 0.1, 16))
    planar = torch.from_numpy(np.column_stack([-np.arange(16.0), np.zeros(16), yaw]))[None]
    assert float(canvas_poses(planar, 8)[0, :, 2].abs().max()) < 0.2


def test_planes_lie_flat_and_come_back_with_and_without_those_over_height():
    three = Planes(*(torch.randn(2, 3, *shape) for shape in ((4, 4), (2, 4), (2, 4))))
    six = Planes(*three, *(torch.randn(2, 3, *shape) for shape in ((4, 5), (4, 5), (2, 5))))
    for planes, names in ((three, ["xy", "tx", "ty"]), (six, ["xy", "tx", "ty", "xz", "yz", "tz"])):
        assert list(planes.named()) == names
        back = planes.shaped(planes.flat())
        assert all(torch.equal(a, b) for a, b in zip(back, planes, strict=True))


def test_cell_centres_start_half_a_cell_inside_and_x_is_the_first_axis():
    centres = cell_centres(64, 32.0)
    assert centres[0, 0].tolist() == [-31.5, -31.5]
    assert centres[63, 0].tolist() == [31.5, -31.5]
    assert centres[0, 63].tolist() == [-31.5, 31.5]


def warped(source, source_from_target, cells=16, half_m=8.0):
    grid = sampling_grid(torch.tensor([source_from_target]), cells, half_m, half_m)
    return F.grid_sample(source[None, None], grid, mode="nearest", align_corners=False)[0, 0]


def marked(x, y, cells=16):
    source = torch.zeros(cells, cells)
    source[x, y] = 1.0
    return source


def only_cell(values):
    (cell,) = values.nonzero().tolist()
    return tuple(cell)


def test_standing_still_warps_every_cell_to_itself():
    source = torch.arange(256.0).view(16, 16)
    assert torch.equal(warped(source, (0.0, 0.0, 0.0)), source)


def test_driving_forward_brings_what_is_ahead_nearer_along_the_first_axis():
    assert only_cell(warped(marked(10, 5), (3.0, 0.0, 0.0))) == (7, 5)


def test_moving_left_brings_what_is_on_the_left_nearer_along_the_second_axis():
    assert only_cell(warped(marked(10, 5), (0.0, -2.0, 0.0))) == (10, 7)


def test_after_a_left_turn_what_was_on_the_left_is_ahead():
    left_of_centre = marked(8, 13)
    assert only_cell(warped(left_of_centre, (0.0, 0.0, np.pi / 2))) == (13, 7)


@given(POSES, st.integers(0, 31), st.integers(0, 31))
def test_every_cell_looks_where_its_centre_lies_in_the_source(pose, x, y):
    grid = sampling_grid(torch.from_numpy(pose)[None], 32, 16.0, 25.6)
    centre = np.array([[x + 0.5 - 16.0, y + 0.5 - 16.0, 0.0]])
    expected = transform_points(matrix(pose), centre)[0]
    assert np.allclose(grid[0, x, y], expected[[1, 0]] / 25.6, atol=1e-4)


def test_planes_lie_flat_and_come_back(build_planes):
    planes, more = build_planes(1), build_planes(3, seed=1)
    assert planes.flat().shape == (1, sum(plane.numel() for plane in planes))
    for plane, back in zip(more, planes.shaped(more.flat()), strict=True):
        assert torch.equal(plane, back)
