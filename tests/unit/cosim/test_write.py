import json
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dyncity_sim.cosim.drive import Drive, Start, drive_agreement
from dyncity_sim.cosim.loop import run_drive
from dyncity_sim.cosim.progress import Step
from dyncity_sim.cosim.report import drive_facts
from dyncity_sim.cosim.write import DriveFolder, clear_folder, prepare_folder, provenance, write_occupancy
from dyncity_sim.dataset.drives import open_drive
from dyncity_sim.domain.conditions import Command, SamplingOptions
from dyncity_sim.domain.grid import CARLASC_GRID
from dyncity_sim.errors import InvalidInputError, StorageError

Build = Callable[..., Any]


@pytest.fixture
def drive(scripted_street: Build, in_process_generator: Build) -> Drive:
    return run_drive(scripted_street(), in_process_generator(), chunks=2, seed=3)


def test_what_is_written_reads_back_the_same(drive: Drive, tmp_path: Path) -> None:
    write_occupancy(drive, tmp_path / "occupancy")
    loaded = open_drive(tmp_path / "occupancy")
    generated, recorded = loaded.occupancy, loaded.recorded
    for read, made in ((generated, drive.generated), (recorded, drive.recorded)):
        np.testing.assert_array_equal(read.labels, made.labels)
        np.testing.assert_array_equal(read.poses_world_from_ego, made.poses_world_from_ego)
        np.testing.assert_array_equal(read.times_us, made.times_us)
        assert read.grid == made.grid
    np.testing.assert_array_equal(recorded.observed, drive.recorded.observed)


def test_the_same_drive_gives_the_same_bytes(drive: Drive, tmp_path: Path) -> None:
    written = []
    for name in ("a", "b"):
        write_occupancy(drive, tmp_path / name)
        written.append({f.name: f.read_bytes() for f in (tmp_path / name).iterdir()})
    assert written[0] == written[1]
    assert set(written[0]) == {"history.npz", "chunk_0000.npz", "chunk_0001.npz", "road.xodr", "drive.json"}


def without_seconds(folder: Path) -> dict[str, Any]:
    described = json.loads((folder / "drive.json").read_text())
    for chunk in described["chunks"]:
        del chunk["seconds"]
    return described


