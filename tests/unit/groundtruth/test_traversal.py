"""Rays through voxels, against exact rational arithmetic and against small steps."""

from fractions import Fraction

import numpy as np
import pytest

from dyncity_sim.groundtruth.sensors.traversal import first_hits, trace


def exact_first_hit(labels, origin, direction):
    """First occupied cell by visiting all border crossings in order of their exact distances."""
    start = [Fraction(float(o)) for o in origin]
    crossings = []
    for axis in range(3):
        slope = Fraction(float(direction[axis]))
        if slope == 0:
            continue
        step = 1 if slope > 0 else -1
        border = int(np.floor(origin[axis])) + (1 if step > 0 else 0)
        borders = range(border, border + step * (labels.shape[axis] + 2), step)
        crossings.extend(((b - start[axis]) / slope, axis, step) for b in borders)
    cell = [int(np.floor(o)) for o in origin]
    entered = Fraction(0)
    for distance, axis, step in [*sorted(crossings), (None, 0, 0)]:
        if not all(0 <= c < n for c, n in zip(cell, labels.shape, strict=True)):
            return None, None
        if labels[tuple(cell)]:
            return tuple(cell), float(entered)
        cell[axis] += step
        entered = distance
    return None, None


def random_case(seed):
    """A grid, an origin (on cell borders in a third of the cases) and four rays, the first along an axis."""
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 12, size=3))
    labels = (rng.random(shape) < rng.choice([0.02, 0.1, 0.3])).astype(np.uint8)
    origin = rng.random(3) * shape
    directions = rng.normal(size=(4, 3))
    directions[0] = np.eye(3)[rng.integers(3)] * rng.choice([-1, 1])
    return labels, np.floor(origin) if seed % 3 == 0 else origin, directions


def cast(labels, origin, directions, *masks, reach=np.inf):
    return trace(labels, np.tile(origin, (len(directions), 1)), directions, np.full(len(directions), reach), *masks)


def test_the_first_hit_is_that_of_exact_arithmetic_in_a_thousand_grids():
    hits = 0
    for seed in range(1000):
        labels, origin, directions = random_case(seed)
        cells, distances, _ = first_hits(labels, origin, directions)
        for cell, distance, direction in zip(cells, distances, directions, strict=True):
            expected, expected_distance = exact_first_hit(labels, origin, direction)
            if expected is None:
                assert cell == -1
                assert distance == np.inf
            else:
                hits += 1
                assert np.unravel_index(cell, labels.shape) == expected
                assert distance == pytest.approx(expected_distance, rel=1e-12)
    assert hits > 1000


def test_cells_that_are_seen_are_those_up_to_the_hit():
    for seed in range(1, 200, 3):
        labels, origin, directions = random_case(seed)
        for direction in directions:
            seen = np.zeros(labels.shape, dtype=np.bool_)
            cells, distances, _ = cast(labels, origin, direction[None], seen)
            steps = np.arange(0, min(distances[0], 40) + 1e-9, 1e-3)
            walked = np.floor(origin + steps[:, None] * direction).astype(int)
            walked = walked[((walked >= 0) & (walked < labels.shape)).all(axis=1)]
            assert seen[tuple(walked[: len(walked) - 1].T)].all()
            occupied = np.flatnonzero(seen & (labels > 0))
            assert occupied.tolist() == ([cells[0]] if cells[0] >= 0 else [])


def test_rays_that_cross_an_instance_are_counted_once_each_whatever_stands_before():
    labels = np.zeros((12, 3, 3), dtype=np.uint8)
    instances = np.zeros(labels.shape, dtype=np.uint16)
    labels[4], labels[8:10] = 1, 2
    instances[8:10] = 7
    crossed = np.zeros(8, dtype=np.int64)
    directions = np.array([[1.0, 0, 0], [1.0, 0.01, 0], [-1.0, 0, 0]])
    cells, *_ = cast(labels, np.array([1.5, 1.5, 1.5]), directions, None, instances, crossed)
    assert crossed.tolist() == [0] * 7 + [2]
    assert (np.unravel_index(cells[:2], labels.shape)[0] == 4).all()


def test_nothing_is_hit_or_seen_beyond_reach():
    labels = np.zeros((12, 3, 3), dtype=np.uint8)
    labels[9] = 1
    seen = np.zeros(labels.shape, dtype=np.bool_)
    origin, ahead = np.array([0.5, 1.5, 1.5]), np.array([[1.0, 0, 0]])
    assert cast(labels, origin, ahead, seen, reach=8.4)[0].tolist() == [-1]
    assert np.flatnonzero(seen.any(axis=(1, 2))).tolist() == list(range(9))
    assert cast(labels, origin, ahead, reach=8.5)[1].tolist() == [8.5]


def test_a_ray_from_outside_the_grid_hits_nothing():
    assert cast(np.ones((4, 4, 4), dtype=np.uint8), np.array([-1.0, 2, 2]), np.array([[1.0, 0, 0]]))[0].tolist() == [-1]
