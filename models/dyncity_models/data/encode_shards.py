"""Drives to shards of encoded chunks: by several processes, each ahead of its device in reading, and resumable."""

import json
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from dyncity_models.data.shards import PLAN, EncodedSet, check_free, read_json, shard_folder, write_index, write_shard
from dyncity_sim.domain.conditions import Command
from dyncity_sim.errors import InvalidInputError
from dyncity_sim.files import write_text

SAMPLES_PER_SHARD = 1024
"""60 MB of the family ``anchored``."""

Read = TypeVar("Read")


@dataclass(frozen=True)
class Encoding(Generic[Read]):
    """How drives become rows.

    Attributes:
        names: of the drives, with whatever tells them from others.
        rows_per_drive: how many each becomes.
        read: what is to be encoded of the drive with that number; several threads call it.
        encode: rows of some of what was read, in order.
        at_once: how many of what was read are encoded together.
        made_with: what else the rows depend on, as JSON has it.
    """

    names: Sequence[str]
    rows_per_drive: int
    read: Callable[[int], list[Read]]
    encode: Callable[[list[Read]], dict[str, np.ndarray]]
    at_once: int
    made_with: dict[str, Any]

    def rows(self, reads: Iterable[list[Read]]) -> dict[str, np.ndarray]:
        """Rows of some drives that have been read."""
        parts = [self.encode(some) for some in _batched(chain.from_iterable(reads), self.at_once)]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


@dataclass(frozen=True)
class Part:
    """Every ``count``-th shard, from ``number`` on; the default is all of them."""

    number: int = 0
    count: int = 1

    @classmethod
    def named(cls, name: str) -> Self:
        """Of ``I/N``, where I counts from 1.

        Raises:
            InvalidInputError: no such part.
        """
        number, _, count = name.partition("/")
        if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
            raise InvalidInputError("part", name, "I/N with I from 1 to N, such as 2/4")
        return cls(int(number) - 1, int(count))

    def of(self, shards: int) -> range:
        """Numbers of its shards."""
        return range(self.number, shards, self.count)


WHOLE = Part()


@dataclass(frozen=True)
class Encoded:
    """What a call has left behind.

    Attributes:
        rows: of the shards that are there.
        to_come: shards that are left to other parts.
    """

    rows: EncodedSet
    to_come: int

    @property
    def counts(self) -> dict[str, int]:
        """Rows by command, and ``shards to come`` unless there are none."""
        total = sum(np.bincount(commands, minlength=len(Command)) for commands in self.rows.arrays("command"))
        by_command = dict(zip((c.value for c in Command), np.broadcast_to(total, len(Command)).tolist(), strict=True))
        return by_command | ({"shards to come": self.to_come} if self.to_come else {})


def encode_shards(
    folder: Path,
    encoding: Encoding[Any],
    describe: Callable[[EncodedSet], dict[str, Any]],
    samples: int = SAMPLES_PER_SHARD,
    part: Part = WHOLE,
    threads: int = 1,
) -> Encoded:
    """Make the shards of one part that are not there yet, and the index once all parts have made theirs.

    A shard holds whole drives and depends on nothing but them, so that neither being stopped nor the number of
    processes changes a byte.

    Args:
        folder: where to; it may hold shards of an earlier call or of other parts.
        encoding: of the drives.
        describe: what the index is to say of the set when it is whole.
        samples: most rows of a shard, unless a single drive has more.
        part: whose shards to make.
        threads: that read drives ahead.

    Raises:
        InvalidInputError: ``folder`` holds a whole set, or one that was begun in another way; or no shard can be
            as small as that.
    """
    check_free(folder)
    if samples < 1:
        raise InvalidInputError("samples-per-shard", samples, "at least 1")
    drives_per_shard = max(1, samples // encoding.rows_per_drive)
    firsts = range(0, len(encoding.names), drives_per_shard)
    drives = [range(first, min(first + drives_per_shard, len(encoding.names))) for first in firsts]
    _begin(folder, {**encoding.made_with, "drives_per_shard": drives_per_shard, "drives": list(encoding.names)})
    todo = [number for number in part.of(len(drives)) if not shard_folder(folder, number).is_dir()]
    _encode(folder, encoding, {number: drives[number] for number in todo}, threads)
    folders = [shard_folder(folder, number) for number in range(len(drives))]
    made = EncodedSet(folder, tuple(shard for shard in folders if shard.is_dir()), {})
    if len(made.shards) == len(drives):
        made = replace(made, described=describe(made))
        write_index(made)
        for leftover in folder.glob(".shard-*.part"):
            shutil.rmtree(leftover, ignore_errors=True)
    return Encoded(made, len(drives) - len(made.shards))


def _begin(folder: Path, plan: dict[str, Any]) -> None:
    file = folder / PLAN
    if not file.is_file():
        write_text(json.dumps(plan, indent=1) + "\n", file)
    begun = read_json(file)
    for name, value in plan.items():
        if begun.get(name) == value:
            continue
        got, expected = ("others", f"those of {file}") if name == "drives" else (value, begun.get(name))
        raise InvalidInputError(
            name, got, f"{expected}, with which {folder} was begun", "Encode as before, or remove the folder."
        )


def _encode(folder: Path, encoding: Encoding[Read], shards: dict[int, range], threads: int) -> None:
    columns = TextColumn("encoding"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with _cancelling(ThreadPoolExecutor(max_workers=max(threads, 1))) as pool, Progress(*columns) as progress:
        task = progress.add_task("encoding", total=sum(map(len, shards.values())))
        futures = (pool.submit(encoding.read, drive) for drive in chain.from_iterable(shards.values()))

        def shown(reads: Iterable[list[Read]]) -> Iterator[list[Read]]:
            for read in reads:
                yield read
                progress.advance(task)

        # One stream for all shards: the drives of the next one are read while this one is encoded and written.
        reads = _ahead(futures, 4 * max(threads, 1))
        for number, drives in shards.items():
            write_shard(folder, number, encoding.rows(shown(islice(reads, len(drives)))))


@contextmanager
def _cancelling(pool: ThreadPoolExecutor) -> Iterator[ThreadPoolExecutor]:
    """A pool that forgets what it has not begun, so that an interrupted call does not first read all that is ahead."""
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _ahead(futures: "Iterable[Future[list[Read]]]", count: int) -> Iterator[list[Read]]:
    """Results in order, with at most ``count`` futures started ahead."""
    started: deque[Future[list[Read]]] = deque()
    for future in futures:
        started.append(future)
        if len(started) >= count:
            yield started.popleft().result()
    while started:
        yield started.popleft().result()


def _batched(items: Iterable[Read], size: int) -> Iterator[list[Read]]:
    remaining = iter(items)
    while some := list(islice(remaining, size)):
        yield some
