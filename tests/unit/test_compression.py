"""Claims about arrays of files whose makers nobody knows."""

import io
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest

from dyncity_sim.compression import read_arrays
from dyncity_sim.dataset.chunk_files import arrays_of, chunk_length, read_chunk, write_chunk
from dyncity_sim.dataset.store import Recording
from dyncity_sim.domain.grid import CARLASC_GRID
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.errors import InvalidInputError
from dyncity_sim.scene.package.read import read_static_map


def npy(header: str) -> bytes:
    """A header that NumPy reads, and three bytes after it."""
    content = io.BytesIO()
    np.lib.format.write_array(content, np.zeros(3, np.uint8))
    old = content.getvalue()
    text = header.encode().ljust(len(old) - 14) + b"\n"
    return old[:10] + text + old[-3:]


def npz(file: Path, **members: bytes) -> Path:
    with ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return file


def claim(file: Path, name: str, size: int) -> None:
    """Say of an array that it is so large, in the list of what the file holds."""
    with ZipFile(file) as archive:
        members = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    with ZipFile(file, "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)
        archive.getinfo(f"{name}.npy").file_size = size


def peak_bytes(work: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_arrays_that_are_wanted_and_those_that_are_there_are_read_and_no_others(tmp_path):
    file = tmp_path / "some.npz"
    np.savez_compressed(file, a=np.arange(3), b=np.ones(2), c=np.zeros(4))
    found = read_arrays(file, ("b",), ("a", "d"))
    assert {name: array.tolist() for name, array in found.items()} == {"b": [1, 1], "a": [0, 1, 2]}
    with pytest.raises(InvalidInputError, match=r"some\.npz: got the arrays a, b, c, expected b, d: d is missing"):
        read_arrays(file, ("b", "d"))


def test_an_array_that_is_too_large_is_refused_before_it_is_unpacked(tmp_path):
    file = tmp_path / "bomb.npz"
    np.savez_compressed(file, labels=np.zeros(64 * 2**20, np.uint8), times_us=np.arange(3))
    assert file.stat().st_size < 2**17

    def refused() -> None:
        with pytest.raises(InvalidInputError, match=r"bomb\.npz labels: got 67108992 bytes, expected at most 1048576"):
            read_arrays(file, ("times_us", "labels"), most_bytes=2**20)

    assert peak_bytes(refused) < 2**20
    assert read_arrays(file, ("times_us",), most_bytes=2**20)["times_us"].tolist() == [0, 1, 2]


HEADERS = {
    "more cells than anybody has": "{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000000000,)}",
    "more cells than there are": "{'descr': '|u1', 'fortran_order': False, 'shape': (4,)}",
    "many texts of no letters": "{'descr': '<U0', 'fortran_order': False, 'shape': (1000000000000,)}",
    "a count below 0": "{'descr': '|u1', 'fortran_order': False, 'shape': (-1,)}",
    "objects": "{'descr': '|O', 'fortran_order': False, 'shape': (3,)}",
    "no text of Python": "{'descr': '|u1', 'fortran_order",
}


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_a_header_that_says_what_is_not_there_is_laid_to_its_file(tmp_path, header):
    with pytest.raises(InvalidInputError, match=r"odd\.npz: got .*expected a whole \.npz file"):
        read_arrays(npz(tmp_path / "odd.npz", labels=npy(header)), ("labels",))


def test_what_is_no_array_is_refused(tmp_path):
    with pytest.raises(InvalidInputError, match=r"odd\.npz: got ValueError: labels is no array"):
        read_arrays(npz(tmp_path / "odd.npz", labels=b"hello"), ("labels",))
    np.save(tmp_path / "alone.npy", np.arange(3))
    with pytest.raises(InvalidInputError, match=r"alone\.npy: got .*expected a whole \.npz file"):
        read_arrays(tmp_path / "alone.npy", ("labels",))
    with pytest.raises(InvalidInputError, match=r"absent\.npz: got No such file or directory, expected"):
        read_arrays(tmp_path / "absent.npz", ("labels",))


def test_a_chunk_that_would_take_gigabytes_is_refused(tmp_path, build_street):
    file = tmp_path / "chunk_0000.npz"
    write_chunk(arrays_of(build_street(frames=2)), file)
    claim(file, "labels", 2**31)
    with pytest.raises(InvalidInputError, match=r"chunk_0000\.npz labels: got 2147483648 bytes"):
        read_chunk(file, CARLASC_GRID, CARLASC)
    claim(file, "times_us", 2**31)
    with pytest.raises(InvalidInputError, match=r"chunk_0000\.npz times_us: got 2147483648 bytes"):
        chunk_length(file)


def test_a_recorded_drive_that_would_take_gigabytes_is_refused(tmp_path, write_recording):
    ones = np.ones(CARLASC_GRID.shape, np.uint8)
    folder = write_recording(tmp_path / "rec", ones, ones.astype(np.float32), 2)
    claim(folder / "drive_00000.npz", "actor_id", 2**31)
    with pytest.raises(InvalidInputError, match=r"drive_00000\.npz actor_id: got 2147483648 bytes"):
        Recording.open(folder).drives[0].arrays()


def test_static_cells_that_would_take_many_gigabytes_are_refused(tmp_path):
    file = tmp_path / "static.npz"
    np.savez_compressed(file, labels=np.zeros((2, 2, 2), np.uint8), origin_world_m=np.zeros(3), voxel_size_m=np.ones(3))
    assert read_static_map(file).voxel_size_m == (1, 1, 1)
    claim(file, "labels", 2**33)
    with pytest.raises(InvalidInputError, match=r"static\.npz labels: got 8589934592 bytes"):
        read_static_map(file)
