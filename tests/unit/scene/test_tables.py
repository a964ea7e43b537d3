"""Tracks as Parquet: they come back as they were, and say what their columns mean."""

import io
import sys

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays
from pyarrow import parquet
from scipy.spatial.transform import Rotation

from dyncity_sim.domain.recording import ActorKind
from dyncity_sim.domain.scene import Track
from dyncity_sim.errors import MissingExtraError
from dyncity_sim.scene.package.tables import TRACK_COLUMNS, read_columns, tracks_of, tracks_parquet


def numbers(low: float, high: float):
    return st.floats(low, high, allow_nan=False, allow_infinity=False)


@st.composite
def tracks(draw, number: int) -> Track:
    count = draw(st.integers(1, 6))
    poses = np.tile(np.eye(4), (count, 1, 1))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    poses[:, :3, :3] = Rotation.random(count, rng=generator).as_matrix()
    poses[:, :3, 3] = draw(arrays(np.float64, (count, 3), elements=numbers(-1e5, 1e5)))
    steps_us = draw(st.lists(st.integers(1, 10**7), min_size=count, max_size=count))
    return Track(
        id=number,
        kind=draw(st.sampled_from(ActorKind)),
        size_m=(draw(numbers(0.1, 20)), draw(numbers(0.1, 5)), draw(numbers(0.1, 5))),
        poses_world_from_actor=poses,
        times_us=draw(st.integers(-(2**40), 2**40)) + np.cumsum(steps_us),
        velocities_world_mps=draw(arrays(np.float64, (count, 3), elements=numbers(-70, 70))),
        kind_confidence=draw(numbers(1e-3, 1)),
    )


@st.composite
def scenes_tracks(draw) -> tuple[Track, ...]:
    ids = draw(st.lists(st.integers(1, 2**40), max_size=4, unique=True))
    return tuple(draw(tracks(number)) for number in sorted(ids))


@given(scenes_tracks())
@settings(max_examples=40)
def test_tracks_come_back_as_they_were(tmp_path_factory, written):
    file = tmp_path_factory.mktemp("tracks") / "tracks.parquet"
    file.write_bytes(tracks_parquet(written))
    read = tracks_of(read_columns(file, TRACK_COLUMNS))
    assert [(t.id, t.kind, t.size_m, t.kind_confidence) for t in read] == [
        (t.id, t.kind, t.size_m, t.kind_confidence) for t in written
    ]
    for back, track in zip(read, written, strict=True):
        np.testing.assert_array_equal(back.times_us, track.times_us)
        np.testing.assert_array_equal(back.velocities_world_mps, track.velocities_world_mps)
        np.testing.assert_array_equal(back.poses_world_from_actor[:, :3, 3], track.poses_world_from_actor[:, :3, 3])
        np.testing.assert_allclose(back.poses_world_from_actor, track.poses_world_from_actor, rtol=0, atol=1e-12)


@pytest.fixture
def two() -> tuple[Track, Track]:
    poses = np.tile(np.eye(4), (3, 1, 1))
    return tuple(
        Track(n, ActorKind.VAN, (5.0, 2.0, 2.2), poses, np.arange(3) * 100_000, np.zeros((3, 3)), 0.75) for n in (9, 4)
    )


def test_rows_are_sorted_by_id_and_time_in_whatever_order_tracks_come(two):
    table = parquet.read_table(io.BytesIO(tracks_parquet(two)))
    assert table["id"].to_pylist() == [4, 4, 4, 9, 9, 9]
    assert table["time_us"].to_pylist() == [0, 100_000, 200_000] * 2
    assert tracks_parquet(two) == tracks_parquet(two[::-1])


def test_the_file_says_units_and_frames_of_every_column(two):
    schema = parquet.read_schema(io.BytesIO(tracks_parquet(two)))
    units = {field.name: field.metadata[b"unit"].decode() for field in schema}
    for name, unit in units.items():
        suffix = {"_us": "us", "_mps": "m/s", "_m": "m"}.get(
            next((s for s in ("_us", "_mps", "_m") if name.endswith(s)), "")
        )
        assert unit == (suffix or "1")
        assert schema.field(name).metadata[b"meaning"]
    assert b"right-handed, metres, x east, y north, z up" in schema.metadata[b"dyncity"]


def test_without_pyarrow_the_error_says_what_to_install(two, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"pyarrow.*'\.\[scene\]"):
        tracks_parquet(two)


def test_a_file_with_other_columns_is_refused(two, tmp_path):
    table = parquet.read_table(io.BytesIO(tracks_parquet(two)))
    parquet.write_table(table.drop_columns(["height_m"]), tmp_path / "tracks.parquet")
    with pytest.raises(ValueError, match="height_m"):
        read_columns(tmp_path / "tracks.parquet", TRACK_COLUMNS)
