"""Claims about captures on disk: what is written is read back, and what is damaged is refused."""

import io
import json
import lzma
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from dyncity_sumo import streams
from dyncity_sumo.actors import no_actors
from dyncity_sumo.capture_columns import DriveNotes, captures_of, columns_of
from dyncity_sumo.captures import Captures, new_captures
from dyncity_sumo.columns import empty_columns
from dyncity_sumo.scenery import Scenery
from dyncity_sumo.shots import ACTOR_COLUMNS, Capture, Shot, actors_of, pose_of
from dyncity_sumo.streams import packed, unpacked
from hypothesis import given
from hypothesis import strategies as st

from dyncity_sim.dataset.store import RecordingMeta
from dyncity_sim.domain.grid import CARLASC_GRID
from dyncity_sim.errors import InvalidInputError

META = RecordingMeta("test", 1, CARLASC_GRID, "", "SUMO", {"burst": 3})
NET = b"""<?xml version="1.0"?>
<!-- generated on a Monday -->
<net><location netOffset="0,0"/><edge id="a"><lane id="a_0" speed="14" shape="0,0 99,0"/></edge></net>
"""
SCENERY = Scenery(empty_columns(np.zeros(2), np.ones(2)), no_actors())


def capture(rng: np.random.Generator, frames: int = 3, actors: int = 4) -> Capture:
    """An ego and actors that go straight on, with a few of them in view at a time."""
    start, step = rng.integers(-(10**6), 10**6, (2, 4)) // [[1, 1, 1, 1], [1000, 1000, 1000, 1000]]
    table = {name: np.sort(rng.choice(900, actors, replace=False)) + 1 for name in ACTOR_COLUMNS}
    table["kind"] %= 7
    shots = []
    for frame in range(frames):
        in_view = rng.random(actors) < 0.7
        shown = {name: column[in_view] + 5 * frame * (name in ("x", "y")) for name, column in table.items()}
        shots.append(Shot(pose_of((start + frame * step) % 2**15), actors_of(shown), 100_000 * (frame + 1)))
    return Capture(tuple(shots), int(rng.integers(1, 2**16)), "own", "turning")


def same(first: Sequence[Capture], second: Sequence[Capture]) -> bool:
    return [as_bytes(c) for c in first] == [as_bytes(c) for c in second]


def as_bytes(capture: Capture) -> list[object]:
    arrays = [
        array.tobytes()
        for shot in capture.shots
        for array in (shot.pose_world_from_ego, *(getattr(shot.actors, f) for f in shot.actors.__dataclass_fields__))
    ]
    times = [shot.time_us for shot in capture.shots]
    return [arrays, times, capture.ego_id, capture.ego_kind, capture.manoeuvre]


def notes_of(captures: Sequence[Capture]) -> list[DriveNotes]:
    return [DriveNotes(len(c.shots), c.ego_id, c.ego_kind, c.manoeuvre) for c in captures]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with new_captures(tmp_path / "captures", META) as writer:
        for seed in (10, 11):
            drives = [capture(np.random.default_rng([seed, drive])) for drive in range(3)]
            writer.write_town(seed, NET, SCENERY, drives)
    return tmp_path / "captures"


int64s = st.integers(-(2**63), 2**63 - 1)


@given(st.dictionaries(st.sampled_from(["a", "b_c"]), st.lists(st.one_of(st.integers(-9, 9), int64s))))
def test_columns_of_any_whole_numbers_come_back_from_their_stream(lists: dict[str, list[int]]) -> None:
    columns = {name: np.array(values, dtype=np.int64) for name, values in lists.items()}
    stream = packed(columns)
    assert stream == packed(columns)
    read = unpacked(stream)
    assert {name: column.tolist() for name, column in read.items()} == lists


@given(st.integers(0, 2**32), st.lists(st.tuples(st.integers(1, 6), st.integers(0, 5)), min_size=1, max_size=4))
def test_captures_of_any_length_come_back_from_their_columns(seed: int, sizes: list[tuple[int, int]]) -> None:
    rng = np.random.default_rng(seed)
    captures = [capture(rng, frames, actors) for frames, actors in sizes]
    assert same(captures_of(columns_of(captures), notes_of(captures)), captures)


def test_a_folder_is_read_back_as_it_was_written(folder: Path) -> None:
    captures = Captures.open(folder)
    assert captures.meta == META
    assert len(captures) == 18
    assert [town.seed for town in captures.towns] == [10, 11]
    for town in captures.towns:
        town.check()
        assert same(town.captures(), [capture(np.random.default_rng([town.seed, drive])) for drive in range(3)])
        assert [lane.id for lane in town.streets().lanes] == ["a_0"]
        assert town.scenery_crc32 == SCENERY.checksum()


