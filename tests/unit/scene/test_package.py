"""The scene folder: what is in it, that it validates, and that it is whole or absent."""

import hashlib
import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import schemas
import xmlschema

from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.scene import Provenance
from dyncity_sim.domain.taxonomy import CARLASC_RAW
from dyncity_sim.errors import InvalidInputError, StorageError
from dyncity_sim.scene.build import build_scene
from dyncity_sim.scene.live import LiveTracks
from dyncity_sim.scene.openscenario import openscenario_document
from dyncity_sim.scene.package import write_scene

PROVENANCE = Provenance("anchored-1234", (7, 8), "Map data (c) somebody", "carlasc")
FILES = {"map.xodr", "scene.xosc", "static.glb", "static.npz", "tracks.json", "scene.json", "provenance.json"}


@pytest.fixture(scope="module")
def scene(build_street, street_actor):
    actors = [
        street_actor(8, -1.7, 0, 9),
        street_actor(25, 2, np.pi, 7),
        street_actor(6, 6.5, 0.5, 1.3, size_m=(0.5, 0.5, 1.75), label=4),
        street_actor(4, -3.2, 0, 8, size_m=(1.7, 0.6, 1.75), rider_label=4),
    ]
    return build_scene(build_street(frames=20, actors=actors))


@pytest.fixture(scope="module")
def openscenario_schema():
    return xmlschema.XMLSchema(str(Path(next(iter(schemas.__path__))) / "OpenSCENARIO_1_0.xsd"))


def test_the_scenario_is_valid_openscenario_1_0(scene, openscenario_schema):
    assert len(scene.tracks) == 4
    assert [e.reason for e in openscenario_schema.iter_errors(openscenario_document(scene))] == []


@pytest.mark.parametrize("arguments", [{"frames": 1, "ego_speed_mps": 0.0}, {"frames": 3, "empty": True}])
def test_a_scene_without_actors_or_motion_is_valid_openscenario_too(build_street, openscenario_schema, arguments):
    document = openscenario_document(build_scene(build_street(**arguments)))
    assert [e.reason for e in openscenario_schema.iter_errors(document)] == []


def test_a_scene_of_tracks_that_were_shown_is_valid_openscenario_however_short_they_are(
    build_street, street_actor, openscenario_schema
):
    briefly = street_actor(25, 2, np.pi, 7, absent=frozenset(range(32)) - {14, 15, 16})
    street = build_street(frames=32, actors=[street_actor(8, -1.7, 0, 9), briefly])
    live = LiveTracks()
    for first in (0, 16):
        live.add(street[first : first + 16])
    assert sorted(len(track) for track in live.tracks) == [1, 32]
    scene = build_scene(street, tracks=live.tracks)
    assert [e.reason for e in openscenario_schema.iter_errors(openscenario_document(scene))] == []


def test_trajectories_pass_through_the_tracks_at_their_times(scene):
    root = ElementTree.fromstring(openscenario_document(scene))
    for track in scene.tracks:
        (trajectory,) = root.findall(f".//Trajectory[@name='actor_{track.id}_trajectory']")
        rows = [
            [float(v.get("time")), *(float(v.find(".//WorldPosition").get(a)) for a in "xyz")]
            for v in trajectory.iter("Vertex")
        ]
        ground = track.poses_world_from_actor[:, :3, 3] - [0, 0, track.size_m[2] / 2]
        expected = np.column_stack([track.times_us * 1e-6, ground])
        np.testing.assert_allclose(rows, expected, atol=1e-4)


def test_the_folder_holds_seven_files_and_the_manifest_names_their_hashes(scene, tmp_path):
    write_scene(scene, tmp_path / "scene", PROVENANCE)
    assert {f.name for f in (tmp_path / "scene").iterdir()} == FILES
    manifest = json.loads((tmp_path / "scene" / "scene.json").read_text())
    for name, entry in manifest["files"].items():
        content = (tmp_path / "scene" / name).read_bytes()
        assert entry == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    assert set(manifest["files"]) == FILES - {"scene.json"}
    provenance = json.loads((tmp_path / "scene" / "provenance.json").read_text())
    assert provenance["model_id"] == "anchored-1234"
    assert provenance["seeds"] == [7, 8]
    assert provenance["attribution"] == "Map data (c) somebody"


def test_tracks_survive_the_file(scene, tmp_path):
    write_scene(scene, tmp_path / "scene", PROVENANCE)
    rows = json.loads((tmp_path / "scene" / "tracks.json").read_text())["tracks"]
    for row, track in zip(rows, scene.tracks, strict=True):
        assert row["id"] == track.id
        assert row["times_us"] == track.times_us.tolist()
        poses = np.array(row["poses_world_from_actor"])
        np.testing.assert_allclose(poses[:, :3], track.poses_world_from_actor[:, :3, 3], atol=1e-6)
        yaws = 2 * np.arctan2(poses[:, 6], poses[:, 3])
        np.testing.assert_allclose(np.cos(yaws), track.poses_world_from_actor[:, 0, 0], atol=1e-5)


def test_the_same_scene_gives_the_same_bytes(scene, build_street, street_actor, tmp_path):
    for name in ("a", "b"):
        write_scene(scene, tmp_path / name, PROVENANCE)
    for file in FILES:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_a_folder_with_something_in_it_is_left_alone(scene, tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(InvalidInputError, match="empty folder"):
        write_scene(scene, tmp_path, PROVENANCE)
    assert [f.name for f in tmp_path.iterdir()] == ["mine.txt"]


def test_nothing_is_left_behind_where_a_folder_cannot_be_written(scene, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError):
        write_scene(scene, tmp_path / "file" / "scene", PROVENANCE)
    assert [f.name for f in tmp_path.iterdir()] == ["file"]


def test_raw_classes_are_refused(build_street):
    drive = build_street(frames=1)
    raw = OccupancySequence(drive.labels, drive.poses_world_from_ego, drive.times_us, drive.grid, CARLASC_RAW)
    with pytest.raises(InvalidInputError, match="Merge raw classes first"):
        build_scene(raw)
