"""Many drives in one data set: what each has when it is exported alone, under names and numbers that differ."""

import json
import os
import re
import shutil
from copy import copy
from dataclasses import replace
from functools import partial
from pathlib import Path
from weakref import ref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dyncity_sim.dataset.drives import ListedDrive, LoadedDrive
from dyncity_sim.dataset.open import open_dataset
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.errors import InvalidInputError, StorageError
from dyncity_sim.export.plan import ExportPlan, Report
from dyncity_sim.export.run import export_drive, export_drives
from dyncity_sim.groundtruth.formats.table import FORMATS

ALL = tuple(FORMATS)
NAMES = ("town-1", "bend", "town-2")
TABLES = "v1.0-trainval"
DESCRIPTIONS = ("dyncity.json", "annotations.json", "evaluate_tracking.seqmap.training", "dataset.json", TABLES)


@pytest.fixture(scope="module")
def alone(many, many_rig, tmp_path_factory) -> Path:
    """A folder of exports for each drive, by its name."""
    folder = tmp_path_factory.mktemp("alone")
    for loaded in many:
        export_drive(loaded, ExportPlan(ALL, many_rig), folder / loaded.name)
    return folder


@pytest.fixture(scope="module")
def exported(many, many_rig, tmp_path_factory) -> tuple[Path, Report, list[tuple[int, int]]]:
    """All drives exported at once, what the report says, and what was told on the way."""
    out = tmp_path_factory.mktemp("many") / "out"
    told: list[tuple[int, int]] = []
    drives = [ListedDrive(loaded.name, len(loaded.occupancy), partial(copy, loaded)) for loaded in many]
    report = export_drives(drives, ExportPlan(ALL, many_rig), out, lambda *done: told.append(done))
    return out, report, told


