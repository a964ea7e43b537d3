"""``dyncity generate`` with a server process of its own, on the null backend."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from dyncity_sim.cli.main import main
from dyncity_sim.client import DyncityClient
from dyncity_sim.dataset.drives import open_drive
from dyncity_sim.domain.conditions import Conditions, SamplingOptions
from dyncity_sim.domain.generation import GeneratedChunk
from dyncity_sim.domain.grid import CARLASC_GRID
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.engine.backend import Checkpoint
from dyncity_sim.engine.null import NullBackend
from dyncity_sim.errors import BusyError
from dyncity_sim.server.background import serving


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory, write_recording: Callable[..., Path]) -> Path:
    labels = np.zeros(CARLASC_GRID.shape, np.uint8)
    labels[:, :, 0] = 7
    counts = np.ones(CARLASC_GRID.shape, np.float32)
    return write_recording(tmp_path_factory.mktemp("generate") / "rec", labels, counts, 36)


def test_it_writes_chunks_a_description_a_picture_and_a_page(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ["generate", str(recording), "--backend", "null", "--chunks", "2", "--known", "around", "--seed", "3"]
    assert main([*words, "--guidance", "plan=2", "--guidance", "1.5", "--resamples", "2", "--out", str(out)]) == 0
    assert "null-2 along drive_00000" in capsys.readouterr().out

    described = json.loads((out / "generation.json").read_text())
    assert described["attribution"] == "(c) map [makers]"
    assert [chunk["seed"] for chunk in described["chunks"]] == [3, 4]
    assert described["chunks"][0]["conditions"] == ["known_region", "plan", "command"]
    assert described["chunks"][1]["conditions"] == ["continuation", "plan", "command"]
    with np.load(out / "chunk_0000.npz", allow_pickle=False) as arrays:
        known = np.unpackbits(arrays["known"], count=arrays["labels"].size).reshape(arrays["labels"].shape) == 1
        assert (arrays["labels"][known].reshape(-1, 8)[:, 0] == CARLASC.index("road")).all()
    with np.load(out / "chunk_0001.npz", allow_pickle=False) as arrays:
        assert "known" not in arrays
        assert arrays["labels"].shape == (16, *CARLASC_GRID.shape)
    with PillowImage.open(out / "chunks.png") as picture:
        assert picture.width > 1000
    assert re.search(r"\(c\) map \[makers\]", (out / "index.html").read_text())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]


def test_a_folder_that_is_taken_is_refused_before_a_model_is_loaded(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "kept").touch()
    words = ["generate", str(recording), "--backend", "nobody", "--out", str(tmp_path)]
    assert main(words) == 2
    assert f"folder: got {tmp_path}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--sequence", "7"], "--sequence: got 7, expected 0 to 0"),
        (["--guidance", "plan=much"], "--guidance: got 'plan=much'"),
        (["--guidance", "weather=1"], "options.guidance_scales: got 'weather'"),
        (["--start", "30"], "36 in drive_00000"),
        (["--server", "localhost:1"], "--server: got localhost:1, expected neither --backend nor --weights"),
        (["--layout"], "not trained with the condition 'layout'"),
    ],
)
def test_what_cannot_be_done_is_said_and_nothing_is_written(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    code = main(["generate", str(recording), "--backend", "null", "--out", str(tmp_path / "out"), *words])
    assert code in (1, 2)
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


class Breaking(NullBackend):
    """Fails at the chunk of seed 4."""

    def generate(self, conditions: Conditions, options: SamplingOptions, checkpoint: Checkpoint) -> GeneratedChunk:
        if options.seed == 4:
            raise ZeroDivisionError
        return super().generate(conditions, options, checkpoint)


def test_chunks_that_came_before_a_failure_are_written_and_the_failure_told(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "[old] out"
    with serving(Breaking) as there:
        words = ["--server", there, "--chunks", "2", "--seed", "3", "--out", str(out)]
        assert main(["generate", str(recording), *words]) == 1
    printed = capsys.readouterr()
    assert "ended early" in printed.out
    assert f"watch {out}" in printed.out
    assert "incident" in printed.err
    assert len(open_drive(out).occupancy) == 16
    assert {"chunks.png", "index.html"} < {file.name for file in out.iterdir()}


class BusyOnce(NullBackend):
    """Has no time for the first call with seed 3."""

    def __init__(self) -> None:
        self._failures = [BusyError("full.", retry_after_s=0.1)]

    def generate(self, conditions: Conditions, options: SamplingOptions, checkpoint: Checkpoint) -> GeneratedChunk:
        if options.seed == 3 and self._failures:
            raise self._failures.pop()
        return super().generate(conditions, options, checkpoint)


def test_a_server_that_is_busy_is_asked_again_and_told_of(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(BusyOnce) as there:
        words = ["--server", there, "--seed", "3", "--out", str(tmp_path / "out")]
        assert main(["generate", str(recording), *words]) == 0
    assert "full. Try again in 0.1 s. (asked again for up to 60 s)" in capsys.readouterr().out


def test_chunks_that_came_before_ctrl_c_are_whole_and_told_of(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    generate = DyncityClient.generate

    def interrupted(client: DyncityClient, conditions: Conditions, options: SamplingOptions) -> GeneratedChunk:
        if options.seed == 4:
            raise KeyboardInterrupt
        return generate(client, conditions, options)

    monkeypatch.setattr(DyncityClient, "generate", interrupted)
    out = tmp_path / "out"
    with serving(NullBackend) as there:
        words = ["--server", there, "--chunks", "2", "--seed", "3", "--out", str(out)]
        assert main(["generate", str(recording), *words]) == 130
    assert f"1 chunk is whole and kept in {out}" in capsys.readouterr().out
    assert len(open_drive(out).occupancy) == 16


def test_a_server_that_does_not_start_is_told_by_what_it_printed(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["generate", str(recording), "--weights", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert (
        f"The server stopped with status 2. It printed:\n  dyncity: error: weights: got no model.json in {tmp_path}"
        in error
    )
