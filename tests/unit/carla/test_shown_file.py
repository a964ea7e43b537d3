"""The file of what was shown."""

from pathlib import Path

import pytest
from dyncity_carla.shown_file import ShownFile

from dyncity_sim.errors import InvalidInputError


def test_a_file_that_exists_is_kept(tmp_path: Path) -> None:
    (tmp_path / "mine.png").write_text("mine")
    with pytest.raises(InvalidInputError, match=r"--shown: got .*mine\.png, which exists"):
        ShownFile(tmp_path / "mine.png")
    assert (tmp_path / "mine.png").read_text() == "mine"
