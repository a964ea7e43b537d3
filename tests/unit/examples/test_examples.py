"""Claims about the examples."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["own_simulator.py", "record", "--out", "."], "error: recording: got ., which exists"),
        (["own_simulator.py", "drive", "--out", "."], "error: folder: got ., expected a folder with a name"),
        (["train_tiny.py", "--train", "none", "--validation", "none", "--out", "tiny"], "error: recording: got none"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line(words: list[str], said: str, tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    done = subprocess.run(
        [sys.executable, EXAMPLES / words[0], *words[1:]], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith(said)
    assert done.stderr.count("\n") == 1
