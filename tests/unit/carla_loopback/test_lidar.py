import numpy as np
import pytest
from dyncity_carla.loopback.geometry import matrix_from_row
from dyncity_carla.loopback.lidar import Boxes, LidarModel, cast
from hypothesis import assume, given, settings
from hypothesis import strategies as st

ELEVATIONS = np.linspace(10.0, -40.0, 24)
AZIMUTHS = np.arange(90) * 4.0 - 180.0
ROAD, CAR = 1, 14


def flat_ground(places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros(len(places)), np.full(len(places), ROAD, np.uint8)


def boxes(*rows_and_extents: tuple[list[float], list[float]]) -> Boxes:
    poses = [matrix_from_row(np.array(row, dtype=float)) for row, _ in rows_and_extents]
    count = len(poses)
    return Boxes(
        np.array([pose[:3, 3] for pose in poses]).reshape(-1, 3),
        np.array([pose[:3, :3] for pose in poses]).reshape(-1, 3, 3),
        np.array([extent for _, extent in rows_and_extents], dtype=float).reshape(-1, 3),
        np.full(count, CAR, np.uint8),
        np.arange(1, count + 1, dtype=np.uint32),
    )


def sensor(*row: float) -> np.ndarray:
    return matrix_from_row(np.array(row, dtype=float))


def test_a_car_ahead_to_the_right_is_hit_ahead_to_the_right():
    hits = cast(
        sensor(0, 0, 2, 0, 0, 0), ELEVATIONS, AZIMUTHS, 50.0, boxes(([10, 5, 1, 0, 0, 0], [2, 1, 1])), flat_ground
    )
    of_car = hits.points[hits.ids == 1]
    assert len(of_car) > 5
    assert (of_car[:, 0] > 7.9).all()
    assert (of_car[:, 1] > 3.9).all()


def test_the_nearer_of_two_boxes_hides_the_farther():
    two = boxes(([10, 0, 2, 0, 0, 0], [1, 1, 1]), ([20, 0, 2, 0, 0, 0], [1, 1, 1]))
    hits = cast(sensor(0, 0, 2, 0, 0, 0), ELEVATIONS, AZIMUTHS, 50.0, two, flat_ground)
    assert 1 in hits.ids
    assert 2 not in hits.ids


def test_a_box_around_the_sensor_is_looked_through():
    hits = cast(
        sensor(0, 0, 2, 0, 0, 0), ELEVATIONS, AZIMUTHS, 50.0, boxes(([0, 0, 2, 0, 0, 0], [2, 1, 1])), flat_ground
    )
    assert set(hits.ids.tolist()) == {0}


def test_the_ground_is_hit_at_its_height_and_within_range():
    hits = cast(sensor(3, 4, 1.8, 0, 30, 0), ELEVATIONS, AZIMUTHS, 12.0, boxes(), flat_ground)
    assert hits.points[:, 2] == pytest.approx(-1.8)
    assert np.linalg.norm(hits.points, axis=1).max() <= 12.0
    assert set(hits.tags.tolist()) == {ROAD}
    assert hits.counts.sum() == len(hits.points)
    assert hits.counts[:5].sum() == 0
    assert hits.cosines == pytest.approx(1.8 / np.linalg.norm(hits.points, axis=1))


def test_a_slope_is_followed():
    def slope(places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return 0.1 * places[:, 0], np.full(len(places), ROAD, np.uint8)

    hits = cast(sensor(0, 0, 2, 0, 0, 0), np.array([-20.0]), np.array([0.0, 180.0]), 50.0, boxes(), slope)
    ahead, behind = hits.points
    assert ahead[2] + 2 == pytest.approx(0.1 * ahead[0], abs=0.02)
    assert behind[2] + 2 == pytest.approx(0.1 * behind[0], abs=0.02)


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(
            st.tuples(
                st.floats(-30, 30), st.floats(-30, 30), st.floats(0, 4), st.floats(-20, 20), st.floats(-180, 180)
            ),
            st.tuples(st.floats(0.1, 5), st.floats(0.1, 5), st.floats(0.1, 3)),
        ),
        min_size=1,
        max_size=6,
    ),
    st.tuples(st.floats(-10, 10), st.floats(-10, 10), st.floats(1, 3)),
    st.tuples(st.floats(-30, 30), st.floats(-180, 180), st.floats(-30, 30)),
)
def test_every_ray_hits_what_a_search_over_all_boxes_finds(drawn, place, turn):
    solid = boxes(*(([*row, 0.0], list(extent)) for row, extent in drawn))
    pose = sensor(*place, *turn)
    hits = cast(pose, ELEVATIONS, AZIMUTHS, 60.0, solid, lambda p: (np.full(len(p), -1e6), np.ones(len(p), np.uint8)))
    up, around = np.meshgrid(np.radians(ELEVATIONS), np.radians(AZIMUTHS), indexing="ij")
    rays = np.stack([np.cos(up) * np.cos(around), np.cos(up) * np.sin(around), np.sin(up)], -1).reshape(-1, 3)
    nearest = np.full(len(rays), np.inf)
    for centre, rotation, extent in zip(solid.centres, solid.rotations, solid.extents, strict=True):
        start = rotation.T @ (pose[:3, 3] - centre)
        # Of a sensor in the plane of a side, rounding decides on which side it is.
        assume((np.abs(np.abs(start) - extent) > 1e-6).all())
        aims = rays @ pose[:3, :3].T @ rotation
        with np.errstate(divide="ignore", invalid="ignore"):
            sides = np.sort(np.stack([(-extent - start) / aims, (extent - start) / aims]), axis=0)
        enters, leaves = sides[0].max(axis=1), sides[1].min(axis=1)
        nearest = np.minimum(nearest, np.where((enters <= leaves) & (enters > 0), enters, np.inf))
    found = np.sort(np.linalg.norm(hits.points, axis=1))
    expected = np.sort(nearest[nearest < 60.0])
    assert len(found) == pytest.approx(len(expected), abs=2), "a grazing ray may fall to either side"
    if len(found) == len(expected):
        assert found == pytest.approx(expected, abs=1e-6)


@given(st.integers(1, 64), st.floats(0.01, 0.2), st.floats(5, 20))
def test_a_turn_is_swept_once_in_each_period(channels: int, delta_s: float, rotation_hz: float):
    model = LidarModel(channels, 50.0, 100_000, rotation_hz, 10.0, -30.0, 360.0)
    azimuths, after = model.sweep(0.0, delta_s)
    assert len(azimuths) == round(100_000 * delta_s / channels)
    assert ((azimuths >= -180.0) & (azimuths < 180.0)).all()
    assert after == pytest.approx((rotation_hz * 360.0 * delta_s) % 360.0, abs=1e-6)


def test_channels_go_from_the_upper_angle_down_to_the_lower():
    model = LidarModel(5, 50.0, 100_000, 10.0, 10.0, -30.0, 360.0)
    assert model.elevations_deg().tolist() == [10.0, 0.0, -10.0, -20.0, -30.0]