def files(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def is_description(name: str) -> bool:
    return name.split("/")[1] in DESCRIPTIONS


def renamed(name: str, number: int, shards: int) -> str:
    """Where a file of a drive's own export lies in that of many."""
    name = name.replace("semantickitti/sequences/00/", f"semantickitti/sequences/{number:02d}/")
    if name.startswith("kitti/"):
        name = name.replace("/0000/", f"/{number:04d}/").replace("/0000.txt", f"/{number:04d}.txt")
    if name.startswith("webdataset/") and name.endswith(".tar"):
        name = f"webdataset/{int(Path(name).stem) + shards:06d}.tar"
    return name


def read(folder: Path, name: str):
    return json.loads((folder / name).read_text())


def assert_many_are_each(out: Path, alone: Path, names: tuple[str, ...]) -> None:
    """All files but descriptions are those of the drives' own exports, byte for byte; descriptions say the same."""
    got, expected, shards = files(out), {}, 0
    for number, name in enumerate(names):
        own = files(alone / name)
        expected |= {renamed(n, number, shards): c for n, c in own.items() if not is_description(n)}
        shards += sum(n.endswith(".tar") for n in own)
    assert {n: c for n, c in got.items() if not is_description(n)} == expected
    for form in ("occ3d", "semantickitti", "nuscenes", "kitti"):
        assert_same_words(read(out / form, "dyncity.json"), [read(alone / n / form, "dyncity.json") for n in names])
    abouts = [read(alone / name / "webdataset", "dataset.json") for name in names]
    about = read(out / "webdataset", "dataset.json")
    assert [(s["drive"], s["first_frame"], s["frames"]) for s in about.pop("shards")] == [
        (a["name"], s["first_frame"], s["frames"]) for a in abouts for s in a.pop("shards")
    ]
    assert_same_words(about, abouts)
    for table in (out / "nuscenes" / TABLES).iterdir():
        own_tables = [read(alone / name / "nuscenes" / TABLES, table.name) for name in names]
        assert_same_records(json.loads(table.read_text()), own_tables)
    annotations = [read(alone / name / "occ3d", "annotations.json") for name in names]
    assert read(out / "occ3d", "annotations.json") == {
        "train_split": list(names),
        "val_split": [],
        "scene_infos": {name: a["scene_infos"][name] for name, a in zip(names, annotations, strict=True)},
    }
    lines = (out / "kitti" / DESCRIPTIONS[2]).read_text().splitlines()
    lengths = [len(list((out / "kitti" / "velodyne" / f"{n:04d}").iterdir())) for n in range(len(names))]
    assert lines == [f"{n:04d} empty 000000 {length:06d}" for n, length in enumerate(lengths)]


def assert_same_words(about: dict, abouts: list[dict]) -> None:
    drives = about.pop("drives")
    for number, (drive, own) in enumerate(zip(drives, abouts, strict=True)):
        assert drive.pop("sequence", f"{number:02d}") in (f"{number:02d}", f"{number:04d}")
        assert about | drive == own


def assert_same_records(table, own_tables) -> None:
    if isinstance(table, dict):
        assert table == {"all": [scene for own in own_tables for scene in own["all"]]}
        return
    by_token = {record["token"]: record for record in table}
    assert len(by_token) == len(table)
    for own in own_tables:
        assert [by_token[record["token"]] for record in own] == own
    assert set(by_token) == {record["token"] for own in own_tables for record in own}


def test_what_is_exported_together_is_what_is_exported_alone(exported, alone):
    assert_many_are_each(exported[0], alone, NAMES)
    assert sorted(entry.name for entry in exported[0].iterdir()) == sorted(ALL)


@settings(max_examples=12)
@given(names=st.lists(st.sampled_from(NAMES), unique=True, min_size=2))
def test_whichever_drives_are_joined_in_whichever_order_each_is_what_it_is_alone(alone, tmp_path_factory, names):
    folder = tmp_path_factory.mktemp("joined")
    parts = {name: folder / name for name in names}
    for name, part in parts.items():
        shutil.copytree(alone / name, part, copy_function=os.link)
    for form in FORMATS.values():
        form.join(parts, folder / "out")
    assert_many_are_each(folder / "out", alone, tuple(names))


def test_sequences_are_numbered_in_their_order_and_the_descriptions_tell_which_is_which(exported):
    out, _, _ = exported
    for form, numbers in (("semantickitti", ["00", "01", "02"]), ("kitti", ["0000", "0001", "0002"])):
        drives = read(out / form, "dyncity.json")["drives"]
        assert [(d["name"], d["frames"], d["sequence"]) for d in drives] == list(
            zip(NAMES, (7, 2, 6), numbers, strict=True)
        )
    assert sorted(f.name for f in (out / "semantickitti" / "sequences").iterdir()) == ["00", "01", "02"]
    assert sorted(f.name for f in (out / "mcap").iterdir()) == ["bend.mcap", "town-1.mcap", "town-2.mcap"]
    assert sorted(f.name for f in (out / "carlasc").iterdir()) == sorted(NAMES)


def test_the_credit_of_every_drive_is_kept(exported):
    out, _, _ = exported
    for form, file in (("occ3d", "dyncity.json"), ("kitti", "dyncity.json"), ("webdataset", "dataset.json")):
        about = read(out / form, file)
        assert about["provenance"]["attribution"] == "(c) makers; (c) others"
        assert [d["provenance"]["attribution"] for d in about["drives"]] == ["(c) makers", "(c) makers", "(c) others"]


def test_what_differs_from_drive_to_drive_stands_with_the_drive_also_where_some_agree(exported):
    about = read(exported[0] / "kitti", "dyncity.json")
    own = {"name", "frames", "provenance", "sequence", "oxts_origin_world_m", "times_us"}
    assert [set(drive) for drive in about["drives"]] == [own] * 3
    assert about["camera"] == "front"
    assert about["rig"]["name"] == "small"


def test_no_link_of_nuscenes_leads_from_one_scene_to_another(exported):
    tables = {f.stem: json.loads(f.read_text()) for f in (exported[0] / "nuscenes" / TABLES).iterdir()}
    assert [scene["name"] for scene in tables["scene"]] == list(NAMES)
    scene_of = {sample["token"]: sample["scene_token"] for sample in tables["sample"]}
    links = 0
    for table, key in (("sample", "token"), ("sample_data", "sample_token"), ("sample_annotation", "sample_token")):
        records = {record["token"]: record for record in tables[table]}
        for record in records.values():
            for end in (record["prev"], record["next"]):
                if end:
                    assert scene_of[records[end][key]] == scene_of[record[key]]
                    links += 1
    assert links > 40
    assert len({log["token"] for log in tables["log"]}) == len(tables["map"]) == 3
    assert [m["log_tokens"] for m in tables["map"]] == [[scene["log_token"]] for scene in tables["scene"]]


@pytest.mark.parametrize("form", ["carlasc", "occ3d"])
def test_many_drives_are_read_back_as_they_were_with_all_their_credits(on_demand, many_rig, tmp_path, form):
    drives = [d.listed for d in on_demand]
    export_drives(drives, ExportPlan((form,), many_rig, resample=form == "occ3d"), tmp_path)
    dataset = open_dataset(tmp_path / form)
    assert dataset.attribution == "(c) makers; (c) others"
    assert {s.name: s.times_us.tolist() for s in dataset.sequences} == {
        d.loaded.name: d.loaded.occupancy.times_us.tolist() for d in on_demand
    }


@pytest.mark.parametrize("form", ["carlasc", "occ3d"])
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_drive_of_one_frame_has_no_say_in_the_rate_of_its_data_set(on_demand, many_rig, tmp_path, form, order):
    steady = replace(on_demand[0].loaded.occupancy[:3], times_us=np.arange(3) * 250_000)
    drives = [replace(on_demand[0].loaded, occupancy=steady), replace(on_demand[1].loaded, occupancy=steady[:1])]
    listed = [ListedDrive(drives[n].name, len(drives[n].occupancy), partial(copy, drives[n])) for n in order]
    export_drives(listed, ExportPlan((form,), many_rig, resample=form == "occ3d"), tmp_path)
    dataset = open_dataset(tmp_path / form)
    assert (dataset.rate_hz, sorted(len(s) for s in dataset.sequences)) == (4, [1, 3])


def test_annotations_of_occ3d_lead_to_the_frames_of_every_scene(exported):
    infos = read(exported[0] / "occ3d", "annotations.json")["scene_infos"]
    for name, frames in zip(NAMES, (7, 2, 6), strict=True):
        assert len(infos[name]) == frames
        for info in infos[name].values():
            assert (exported[0] / "occ3d" / info["gt_path"]).is_file()


def test_the_report_counts_each_drive_and_all(exported):
    _, report, told = exported
    assert [(d.name, d.frames) for d in report.drives] == list(zip(NAMES, (7, 2, 6), strict=True))
    assert report.drives[0].boxes == 14
    assert report.drives[1].boxes == 0
    assert (report.frames, report.boxes) == (15, 26)
    assert report.points == sum(d.points for d in report.drives) > 15 * 100
    assert report.failure is None
    assert told == [(0, n) for n in range(1, 8)] + [(1, 1), (1, 2)] + [(2, n) for n in range(1, 7)]
    mcap = next(form for form in report.formats if form.name == "mcap")
    assert (mcap.files, mcap.place.name) == (3, "mcap")


def test_a_drive_is_given_back_before_the_next_is_opened(many, many_rig, tmp_path):
    opened: list[ref] = []

    def open_copy(loaded: LoadedDrive) -> LoadedDrive:
        assert [drive() for drive in opened] == [None] * len(opened)
        copied = replace(loaded, occupancy=replace(loaded.occupancy, labels=loaded.occupancy.labels.copy()))
        opened.append(ref(copied.occupancy))
        return copied

    drives = [ListedDrive(loaded.name, len(loaded.occupancy), partial(open_copy, loaded)) for loaded in many]
    export_drives(drives, ExportPlan(ALL, many_rig), tmp_path / "out")
    assert len(opened) == 3


def test_drives_that_cannot_be_told_apart_are_refused_before_any_is_opened(on_demand, many_rig, tmp_path):
    first, second, third = on_demand
    for twin in (first.loaded.name, "town.1"):
        same = replace(third.listed, name=twin)
        with pytest.raises(InvalidInputError, match=rf"'town-1' and '{twin}'"):
            export_drives([first.listed, second.listed, same], ExportPlan(("occ3d",), many_rig), tmp_path / "out")
    with pytest.raises(InvalidInputError, match="got none"):
        export_drives([], ExportPlan(("occ3d",), many_rig), tmp_path / "out")
    assert [drive.opened for drive in on_demand] == [0, 0, 0]
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_any_drive_that_is_there_is_refused_before_any_is_opened(on_demand, many_rig, tmp_path):
    (tmp_path / "mcap").mkdir()
    (tmp_path / "mcap" / "town-2.mcap").touch()
    with pytest.raises(InvalidInputError, match=r"town-2.mcap, which exists"):
        export_drives([d.listed for d in on_demand], ExportPlan(("mcap",), many_rig), tmp_path)
    assert [drive.opened for drive in on_demand] == [0, 0, 0]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(143)], ids=["Ctrl-C", "SIGTERM"])
