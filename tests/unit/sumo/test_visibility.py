"""Claims about the emulated LiDARs: what they count, what stops them, and that leaping changes nothing."""

import numpy as np
from dyncity_sumo.visibility import FREE_STEP_M, SensorRig, count_samples, draw_rig

from dyncity_sim.domain.grid import CARLASC_GRID

GROUND, WALL = 7, 1


def flat_road() -> np.ndarray:
    labels = np.zeros(CARLASC_GRID.shape, np.uint8)
    labels[:, :, 0] = GROUND
    return labels


def cluttered(rng: np.random.Generator) -> np.ndarray:
    labels = flat_road()
    for _ in range(25):
        x, y = rng.integers(0, 120, 2)
        low, high = np.sort(rng.integers(0, 9, 2))
        labels[x : x + rng.integers(1, 8), y : y + rng.integers(1, 8), low:high] = WALL
    labels[60:68, 60:68, 1:] = 0
    return labels


def marched(labels: np.ndarray, start_m: np.ndarray, direction: np.ndarray) -> tuple[int, int, int] | None:
    """The first occupied cell along a ray by walking it in steps of 2 mm, or None when it leaves without one."""
    cells = CARLASC_GRID.indices(start_m + np.arange(0, 60, 0.002)[:, None] * direction)
    inside = cells[np.cumprod(CARLASC_GRID.contains(cells)).astype(bool)]
    met = np.flatnonzero(labels[tuple(inside.T)])
    if len(met) == 0:
        return None
    x, y, z = inside[met[0]]
    return int(x), int(y), int(z)


def test_a_ray_ends_where_a_slow_march_ends() -> None:
    rng = np.random.default_rng(5)
    labels = cluttered(rng)
    hits = 0
    for _ in range(60):
        azimuth, elevation = rng.uniform(-np.pi, np.pi), rng.uniform(-0.3, 0.05)
        level = np.cos(elevation)
        direction = np.array([level * np.cos(azimuth), level * np.sin(azimuth), np.sin(elevation)])
        start_m = np.array([0.137, -0.093, 0.051])
        counts = count_samples(labels, SensorRig(start_m[None], direction[None, None]), CARLASC_GRID)
        met = np.argwhere((counts > 0) & (labels > 0))
        expected = marched(labels, start_m, direction)
        assert len(met) == (expected is not None)
        if expected is not None:
            hits += 1
            assert tuple(met[0]) == expected
    assert hits > 30


def test_free_samples_lie_every_step_before_the_return() -> None:
    labels = flat_road()
    labels[100:, :, 1:] = WALL
    rig = SensorRig(np.zeros((1, 3)), np.array([[[1.0, 0.0, 0.0]]]))
    counts = count_samples(labels, rig, CARLASC_GRID)
    wall_m = (100 - 64) * 0.4
    assert counts[100, 64, 5] == 1
    assert counts[labels == 0].sum() == np.ceil(wall_m / FREE_STEP_M) - 1
    assert counts.sum() == np.ceil(wall_m / FREE_STEP_M)


def test_nothing_is_seen_behind_a_wall_that_reaches_the_ceiling() -> None:
    labels = flat_road()
    labels[90, :, 1:] = WALL
    rig = draw_rig(np.random.default_rng(0))
    near = rig.positions_m[:, 0] < (90 - 64) * 0.4
    counts = count_samples(labels, SensorRig(rig.positions_m[near], rig.directions[near]), CARLASC_GRID)
    assert counts[91:].sum() == 0
    assert counts[90, :, 1:].sum() > 0


def test_the_inside_of_a_block_and_its_roof_are_never_seen() -> None:
    labels = flat_road()
    labels[80:100, 80:100, 1:] = WALL
    counts = count_samples(labels, draw_rig(np.random.default_rng(1)), CARLASC_GRID)
    assert counts[81:99, 81:99].sum() == 0
    assert counts[80, 80:100, 1:].sum() > 0


def test_a_sensor_inside_of_something_solid_sees_nothing() -> None:
    labels = flat_road()
    labels[:, :, 1:] = WALL
    assert count_samples(labels, draw_rig(np.random.default_rng(2)), CARLASC_GRID).sum() == 0


def test_most_of_an_open_road_is_seen() -> None:
    counts = count_samples(flat_road(), draw_rig(np.random.default_rng(3)), CARLASC_GRID)
    near = counts[24:104, 24:104, 0] > 0
    assert near.mean() > 0.75
    assert counts.dtype == np.float32


def test_a_seed_decides_the_rig() -> None:
    first, again, other = (draw_rig(np.random.default_rng(seed)) for seed in (7, 7, 8))
    assert first.directions.tobytes() == again.directions.tobytes()
    assert first.positions_m.shape != other.positions_m.shape or not np.array_equal(
        first.positions_m, other.positions_m
    )


def test_the_first_sensor_is_the_egos_own_and_the_others_stand_where_carlasc_puts_them() -> None:
    for seed in range(20):
        positions_m = draw_rig(np.random.default_rng(seed)).positions_m
        assert 10 <= len(positions_m) <= 20
        assert not positions_m[0].any()
        assert np.abs(positions_m[1:, :2]).max() <= 20
        assert positions_m[1:, 2].min() >= 1.0 - 1.8
        assert positions_m[1:, 2].max() <= 5.0 - 1.8