def test_towns_of_one_map_share_its_network_whatever_the_time_of_day(tmp_path: Path) -> None:
    with new_captures(tmp_path / "captures", META) as writer:
        for day in (b"Monday", b"Tuesday"):
            writer.write_town(1, NET.replace(b"Monday", day), SCENERY, [capture(np.random.default_rng(0))])
        writer.write_town(1, NET.replace(b"99", b"98"), SCENERY, [capture(np.random.default_rng(0))])
    names = [town.network_file.name for town in Captures.open(tmp_path / "captures").towns]
    assert names[0] == names[1] != names[2]
    assert len(list((tmp_path / "captures").glob("network_*"))) == 2


def test_a_frame_of_steady_traffic_takes_a_few_bytes() -> None:
    captures = [capture(np.random.default_rng(seed), frames=40, actors=8) for seed in range(50)]
    assert len(packed(columns_of(captures))) / 2000 < 30


def test_nothing_is_left_under_the_name_when_capturing_fails(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="array"), new_captures(tmp_path / "captures", META) as writer:
        writer.write_town(1, NET, SCENERY, [])
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_holds_no_captures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"captures: got .*, expected a folder with captures\.json\. Make one"):
        Captures.open(tmp_path)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda d: d.update(version=2), "version 2, expected dyncity-captures version 1"),
        (lambda d: d.update(format="dyncity-recording"), "dyncity-recording version 1"),
        (lambda d: d.pop("towns"), "KeyError"),
        (lambda d: d.update(towns=[]), "no towns"),
        (lambda d: d["towns"][0].update(file="../town_00000.npz.xz"), "beside"),
        (lambda d: d["towns"][0]["drives"][0].update(frames=0), "drive of 0 frames"),
        (lambda d: d["towns"][0]["drives"][0].pop("manoeuvre"), "manoeuvre"),
    ],
)
def test_a_description_of_something_else_is_refused(
    folder: Path, change: Callable[[dict[str, object]], object], complaint: str
) -> None:
    file = folder / "captures.json"
    described = json.loads(file.read_text())
    change(described)
    file.write_text(json.dumps(described))
    with pytest.raises(InvalidInputError, match=complaint):
        Captures.open(folder)


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def garbled(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes(255 - byte for byte in content[middle : middle + 4]) + content[middle + 4 :]


@pytest.mark.parametrize("pattern", ["network_*", "town_00001.npz.xz"])
@pytest.mark.parametrize("damage", [cut, garbled, lambda _: b"", lambda _: lzma.compress(b"something else")])
def test_a_damaged_file_is_refused_by_name(folder: Path, pattern: str, damage: Callable[[bytes], bytes]) -> None:
    file = next(folder.glob(pattern))
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(InvalidInputError, match=f"{file.name}.*copy it again"):
        Captures.open(folder).towns[1].check()


def packed_zeros() -> bytes:
    """A megabyte that is packed twice, so that there is little to unpack from the outer packing."""
    content = io.BytesIO()
    np.savez_compressed(content, frame_x=np.zeros((1, 2**21), np.uint8))
    return lzma.compress(content.getvalue())


@pytest.mark.parametrize(
    ("pattern", "content"),
    [
        ("network_*", lzma.compress(bytes(2**21))),
        ("town_00001.npz.xz", lzma.compress(bytes(2**21))),
        ("town_00001.npz.xz", packed_zeros()),
    ],
)
def test_a_file_that_holds_more_than_any_town_is_refused_before_all_of_it_is_unpacked(
    folder: Path, monkeypatch: pytest.MonkeyPatch, pattern: str, content: bytes
) -> None:
    monkeypatch.setattr(streams, "MOST_BYTES", 2**20)
    file = next(folder.glob(pattern))
    file.write_bytes(content)
    with pytest.raises(InvalidInputError, match=rf"{file.name}: .*more than 1048576"):
        Captures.open(folder).towns[1].check()


def test_a_missing_file_is_refused_by_name(folder: Path) -> None:
    (folder / "town_00001.npz.xz").unlink()
    with pytest.raises(InvalidInputError, match=r"town_00001.npz.xz.*No such file"):
        Captures.open(folder).towns[1].check()


@pytest.mark.parametrize(
    ("name", "value"), [("actor_id", 0), ("actor_kind", 99), ("actor_frame", 3), ("actor_width", 0)]
)
def test_an_actor_that_cannot_be_is_refused(name: str, value: int) -> None:
    captures = [capture(np.random.default_rng(1))]
    columns = columns_of(captures)
    columns[name][0] = value
    with pytest.raises(ValueError, match=name):
        captures_of(columns, notes_of(captures))


@pytest.mark.parametrize("name", ["frame_x", "frame_time_us", "actor_yaw"])
def test_columns_of_different_lengths_are_refused(name: str) -> None:
    captures = [capture(np.random.default_rng(1))]
    columns = columns_of(captures)
    columns[name] = columns[name][1:]
    with pytest.raises(ValueError, match=name):
        captures_of(columns, notes_of(captures))