def test_an_interruption_keeps_the_drives_that_are_whole_as_a_data_set_of_these(
    on_demand, many_rig, alone, tmp_path, stop_at, error
):
    drives, out = [d.listed for d in on_demand], tmp_path / "out"
    report = export_drives(drives, ExportPlan(ALL, many_rig), out, stop_at(2, 3, error))
    assert report.failure is error
    assert [drive.name for drive in report.drives] == ["town-1", "bend"]
    assert_many_are_each(out, alone, ("town-1", "bend"))
    assert sorted(entry.name for entry in out.iterdir()) == sorted(ALL)


def test_one_drive_that_is_kept_of_many_is_an_export_of_it_alone(on_demand, many_rig, alone, tmp_path, stop_at):
    drives, stop = [d.listed for d in on_demand], stop_at(1, 1, KeyboardInterrupt())
    export_drives(drives, ExportPlan(ALL, many_rig), tmp_path / "out", stop)
    assert files(tmp_path / "out") == files(alone / "town-1")


def test_an_interruption_in_the_first_drive_leaves_nothing(on_demand, many_rig, tmp_path, stop_at):
    drives, stop = [d.listed for d in on_demand], stop_at(0, 4, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        export_drives(drives, ExportPlan(ALL, many_rig), tmp_path / "out", stop)
    assert list(tmp_path.iterdir()) == []


def test_a_drive_that_fails_is_named_and_those_before_it_are_kept(on_demand, many_rig, tmp_path):
    first, second, third = on_demand
    labels = second.loaded.occupancy.labels.copy()
    labels[1, 3, 3, 7] = CARLASC.index("unused")
    second.loaded = replace(second.loaded, occupancy=replace(second.loaded.occupancy, labels=labels))
    drives = [first.listed, second.listed, third.listed]
    report = export_drives(drives, ExportPlan(("occ3d", "carlasc"), many_rig), tmp_path / "out")
    assert isinstance(report.failure, InvalidInputError)
    assert str(report.failure).startswith("bend: frame 1 labels: got 1 cells or points of 'unused'")
    assert third.opened == 0
    assert [d.name for d in open_dataset(tmp_path / "out" / "carlasc").sequences] == ["town-1"]
    assert [f.name for f in (tmp_path / "out" / "occ3d" / "gts").iterdir()] == ["town-1"]


def test_a_disk_that_is_full_in_a_later_drive_is_told_by_the_place_asked_for(on_demand, many_rig, tmp_path, fill_disk):
    drives, out = [d.listed for d in on_demand], tmp_path / "out"
    plan = ExportPlan(("semantickitti", "carlasc"), many_rig)
    report = export_drives(drives, plan, out, lambda *done: fill_disk() if done == (2, 1) else None)
    assert isinstance(report.failure, StorageError)
    assert re.match(rf"{out}/carlasc could not be written: File too large", str(report.failure))
    assert [d["name"] for d in read(out / "semantickitti", "dyncity.json")["drives"]] == ["town-1", "bend"]
    assert [entry.name for entry in out.iterdir() if entry.name.startswith(".")] == []
