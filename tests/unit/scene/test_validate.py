"""Every check of a scene passes on a scene as it was written, and fails on the fault that it is there for."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from dyncity_sim.domain.conditions import Command
from dyncity_sim.domain.scene import Provenance
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.errors import InvalidInputError
from dyncity_sim.scene.build import build_scene
from dyncity_sim.scene.package import validate_documents
from dyncity_sim.scene.package.findings import Check, Outcome, judge
from dyncity_sim.scene.package.validate import is_valid, looks_at, validate_scene
from dyncity_sim.scene.package.write import write_scene


@pytest.fixture(scope="module")
def written(build_street, street_actor, tmp_path_factory) -> Path:
    actors = [
        street_actor(8, -1.7, 0, 9),
        street_actor(6, 6.5, 0.5, 1.3, size_m=(0.5, 0.5, 1.75), label=4),
        street_actor(30, -4, 0, 3, absent=frozenset({0, 1, 2})),
    ]
    scene = build_scene(build_street(frames=12, actors=actors))
    assert len(scene.tracks) == 3
    folder = tmp_path_factory.mktemp("scenes") / "scene"
    provenance = Provenance("null-2", (1,), "(c) somebody", "carlasc", (("plan",),), (Command.FORWARD,))
    write_scene(scene, folder, provenance)
    return folder


@pytest.fixture
def folder(written, tmp_path) -> Path:
    """A scene to spoil."""
    return Path(shutil.copytree(written, tmp_path / "scene"))


def failed(folder: Path) -> dict[str, str]:
    return {c.name: c.detail for c in validate_scene(folder) if c.outcome is Outcome.FAILED}


def one_check(folder: Path, name: str) -> Check:
    manifest = json.loads((folder / "scene.json").read_text())
    return judge(name, looks_at(folder, manifest)[name])


def test_a_scene_as_it_was_written_passes_every_check(written):
    checks = validate_scene(written)
    assert is_valid(checks)
    assert [c.name for c in checks if c.outcome is not Outcome.PASSED] == []
    assert len(checks) == 14


@pytest.mark.parametrize("arguments", [{"frames": 1, "ego_speed_mps": 0.0}, {"frames": 3, "empty": True}])
def test_a_scene_of_next_to_nothing_is_valid(build_street, tmp_path, arguments):
    write_scene(build_scene(build_street(**arguments)), tmp_path / "scene", Provenance(None, (), "", "carlasc"))
    assert failed(tmp_path / "scene") == {}


def test_a_scene_that_is_all_building_is_valid_and_has_its_walls_and_the_road_of_its_ego(build_street, tmp_path):
    drive = build_street(frames=3)
    walled = replace(drive, labels=np.full_like(drive.labels, CARLASC.index("building")))
    scene = build_scene(walled)
    assert scene.tracks == ()
    write_scene(scene, tmp_path / "scene", Provenance(None, (), "", "carlasc"))
    assert failed(tmp_path / "scene") == {}
    described = json.loads((tmp_path / "scene" / "scene.json").read_text())
    assert described["static"]["classes"] == ["building"]
    # Lanes are wherever the ego drove.
    assert one_check(tmp_path / "scene", "map.xodr").outcome is Outcome.PASSED


def edited(name: str, old: str, new: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new, 1))

    return spoil


def column(name: str, change: Callable[[list], list], file: str = "tracks.parquet") -> Callable[[Path], None]:
    """Change the values of one column and keep everything else of the file."""

    def spoil(folder: Path) -> None:
        table = parquet.read_table(folder / file)
        field = table.schema.field(name)
        values = pyarrow.array(change(table[name].to_pylist()), type=field.type)
        table = table.set_column(table.schema.get_field_index(name), field, values)
        parquet.write_table(table, folder / file)

    return spoil


def cells(**changes: np.ndarray) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        with np.load(folder / "static.npz") as arrays:
            kept = dict(arrays)
        np.savez(folder / "static.npz", **kept | changes)

    return spoil


def truncated(name: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])

    return spoil


def of_gltf_3(folder: Path) -> None:
    content = (folder / "static.glb").read_bytes()
    (folder / "static.glb").write_bytes(content[:4] + (3).to_bytes(4, "little") + content[8:])


def moving_cells(folder: Path) -> None:
    with np.load(folder / "static.npz") as arrays:
        kept = dict(arrays)
    kept["labels"][0, 0, 0] = 10
    np.savez(folder / "static.npz", **kept)


FAULTS = {
    "a lane width that is no number": (edited("map.xodr", 'b="0', 'b="wide'), "map.xodr", "wide"),
    "half a road": (truncated("map.xodr"), "map.xodr", "XMLSyntaxError"),
    "an element that no scenario has": (
        edited("scene.xosc", "<Entities>", "<Extra/><Entities>"),
        "scene.xosc",
        "Extra",
    ),
    "a scenario of another version": (
        edited("scene-1.2.xosc", 'revMinor="2"', 'revMinor="1"'),
        "scene-1.2.xosc",
        "not 1.2",
    ),
    "a road that is elsewhere": (edited("scene.xosc", "map.xodr", "town.xodr"), "scene.xosc", "town.xodr"),
    "a vertex off its track": (
        edited("scene-1.2.xosc", 'time="0.5"', 'time="0.55"'),
        "scene-1.2.xosc on its tracks",
        "0.05 s",
    ),
    "an entity that is no track": (
        edited("scene.xosc", '"actor_1"', '"actor_9"'),
        "scene.xosc on its tracks",
        "actor_9",
    ),
    "a mesh of no class": (truncated("static.glb"), "static.glb", ""),
    "a glTF of another version": (of_gltf_3, "static.glb", "only GLTF 2"),
    "cells that move": (moving_cells, "static.npz", "vehicle"),
    "cells elsewhere": (cells(origin_world_m=np.zeros(3)), "static.npz", "origin_world_m"),
    "labels of another type": (cells(labels=np.zeros((2, 2, 2))), "static.npz", "float64"),
    "half a table": (truncated("tracks.parquet"), "tracks.parquet", ""),
    "a pose that is not rigid": (column("qw", lambda v: [2.0, *v[1:]]), "tracks.parquet", "unit length"),
    "a place that is not a number": (column("x_m", lambda v: [float("nan"), *v[1:]]), "tracks.parquet", "x_m"),
    "times that stand still": (column("time_us", lambda v: [v[1], *v[1:]]), "tracks.parquet", "do not increase"),
    "a size that changes": (column("length_m", lambda v: [v[0] + 1, *v[1:]]), "tracks.parquet", "changes"),
    "a kind that does not exist": (column("kind", lambda v: ["tram"] * len(v)), "tracks.parquet", "tram"),
    "an id of nothing": (column("id", lambda v: [i - 1 for i in v]), "tracks.parquet", "positive"),
    "a track before the drive": (
        column("time_us", lambda v: [v[0] - 10**6, *v[1:]]),
        "tracks.parquet",
        "outside of the drive",
    ),
    "a confidence above one": (
        column("kind_confidence", lambda v: [1.5] * len(v)),
        "tracks.parquet",
        "kind_confidence",
    ),
    "an ego at other times": (
        column("time_us", lambda v: [*v[:-1], v[-1] + 1], "ego.parquet"),
        "ego.parquet",
        "scene.json says",
    ),
    "a seed that is no number": (edited("provenance.json", '"seed": 1', '"seed": "one"'), "provenance.json", "seed"),
    "a model without chunks": (
        edited("provenance.json", '"null-2"', "null"),
        "provenance.json",
        "go together",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_check_for_it_finds(folder, fault):
    spoil, name, said = FAULTS[fault]
    spoil(folder)
    check = one_check(folder, name)
    assert check.outcome is Outcome.FAILED
    assert said in check.detail


def test_a_byte_that_changed_is_found(folder):
    edited("provenance.json", "(c) somebody", "(c) nobodyyy")(folder)
    assert one_check(folder, "provenance.json").outcome is Outcome.PASSED
    assert "provenance.json is not the file" in one_check(folder, "checksums").detail


def test_files_that_are_missing_and_files_that_are_foreign_are_named(folder):
    (folder / "tracks.parquet").unlink()
    (folder / "notes").mkdir()
    (folder / "notes" / "mine.txt").write_text("hello")
    found = failed(folder)
    assert found["files"] == "tracks.parquet is missing; notes/mine.txt does not belong to the scene"
    assert "tracks.parquet" in found["checksums"]
    assert "FileNotFoundError" in found["tracks.parquet"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"version": 2', '"version": 1', "version 1"),
        ('"frames": 12', '"frames": "many"', r"\$.frames"),
        ('"format": "dyncity-scene",', "", "KeyError"),
        ('"files": {', '"files": ', "JSONDecodeError"),
        ('"map.xodr"', '"../map.xodr"', "files"),
    ],
)
def test_a_manifest_that_is_not_one_ends_the_checks(folder, old, new, said):
    edited("scene.json", old, new)(folder)
    (only,) = validate_scene(folder)
    assert (only.name, only.outcome) == ("scene.json", Outcome.FAILED)
    assert said.replace("\\", "") in only.detail


def test_a_walker_that_flies_is_worth_a_warning_and_no_more(folder):
    column("vx_mps", lambda values: [40.0] * len(values))(folder)
    check = one_check(folder, "tracks.parquet")
    assert check.outcome is Outcome.WARNED
    assert "a pedestrian, moves at 40 m/s" in check.detail
    assert is_valid([check])


def test_actors_in_one_place_are_worth_a_warning_and_no_more(folder):
    column("x_m", lambda values: [8.0] * len(values))(folder)
    column("y_m", lambda values: [-1.7] * len(values))(folder)
    check = one_check(folder, "tracks.parquet")
    assert check.outcome is Outcome.WARNED
    assert "a pedestrian and a car, overlap at 12 times by up to 100% of the smaller" in check.detail
    assert is_valid([check])


def test_a_road_that_netconvert_makes_nothing_of_is_found(folder):
    document = '<OpenDRIVE><header revMajor="1" revMinor="7"/></OpenDRIVE>'
    (folder / "map.xodr").write_text(document)
    assert one_check(folder, "map.xodr in netconvert").outcome is Outcome.FAILED


def test_without_netconvert_its_check_is_skipped_and_says_so(folder, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(validate_documents.sysconfig, "get_path", lambda name: str(tmp_path))
    check = one_check(folder, "map.xodr in netconvert")
    assert check.outcome is Outcome.SKIPPED
    assert ".[sumo]" in check.detail
    assert is_valid([check])


def test_what_is_no_folder_is_refused(tmp_path):
    with pytest.raises(InvalidInputError, match="the folder of a scene"):
        validate_scene(tmp_path / "nothing")