def test_a_drive_that_is_kept_while_it_grows_has_the_files_of_one_that_is_written_at_its_end(
    drive: Drive, scripted_street: Build, in_process_generator: Build, tmp_path: Path
) -> None:
    write_occupancy(drive, tmp_path / "whole")
    folder = DriveFolder(tmp_path / "grown")
    kept = folder.keep(run_drive(scripted_street(), in_process_generator(), chunks=2, seed=3, keep=folder.keep))
    files = {f.name for f in (tmp_path / "whole").iterdir()}
    assert {f.name for f in (tmp_path / "grown").iterdir()} == files
    for file in files - {"drive.json"}:
        assert (tmp_path / "grown" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    assert without_seconds(tmp_path / "grown") == without_seconds(tmp_path / "whole")
    np.testing.assert_array_equal(kept.generated.labels, drive.generated.labels)
    np.testing.assert_array_equal(kept.recorded.observed, drive.recorded.observed)
    assert provenance(kept) == provenance(drive)
    assert drive_agreement(kept) == drive_agreement(drive)


def test_what_is_left_of_a_drive_that_is_stopped_from_outside_is_its_whole_chunks(
    scripted_street: Build, in_process_generator: Build, tmp_path: Path
) -> None:
    street = scripted_street()

    def stop(step: Step) -> None:
        if street.steps == 52:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_drive(street, in_process_generator(), 9, seed=3, on_step=stop, keep=DriveFolder(tmp_path).keep)
    left = open_drive(tmp_path)
    whole = run_drive(scripted_street(), in_process_generator(), 2, seed=3)
    np.testing.assert_array_equal(left.occupancy.labels, whole.generated.labels)
    assert json.loads((tmp_path / "drive.json").read_text())["ended"] == "under way, or stopped from outside"
    assert not list(tmp_path.glob(".*"))


def test_an_earlier_drive_makes_room_when_there_is_a_first_chunk(
    scripted_street: Build, in_process_generator: Build, tmp_path: Path
) -> None:
    old = tmp_path / "occupancy" / "old"
    old.mkdir(parents=True)
    street, folder = scripted_street(), DriveFolder(old.parent, partial(clear_folder, tmp_path, ["occupancy"]))

    def look(step: Step) -> None:
        assert old.exists() is (street.steps < 32 or step.doing == "driving")

    run_drive(street, in_process_generator(), 1, seed=3, on_step=look, keep=folder.keep)


def test_a_long_drive_takes_the_memory_of_few_chunks(
    scripted_street: Build, in_process_generator: Build, tmp_path: Path
) -> None:
    chunks = 12
    tracemalloc.start()
    folder = DriveFolder(tmp_path)
    drive = run_drive(scripted_street(), in_process_generator(), chunks, seed=3, keep=folder.keep)
    drive_facts(drive)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(drive.chunks) == chunks
    # Labels, the simulator's labels, and where they were observed.
    assert peak < chunks * 16 * 3 * CARLASC_GRID.cells / 2


def test_a_disk_that_fills_up_breaks_the_drive_off_with_the_chunks_before(
    scripted_street: Build, in_process_generator: Build, tmp_path: Path, fill_disk: Callable[..., None]
) -> None:
    street = scripted_street()
    street.shown_tracks = ()

    def fill(step: Step) -> None:
        if street.steps == 48:
            fill_disk(1000)

    drive = run_drive(street, in_process_generator(), 5, seed=3, on_step=fill, keep=DriveFolder(tmp_path).keep)
    assert isinstance(drive.failure, StorageError)
    assert (len(drive.chunks), drive.shown_tracks) == (1, None)
    assert len(open_drive(tmp_path).occupancy) == 16


def test_the_description_says_what_was_asked_and_of_whom(drive: Drive, tmp_path: Path) -> None:
    write_occupancy(drive, tmp_path)
    description = json.loads((tmp_path / "drive.json").read_text())
    assert description["attribution"] == "Map by the test's author"
    assert [c["seed"] for c in description["chunks"]] == [3, 4]
    assert [c["command"] for c in description["chunks"]] == ["forward", "forward"]
    assert description["model"]["id"] == drive.model.model_id
    assert description["start"] == "observed"
    assert provenance(drive).attribution == description["attribution"]
    assert provenance(drive).seeds == (3, 4)


def test_provenance_says_what_each_chunk_was_generated_from_and_how(
    scripted_street: Build, in_process_generator: Build
) -> None:
    options = SamplingOptions(steps=3)
    generator = in_process_generator()
    drive = run_drive(scripted_street(), generator, 2, 3, Start.PLAN, options)
    found = provenance(drive)
    assert found.conditions == tuple(conditions.given() for conditions, _ in generator.asked)
    assert found.conditions == (("plan", "command"), ("continuation", "plan", "command"))
    assert found.commands == (Command.FORWARD, Command.FORWARD)
    assert found.options == options


def test_a_drive_from_what_was_observed_continues_from_it(drive: Drive) -> None:
    assert provenance(drive).conditions == 2 * (("continuation", "plan", "command"),)


def test_a_damaged_chunk_is_an_error_and_not_a_shorter_drive(drive: Drive, tmp_path: Path) -> None:
    write_occupancy(drive, tmp_path)
    chunk = tmp_path / "chunk_0001.npz"
    chunk.write_bytes(chunk.read_bytes()[:2000])
    with pytest.raises(InvalidInputError, match=r"chunk_0001\.npz: got BadZipFile"):
        open_drive(tmp_path)


def test_a_folder_with_foreign_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    (tmp_path / "index.html").write_text("old page")
    with pytest.raises(InvalidInputError, match=r"thesis\.tex"):
        prepare_folder(tmp_path, ["index.html"])
    assert (tmp_path / "index.html").exists()


def test_an_earlier_drive_makes_room(tmp_path: Path) -> None:
    (tmp_path / "occupancy").mkdir()
    (tmp_path / "occupancy" / "drive.json").write_text("{}")
    prepare_folder(tmp_path, ["occupancy"])
    assert (tmp_path / "occupancy" / "drive.json").exists()
    (tmp_path / "shown.jsonl").write_text("{}")
    clear_folder(tmp_path, ["occupancy", "scene"])
    assert [entry.name for entry in tmp_path.iterdir()] == ["shown.jsonl"]


def test_what_a_killed_process_left_half_written_bars_no_drive_and_makes_room(tmp_path: Path) -> None:
    (tmp_path / ".occupancy.17.part").mkdir()
    (tmp_path / ".occupancy.17.part" / "chunk_0000.npz").touch()
    (tmp_path / ".index.html.17.part").touch()
    prepare_folder(tmp_path, ["occupancy", "index.html"])
    clear_folder(tmp_path, ["occupancy", "index.html"])
    assert not list(tmp_path.iterdir())
    (tmp_path / ".thesis.tex.17.part").touch()
    with pytest.raises(InvalidInputError, match=r"thesis\.tex"):
        prepare_folder(tmp_path, ["occupancy"])


def test_a_drive_goes_where_a_link_leads_and_not_under_a_file(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("there")
    prepare_folder(tmp_path / "link", [])
    assert (tmp_path / "there").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot be made"):
        prepare_folder(tmp_path / "file" / "drive", [])
