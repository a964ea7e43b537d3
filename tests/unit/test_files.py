"""Claims about files that appear when they are whole, where symbolic links lead to them."""

from pathlib import Path

import pytest

from dyncity_sim.errors import InvalidInputError, StorageError
from dyncity_sim.files import check_free, make_folder, whole_files, whole_folder, write_text


def linked(tmp_path: Path, name: str = "target") -> Path:
    """A link to a sibling in another folder, which need not be there."""
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "link"
    link.symlink_to(Path("elsewhere") / name)
    return link


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


@pytest.mark.parametrize("there", [True, False])
def test_a_folder_is_written_where_a_link_leads(tmp_path: Path, there: bool) -> None:
    link = linked(tmp_path)
    if there:
        (tmp_path / "elsewhere" / "target").mkdir()
    with whole_folder(link) as partial:
        (partial / "work").write_text("hours of it")
        assert names(tmp_path) == {"link", "elsewhere"}
    assert link.is_symlink()
    assert (tmp_path / "elsewhere" / "target" / "work").read_text() == "hours of it"
    assert names(tmp_path / "elsewhere") == {"target"}


def test_a_link_to_a_folder_with_something_in_it_is_not_free(tmp_path: Path) -> None:
    link = linked(tmp_path, ".")
    (tmp_path / "elsewhere" / "work").touch()
    with pytest.raises(InvalidInputError, match="link, expected a name that is free"):
        check_free(link)


@pytest.mark.parametrize("there", [True, False])
def test_a_file_is_written_where_a_link_leads(tmp_path: Path, there: bool) -> None:
    link = linked(tmp_path)
    if there:
        (tmp_path / "elsewhere" / "target").write_text("before")
    write_text("after", link)
    with whole_files([link]) as (place,):
        assert place.name == "link"
        place.write_text(link.read_text() + " all")
    assert link.is_symlink()
    assert (tmp_path / "elsewhere" / "target").read_text() == "after all"
    assert names(tmp_path / "elsewhere") == {"target"}


def test_a_link_that_leads_round_in_a_circle_is_a_storage_error(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to("link")
    with pytest.raises(StorageError, match="link could not be written"), whole_folder(link):
        pass
    assert names(tmp_path) == {"link"}


def test_a_folder_that_cannot_be_made_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    make_folder(tmp_path / "new" / "folder")
    make_folder(tmp_path / "new" / "folder")
    with pytest.raises(StorageError, match="folder cannot be made"):
        make_folder(tmp_path / "file" / "folder")


def test_missing_folders_above_are_made(tmp_path: Path) -> None:
    with whole_folder(tmp_path / "a" / "b" / "folder") as folder:
        (folder / "one.txt").write_text("1")
    with whole_files([tmp_path / "c" / "d" / "two.txt"]) as (two,):
        two.write_text("2")
    write_text("3", tmp_path / "e" / "f" / "three.txt")
    assert sorted(f.read_text() for f in tmp_path.rglob("*.txt")) == ["1", "2", "3"]
