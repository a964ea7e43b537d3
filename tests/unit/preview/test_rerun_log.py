"""Claims about recordings of Rerun, read back by its own reader."""

import resource
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dyncity_sim.domain.frames import poses_from_planar
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.recording import ActorKind
from dyncity_sim.domain.scene import Track
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.errors import InvalidInputError, MissingExtraError, StorageError
from dyncity_sim.preview.pack import PointCloud
from dyncity_sim.preview.rerun_log import write_drive_rerun, write_scene_rerun
from dyncity_sim.scene.build import build_scene
from dyncity_sim.scene.surfaces.quads import surfaces


@pytest.fixture(scope="module")
def street(build_street: Callable[..., Any], street_actor: Any) -> OccupancySequence:
    return build_street(frames=3, actors=[street_actor(12.0, 2.0, speed_mps=5.0)])


@pytest.fixture(scope="module")
def track(street: OccupancySequence) -> Track:
    poses = poses_from_planar(np.array([[12.5, 2.0, 0.3]]), 0.75)
    return Track(7, ActorKind.CAR, (4.5, 1.8, 1.5), poses, street.times_us[1:2], np.zeros((1, 3)))


def columns(file: Path, entity: str) -> dict[str, list[Any]]:
    """Values of each component of an entity by row, in the order of frames."""
    rr = pytest.importorskip("rerun")
    rows: list[dict[str, Any]] = []
    for chunk in rr.chunk.RrdReader(file).stream():
        if chunk.entity_path == entity:
            batch = chunk.to_record_batch()
            rows += batch.drop_columns([name for name in ("log_time",) if name in batch.schema.names]).to_pylist()
    rows.sort(key=lambda row: row.get("frame") or 0)
    names = {name.split(":")[-1]: name for row in rows for name in row}
    return {short: [row.get(name) for row in rows] for short, name in names.items()}


def test_a_drive_reads_back_cell_by_cell_and_point_by_point(
    street: OccupancySequence, track: Track, tmp_path: Path
) -> None:
    clouds = [PointCloud(np.full((n, 3), n, np.float32), np.full(n, n, np.uint8)) for n in (1, 2, 3)]
    file = tmp_path / "d.rrd"
    assert list(write_drive_rerun(file, "d", street, tracks=[track], clouds=clouds)) == [1, 2, 3]
    voxels = columns(file, "/world/ego/voxels")
    assert voxels["frame"] == [0, 1, 2]
    assert [time.total_seconds() for time in voxels["time"]] == [0.0, 0.1, 0.2]
    for labels, centres, classes in zip(street.labels, voxels["centers"], voxels["class_ids"], strict=True):
        cells = street.grid.indices(np.array(centres))
        np.testing.assert_array_equal(labels[tuple(cells.T)], classes)
        assert (np.array(classes) == CARLASC.index("vehicle")).sum() > 20
    points = columns(file, "/world/ego/lidar")
    assert points["positions"] == [[[float(n)] * 3] * n for n in (1, 2, 3)]
    assert points["class_ids"] == [[1], [2, 2], [3, 3, 3]]
    poses = columns(file, "/world/ego")
    np.testing.assert_allclose(np.array(poses["translation"])[:, 0], street.poses_world_from_ego[:, :3, 3], atol=1e-6)


def test_a_box_stands_at_the_frame_of_its_time_and_at_no_other(
    street: OccupancySequence, track: Track, tmp_path: Path
) -> None:
    list(write_drive_rerun(tmp_path / "d.rrd", "d", street, tracks=[track]))
    boxes = columns(tmp_path / "d.rrd", "/world/tracks")
    assert [len(labels) for labels in boxes["labels"]] == [0, 1, 0]
    assert boxes["labels"][1] == ["car 7"]
    np.testing.assert_allclose(boxes["half_sizes"][1], [[2.25, 0.9, 0.75]])
    np.testing.assert_allclose(boxes["centers"][1], [[12.5, 2.0, 0.75]])
    np.testing.assert_allclose(boxes["quaternions"][1], [[0, 0, np.sin(0.15), np.cos(0.15)]], atol=1e-6)


