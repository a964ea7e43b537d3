"""``dyncity export`` of many drives: which of them, from how many folders, and what it says of those that are left."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyncity_sim.cli.main import main
from dyncity_sim.cli.numbers import sequence_words, sequences
from dyncity_sim.dataset.chunk_files import arrays_of, write_chunk
from dyncity_sim.dataset.drives import LoadedDrive
from dyncity_sim.dataset.open import open_dataset
from dyncity_sim.domain.grid import CARLASC_GRID
from dyncity_sim.domain.taxonomy import CARLASC, CARLASC_RAW
from dyncity_sim.groundtruth.formats.describe import grid_json


@pytest.fixture
def recording(tmp_path, write_recording) -> Path:
    """Three drives of 4, 2 and 3 frames."""
    labels = np.zeros(CARLASC_GRID.shape, np.uint8)
    labels[:, :, 0] = CARLASC_RAW.index("road")
    labels[100:, :, :] = CARLASC_RAW.index("wall")
    return write_recording(tmp_path / "rec", labels, np.ones(CARLASC_GRID.shape, np.float32), 4, lengths=(2, 3))


@pytest.mark.parametrize(
    ("said", "lengths"),
    [("all", [4, 2, 3]), ("0-2", [4, 2, 3]), ("2,0", [3, 4]), ("1-2, 0", [2, 3, 4]), ("1", [2])],
)
def test_the_command_takes_numbers_lists_ranges_and_all(recording, tmp_path, capsys, said, lengths):
    out = tmp_path / "out"
    assert main(["export", str(recording), "--sequence", said, "--to", "semantickitti", "--out", str(out)]) == 0
    sequences = sorted((out / "semantickitti" / "sequences").iterdir())
    assert [f.name for f in sequences] == [f"{n:02d}" for n in range(len(lengths))]
    assert [len(list((f / "velodyne").iterdir())) for f in sequences] == lengths
    table = capsys.readouterr().out
    assert ("drive_00001" in table) is (2 in lengths)
    assert (f"{len(lengths)} drives, {sum(lengths)} frames" in table) is (len(lengths) > 1)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--sequence", "0,,1"], "'' is no number, no range as 0-9, and not all"),
        (["--sequence", "every"], "'every' is no number"),
        (["--sequence", "2-1"], "2-1 is no range"),
        (["--sequence", "0-999999999"], "no range of 1 to 100000"),
        (["--sequence", "0-2,1"], "0-2,1 names a sequence twice"),
        (["--sequence", "1-3"], "sequence: got 3, expected 0 to 2"),
        (["--sequence", "all", "--frames", "3"], "[0, 3), expected a range within [0, 2) of"),
        (["--sequence", "all", "--start", "3"], "drive_00001"),
    ],
)
def test_sequences_that_are_not_there_or_too_short_are_refused_up_front(recording, tmp_path, capsys, words, said):
    out = tmp_path / "out"
    try:
        status = main(["export", str(recording), *words, "--to", "occ3d", "--out", str(out)])
    except SystemExit as ended:
        status = ended.code
    assert status == 2
    assert said in capsys.readouterr().err
    assert not out.exists()


@given(numbers=st.lists(st.integers(0, 30), unique=True, min_size=1))
def test_the_sequences_that_are_left_are_told_in_words_that_the_command_takes(numbers):
    assert sequences(sequence_words(numbers)) == tuple(numbers)


def test_start_and_frames_are_of_each_drive(recording, tmp_path):
    words = ["--sequence", "all", "--start", "1", "--frames", "1", "--to", "carlasc", "--out", str(tmp_path / "out")]
    assert main(["export", str(recording), *words]) == 0
    sequences = open_dataset(tmp_path / "out" / "carlasc").sequences
    assert [s.times_us.tolist() for s in sequences] == [[100_000]] * 3


def generation(folder: Path, loaded: LoadedDrive) -> Path:
    """A drive as ``dyncity generate`` writes it."""
    folder.mkdir(parents=True)
    write_chunk(arrays_of(loaded.occupancy), folder / "chunk_0000.npz")
    described = {
        "format": "dyncity-generation",
        "version": 1,
        "attribution": loaded.provenance.attribution,
        "model": {"id": f"model of {loaded.name}", "family": "anchored"},
        "grid": grid_json(loaded.occupancy.grid),
        "taxonomy": {"id": CARLASC.id},
        "chunks": [{"seed": 4, "command": None}],
    }
    (folder / "generation.json").write_text(json.dumps(described))
    return folder


def test_several_folders_are_one_data_set(many, recording, tmp_path, capsys):
    paths = [str(generation(tmp_path / "dreams" / loaded.name, loaded)) for loaded in many]
    words = ["export", *paths, str(recording), "--to", "semantickitti", "--sequence", "all", "--out"]
    assert main([*words, str(tmp_path / "out")]) == 0
    drives = json.loads((tmp_path / "out" / "semantickitti" / "dyncity.json").read_text())["drives"]
    assert [(d["name"], d["frames"], d["sequence"]) for d in drives] == [
        ("town-1", 7, "00"),
        ("bend", 2, "01"),
        ("town-2", 6, "02"),
        *((f"rec_drive_{n:05d}", frames, f"{n + 3:02d}") for n, frames in enumerate((4, 2, 3))),
    ]
    assert [d["provenance"]["model_id"] for d in drives] == [
        *(f"model of {loaded.name}" for loaded in many),
        *[None] * 3,
    ]
    file = recording / "drive_00001.npz"
    file.write_bytes(file.read_bytes()[:1000])
    assert main([*words, str(tmp_path / "part")]) == 2
    said = capsys.readouterr().out
    assert "4 of 6 drives are whole and kept; export the others to another --out from rec_drive_00001 on" in said


def test_drives_of_several_data_sets_are_told_apart_by_its_folder(recording, tmp_path):
    shutil.copytree(recording, tmp_path / "other")
    words = ["export", str(recording), str(tmp_path / "other"), "--to", "carlasc", "--out", str(tmp_path / "out")]
    assert main(words) == 0
    names = ["other_drive_00000", "rec_drive_00000"]
    assert [s.name for s in open_dataset(tmp_path / "out" / "carlasc").sequences] == names
    sequence = [str(tmp_path / "out" / "carlasc" / name) for name in names]
    assert main(["export", *sequence, "--to", "carlasc", "--out", str(tmp_path / "again")]) == 0
    assert [s.name for s in open_dataset(tmp_path / "again" / "carlasc").sequences] == names


def test_the_command_says_which_drives_are_kept_and_fails(recording, tmp_path, capsys):
    # The second drive's file is cut off.
    file = recording / "drive_00001.npz"
    file.write_bytes(file.read_bytes()[:1000])
    words = ["export", str(recording), "--sequence", "all", "--to", "carlasc", "--out", str(tmp_path / "out")]
    assert main(words) == 2
    captured = capsys.readouterr()
    assert "1 of 3 drives are whole and kept; export the others to another --out with --sequence 1-2" in captured.out
    assert "drive_00001" in captured.err
    assert [s.name for s in open_dataset(tmp_path / "out" / "carlasc").sequences] == ["drive_00000"]
