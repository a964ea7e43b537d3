"""The scene folder: what is in it, that the same scene gives the same bytes, and that it is whole or absent."""

import hashlib
import json
import os
import subprocess
import sys

import jsonschema
import numpy as np
import pyarrow
import pytest

import dyncity_sim
from dyncity_sim.domain.conditions import Command, SamplingOptions
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.scene import Provenance
from dyncity_sim.domain.taxonomy import CARLASC, CARLASC_RAW
from dyncity_sim.errors import InvalidInputError, StorageError
from dyncity_sim.scene.build import build_scene
from dyncity_sim.scene.package.write import json_schema, write_scene

PROVENANCE = Provenance(
    "anchored-1234",
    (7, 8),
    "Map data (c) somebody",
    "carlasc",
    conditions=(("plan", "command"), ("continuation", "plan")),
    commands=(Command.LEFT, None),
    options=SamplingOptions(steps=8, guidance_scales={"layout": 2.0}),
)
FILES = {
    "scene.json",
    "map.xodr",
    "scene.xosc",
    "scene-1.2.xosc",
    "static.glb",
    "static.npz",
    "tracks.parquet",
    "ego.parquet",
    "provenance.json",
}


@pytest.fixture(scope="module")
def scene(build_street, street_actor):
    actors = [
        street_actor(8, -1.7, 0, 9),
        street_actor(25, 2, np.pi, 7),
        street_actor(6, 6.5, 0.5, 1.3, size_m=(0.5, 0.5, 1.75), label=4),
        street_actor(4, -3.2, 0, 8, size_m=(1.7, 0.6, 1.75), rider_label=4),
    ]
    return build_scene(build_street(frames=20, actors=actors))


def test_the_folder_holds_nine_files_and_the_manifest_names_their_hashes(scene, tmp_path):
    write_scene(scene, tmp_path / "scene", PROVENANCE)
    assert {f.name for f in (tmp_path / "scene").iterdir()} == FILES
    manifest = json.loads((tmp_path / "scene" / "scene.json").read_text())
    for name, entry in manifest["files"].items():
        content = (tmp_path / "scene" / name).read_bytes()
        assert entry == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    assert set(manifest["files"]) == FILES - {"scene.json"}


def test_provenance_says_who_made_each_chunk_from_what(scene, tmp_path):
    write_scene(scene, tmp_path / "scene", PROVENANCE)
    said = json.loads((tmp_path / "scene" / "provenance.json").read_text())
    assert said["model_id"] == "anchored-1234"
    assert said["chunks"] == [
        {"seed": 7, "conditions": ["plan", "command"], "command": "left"},
        {"seed": 8, "conditions": ["continuation", "plan"], "command": None},
    ]
    assert said["sampling"] == {
        "steps": 8,
        "guidance_scale": None,
        "sampler": None,
        "guidance_scales": {"layout": 2.0},
        "resamples": None,
    }
    assert said["attribution"] == "Map data (c) somebody"
    assert said["classes"] == list(CARLASC.names)
    assert said["versions"]["dyncity-sim"] == dyncity_sim.__version__
    assert said["versions"]["pyarrow"] == pyarrow.__version__


def test_what_is_not_known_of_a_scene_is_null(scene, tmp_path):
    write_scene(scene, tmp_path / "scene", Provenance("null-2", (1,), "", "carlasc"))
    said = json.loads((tmp_path / "scene" / "provenance.json").read_text())
    assert said["chunks"] == [{"seed": 1, "conditions": None, "command": None}]
    assert said["sampling"] is None


def test_conditions_of_another_number_of_chunks_are_refused():
    with pytest.raises(InvalidInputError, match="as there are seeds"):
        Provenance("null-2", (1, 2), "", "carlasc", conditions=(("plan",),))


@pytest.mark.parametrize("name", ["scene", "provenance"])
def test_the_schemas_are_json_schema_2020_12(name):
    schema = json_schema(name)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema.Draft202012Validator.check_schema(schema)


WRITE_AGAIN = """
import sys
from pathlib import Path
import numpy as np
from dyncity_sim.domain.grid import CARLASC_GRID
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.scene import Provenance
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.scene.build import build_scene
from dyncity_sim.scene.package.write import write_scene
with np.load(sys.argv[1]) as drive:
    occupancy = OccupancySequence(drive["labels"], drive["poses"], drive["times_us"], CARLASC_GRID, CARLASC)
write_scene(build_scene(occupancy), Path(sys.argv[2]), Provenance("null-2", (1,), "", "carlasc"))
"""


def test_two_processes_that_hash_differently_write_the_same_bytes(build_street, street_actor, tmp_path):
    street = build_street(frames=6, actors=[street_actor(8, -1.7, 0, 9), street_actor(25, 2, np.pi, 7)])
    np.savez(tmp_path / "drive.npz", labels=street.labels, poses=street.poses_world_from_ego, times_us=street.times_us)
    for seed in ("1", "2"):
        subprocess.run(
            [sys.executable, "-c", WRITE_AGAIN, tmp_path / "drive.npz", tmp_path / seed],
            env=os.environ | {"PYTHONHASHSEED": seed},
            check=True,
        )
    for file in FILES:
        assert (tmp_path / "1" / file).read_bytes() == (tmp_path / "2" / file).read_bytes(), file


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