def test_what_was_recorded_stands_beside_what_was_generated(street: OccupancySequence, tmp_path: Path) -> None:
    list(write_drive_rerun(tmp_path / "d.rrd", "d", street, street))
    own, other = (columns(tmp_path / "d.rrd", f"/world/ego/{name}") for name in ("voxels", "simulator"))
    apart = np.array(own["centers"][0]) - np.array(other["centers"][0])
    np.testing.assert_allclose(apart, np.tile([0.0, 56.32, 0.0], (len(apart), 1)), atol=1e-4)


def test_a_scene_reads_back_with_surfaces_lanes_and_path(
    street: OccupancySequence, track: Track, tmp_path: Path
) -> None:
    scene = build_scene(street, tracks=(track,))
    assert len(list(write_scene_rerun(tmp_path / "s.rrd", "s", scene))) == 3
    road = columns(tmp_path / "s.rrd", "/world/static/road")
    corners = np.array(road["vertex_positions"][0])
    assert np.abs(corners[:, 1]).max() < 6
    assert len(columns(tmp_path / "s.rrd", "/world/lanes")["strips"][0]) >= 3
    assert len(columns(tmp_path / "s.rrd", "/world/path")["strips"][0][0]) == 3


FAR_M = np.array([5_000_000.25, -1_000_000.5, 0.0])


def test_a_world_far_from_its_origin_is_as_exact_as_any(
    street: OccupancySequence, track: Track, tmp_path: Path
) -> None:
    poses = street.poses_world_from_ego.copy()
    poses[:, :3, 3] += FAR_M
    boxes = track.poses_world_from_actor.copy()
    boxes[:, :3, 3] += FAR_M
    far = replace(street, poses_world_from_ego=poses)
    scene = build_scene(far, tracks=(replace(track, poses_world_from_actor=boxes),))
    list(write_scene_rerun(tmp_path / "s.rrd", "s", scene))
    list(write_drive_rerun(tmp_path / "d.rrd", "d", far, tracks=scene.tracks))
    for file in (tmp_path / "s.rrd", tmp_path / "d.rrd"):
        assert FAR_M.tolist() in columns(file, "/world")["origin_world_m"]
        assert columns(file, "/world/tracks")["centers"][1] == [[12.5, 2.0, 0.75]]
        np.testing.assert_allclose(
            np.array(columns(file, "/world/ego")["translation"])[:, 0], street.poses_world_from_ego[:, :3, 3], atol=1e-6
        )
    corners = np.array(columns(tmp_path / "s.rrd", "/world/static/road")["vertex_positions"][0])
    truth = next(s for s in surfaces(scene.static_map) if s.label == CARLASC.index("road")).vertices_world_m - FAR_M
    np.testing.assert_allclose(corners, truth, atol=1e-5)
    middle = np.array(columns(tmp_path / "s.rrd", "/world/lanes")["strips"][0][0])
    assert np.abs(middle[:, 1]).max() < 10


def test_nothing_is_left_when_points_do_not_match_or_the_package_is_missing(
    street: OccupancySequence, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud = PointCloud(np.zeros((1, 3), np.float32), np.ones(1, np.uint8))
    with pytest.raises(InvalidInputError, match="clouds"):
        list(write_drive_rerun(tmp_path / "d.rrd", "d", street, clouds=[cloud]))
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match=r"file/d\.rrd could not be written"):
        list(write_drive_rerun(tmp_path / "file" / "d.rrd", "d", street))
    (tmp_path / "file").unlink()
    with pytest.raises(StorageError, match="could not be written"):
        list(write_drive_rerun(tmp_path / f"{'d' * 250}.rrd", "d", street))
    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(MissingExtraError, match=r"'\.\[rerun\]"):
        list(write_drive_rerun(tmp_path / "d.rrd", "d", street))
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_an_error_and_leaves_nothing(street: OccupancySequence, tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(StorageError, match=r"d\.rrd could not be written: File too large"):
            list(write_drive_rerun(tmp_path / "d.rrd", "d", street))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())
