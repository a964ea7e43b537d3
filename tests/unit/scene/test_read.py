"""A scene package comes back as it was written."""

import numpy as np
import pytest

from dyncity_sim.domain.scene import Provenance
from dyncity_sim.errors import InvalidInputError
from dyncity_sim.scene.build import build_scene
from dyncity_sim.scene.package.read import read_scene
from dyncity_sim.scene.package.write import write_scene


@pytest.fixture
def scene(build_street, street_actor):
    return build_scene(build_street(actors=[street_actor(10.0, 3.5, np.pi, 5.0), street_actor(14.0, -1.0, 0.0, 7.0)]))


@pytest.fixture
def folder(scene, tmp_path):
    write_scene(scene, tmp_path / "scene", Provenance("null-2", (1,), "", "carlasc"))
    return tmp_path / "scene"


def test_everything_comes_back(scene, folder):
    read = read_scene(folder)
    assert read.opendrive == scene.opendrive
    np.testing.assert_array_equal(read.times_us, scene.times_us)
    np.testing.assert_allclose(read.ego_poses_world_from_ego, scene.ego_poses_world_from_ego, atol=1e-12)
    np.testing.assert_array_equal(read.static_map.labels, scene.static_map.labels)
    assert read.static_map.origin_world_m == scene.static_map.origin_world_m
    assert read.static_map.voxel_size_m == scene.static_map.voxel_size_m
    assert len(read.tracks) == len(scene.tracks) == 2
    for back, track in zip(read.tracks, scene.tracks, strict=True):
        assert (back.id, back.kind, back.kind_confidence) == (track.id, track.kind, track.kind_confidence)
        assert back.size_m == track.size_m
        np.testing.assert_array_equal(back.times_us, track.times_us)
        np.testing.assert_allclose(back.poses_world_from_actor, track.poses_world_from_actor, atol=1e-12)
        np.testing.assert_array_equal(back.velocities_world_mps, track.velocities_world_mps)


def test_a_folder_without_a_scene_is_refused(tmp_path):
    with pytest.raises(InvalidInputError, match=r"scene\.json"):
        read_scene(tmp_path)


NO_FILE_OF_ARRAYS = r"static\.npz: got .*, expected a whole \.npz file"
MESSAGES = {"tracks.parquet": "whole scene", "ego.parquet": "whole scene", "static.npz": NO_FILE_OF_ARRAYS}


@pytest.mark.parametrize(("name", "message"), [*MESSAGES.items(), ("map.xodr", "whole scene")])
def test_a_scene_that_lost_a_file_is_refused(folder, name, message):
    (folder / name).unlink()
    with pytest.raises(InvalidInputError, match=message):
        read_scene(folder)


@pytest.mark.parametrize(("name", "message"), MESSAGES.items())
def test_a_damaged_scene_is_refused(folder, name, message):
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(InvalidInputError, match=message):
        read_scene(folder)


@pytest.mark.parametrize("version", ["1", "99"])
def test_a_scene_of_another_version_is_refused_with_what_to_do(folder, version):
    manifest = folder / "scene.json"
    manifest.write_text(manifest.read_text().replace('"version": 2', f'"version": {version}'))
    with pytest.raises(InvalidInputError, match=rf"version {version}, .*made again of their drive"):
        read_scene(folder)
