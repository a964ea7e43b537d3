"""Whole drives that are kept: an export that was stopped goes on, and its data set is that of one that was not."""

import os
import shutil
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dyncity_sim.cli.main import main
from dyncity_sim.dataset.drives import LoadedDrive
from dyncity_sim.domain.grid import CARLASC_GRID
from dyncity_sim.domain.sensors import LidarSensor, SensorRig
from dyncity_sim.domain.taxonomy import CARLASC_RAW
from dyncity_sim.errors import InvalidInputError, StorageError
from dyncity_sim.export.kept import ABOUT, drive_digest
from dyncity_sim.export.plan import ExportPlan
from dyncity_sim.export.run import export_drives
from dyncity_sim.groundtruth.formats.table import FORMATS

ALL = tuple(FORMATS)
BLIND = SensorRig("blind", (LidarSensor(tuple(np.deg2rad([0.0, -5.0, -12.0])), 90),))
FEW = ExportPlan(("semantickitti", "occ3d", "mcap"), BLIND)


def files(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def labelled(on_demand, plan: ExportPlan, out: Path, keep: Path, chosen: tuple[int, ...] = (0, 1, 2)) -> list[str]:
    """Export drives; the names of those that were not there."""
    told: list[tuple[int, int]] = []
    drives = [on_demand[number].listed for number in chosen]
    assert export_drives(drives, plan, out, lambda *done: told.append(done), keep).failure is None
    assert [told[-1] for _ in drives[-1:]] == [(len(drives) - 1, drives[-1].frames)]
    return [drive.name for number, drive in enumerate(drives) if (number, 1) in told]


@pytest.mark.parametrize(
    ("error", "formats"),
    [(KeyboardInterrupt(), ALL), (StorageError("The disk is full."), ("carlasc",))],
    ids=["Ctrl-C", "full disk"],
)
def test_what_was_stopped_goes_on_to_the_same_bytes(on_demand, many_rig, tmp_path, stop_at, error, formats):
    plan, keep, out = ExportPlan(formats, many_rig), tmp_path / "keep", tmp_path / "out"
    export_drives([d.listed for d in on_demand], plan, tmp_path / "unbroken")
    report = export_drives([d.listed for d in on_demand], plan, out, stop_at(2, 3, error), keep)
    assert (type(report.failure), str(report.failure)) == (type(error), str(error))
    assert ([drive.name for drive in report.drives], report.formats) == (["town-1", "bend"], ())
    assert not out.exists()
    assert labelled(on_demand, plan, out, keep) == ["town-2"]
    assert files(out) == files(tmp_path / "unbroken")


def test_what_was_stopped_in_its_first_drive_begins_again(on_demand, tmp_path, stop_at):
    keep, stop = tmp_path / "keep", stop_at(0, 2, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        export_drives([d.listed for d in on_demand], FEW, tmp_path / "out", stop, keep)
    assert files(tmp_path) == {}
    assert labelled(on_demand, FEW, tmp_path / "out", keep) == ["town-1", "bend", "town-2"]


def test_kept_drives_go_into_any_data_set_of_theirs(on_demand, tmp_path):
    keep = tmp_path / "keep"
    assert labelled(on_demand, FEW, tmp_path / "one", keep, (2,)) == ["town-2"]
    assert labelled(on_demand, FEW, tmp_path / "two", keep, (1, 0)) == ["bend", "town-1"]
    assert labelled(on_demand, FEW, tmp_path / "all", keep) == []
    export_drives([d.listed for d in on_demand], FEW, tmp_path / "unbroken")
    assert files(tmp_path / "all") == files(tmp_path / "unbroken")


def test_the_report_of_kept_drives_is_that_of_new_ones(on_demand, tmp_path):
    reports = [
        export_drives([d.listed for d in on_demand], FEW, tmp_path / out, keep=tmp_path / "keep")
        for out in ("new", "kept")
    ]
    assert reports[0].drives == reports[1].drives
    assert [(f.files, f.size_bytes) for f in reports[0].formats] == [
        (f.files, f.size_bytes) for f in reports[1].formats
    ]


def lose(file: Path) -> None:
    file.unlink()


def cut(file: Path) -> None:
    content = file.read_bytes()
    file.unlink()
    file.write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize("damage", [lose, cut])
@pytest.mark.parametrize("name", [ABOUT, "semantickitti/sequences/00/poses.txt"])
def test_a_kept_drive_that_lost_something_is_made_again(on_demand, tmp_path, damage, name):
    keep = tmp_path / "keep"
    labelled(on_demand, FEW, tmp_path / "before", keep)
    (bend,) = (f.parent for f in keep.glob(f"*/{ABOUT}") if '"bend"' in f.read_text())
    damage(bend / name)
    assert labelled(on_demand, FEW, tmp_path / "after", keep) == ["bend"]
    assert files(tmp_path / "after") == files(tmp_path / "before")


def changed_cell(loaded: LoadedDrive) -> LoadedDrive:
    labels = loaded.occupancy.labels.copy()
    labels[-1, 64, 64, 7] ^= 1
    return replace(loaded, occupancy=replace(loaded.occupancy, labels=labels))


def changed_rig(plan: ExportPlan) -> ExportPlan:
    pose = np.eye(4)
    pose[0, 3] = 1e-9
    return replace(plan, rig=replace(plan.rig, lidars=(replace(plan.rig.lidars[0], pose_ego_from_sensor=pose),)))


def test_the_digest_is_of_all_that_the_files_of_a_drive_depend_on(many):
    first = many[0]
    known = replace(first.occupancy, observed=np.ones(first.occupancy.labels.shape, np.bool_))
    others = [
        (first, replace(FEW, seed=1)),
        (first, replace(FEW, resample=True)),
        (first, replace(FEW, formats=("semantickitti", "occ3d"))),
        (first, changed_rig(FEW)),
        (changed_cell(first), FEW),
        (replace(first, name="town-3"), FEW),
        (replace(first, tracks=()), FEW),
        (replace(first, occupancy=known), FEW),
        (replace(first, provenance=replace(first.provenance, attribution="")), FEW),
        *((drive, FEW) for drive in many),
    ]
    assert len({drive_digest(*each) for each in others}) == len(others)
    unlike = replace(first, captions=("a",) * 7, recorded=first.occupancy, rate_hz=2.0)
    assert drive_digest(unlike, FEW) == drive_digest(first, FEW)


def test_the_digest_of_a_long_drive_takes_no_memory_of_its_own(many):
    tracemalloc.start()
    drive_digest(many[0], FEW)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < many[0].occupancy.labels.nbytes / 2


def test_kept_files_are_links_or_copies_where_a_disk_has_none(on_demand, tmp_path, monkeypatch):
    labelled(on_demand, FEW, tmp_path / "linked", tmp_path / "keep")
    mcap = tmp_path / "linked" / "mcap" / "bend.mcap"
    assert mcap.stat().st_nlink == 2

    def no_links(source: str, target: str) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    labelled(on_demand, FEW, tmp_path / "copied", tmp_path / "keep")
    assert mcap.stat().st_nlink == 2
    assert files(tmp_path / "copied") == files(tmp_path / "linked")


def test_a_data_set_stays_when_what_was_kept_goes(on_demand, tmp_path):
    labelled(on_demand, FEW, tmp_path / "out", tmp_path / "keep")
    before = files(tmp_path / "out")
    shutil.rmtree(tmp_path / "keep")
    assert files(tmp_path / "out") == before


def test_drives_are_not_kept_where_their_data_set_goes(on_demand, tmp_path):
    with pytest.raises(InvalidInputError, match=r"occ3d, which exists.*Name another --out"):
        export_drives([d.listed for d in on_demand], FEW, tmp_path, keep=tmp_path / "occ3d")
    assert [drive.opened for drive in on_demand] == [0, 0, 0]


def test_the_command_says_that_it_goes_on_and_does(tmp_path, write_recording, capsys):
    labels = np.zeros(CARLASC_GRID.shape, np.uint8)
    labels[:, :, 0] = CARLASC_RAW.index("road")
    folder = write_recording(tmp_path / "rec", labels, np.ones(CARLASC_GRID.shape, np.float32), 4, lengths=(2, 3))
    words = ["export", str(folder), "--sequence", "all", "--to", "carlasc", "--keep", str(tmp_path / "keep")]
    whole = (folder / "drive_00002.npz").read_bytes()
    (folder / "drive_00002.npz").write_bytes(whole[:1000])
    assert main([*words, "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr()
    assert f"2 of 3 drives are whole and kept in {tmp_path}/keep; the same command goes on from there" in said.out
    assert "drive_00002" in said.err
    assert not (tmp_path / "out").exists()
    (folder / "drive_00002.npz").write_bytes(whole)
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    assert sorted(f.name for f in (tmp_path / "out" / "carlasc").iterdir()) == [f"drive_{n:05d}" for n in range(3)]
