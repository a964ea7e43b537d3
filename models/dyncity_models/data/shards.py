"""Encoded chunks on disk: flat arrays in shards, and an index that makes one set of them.

::

    latents.json            index, written last: a folder that has it is whole
    encoding.json           what the rows depend on, written first
    shard-00000/NAME.npy    rows of the first drives
    shard-00001/NAME.npy    ...
"""

import json
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dyncity_sim.errors import InvalidInputError
from dyncity_sim.files import whole_folder, write_text

INDEX = "latents.json"
PLAN = "encoding.json"
ROWS = "rows"
"""Key of the index: rows of each shard."""

_COUNTED = "command"
"""The array whose rows are counted: all sets have it."""


@dataclass(frozen=True, eq=False)
class EncodedSet:
    """The rows of some shards, one after the other; arrays are mapped into memory, not read.

    Attributes:
        folder: where they lie.
        shards: a folder each, in order.
        described: what the index says besides.
    """

    folder: Path
    shards: tuple[Path, ...]
    described: dict[str, Any]

    @classmethod
    def open(cls, folder: Path) -> "EncodedSet":
        """What ``dyncity encode`` wrote; before there were shards, the folder itself was the only one.

        Raises:
            InvalidInputError: ``folder`` has no index, a damaged one, or not the rows that it tells of.
        """
        file = folder / INDEX
        if not file.is_file():
            raise InvalidInputError("latents", str(folder), "a folder written by dyncity encode", "Run dyncity encode.")
        described = read_json(file)
        if ROWS not in described:
            return cls(folder, (folder,), described)
        rows = described.pop(ROWS)
        if not isinstance(rows, list):
            got = f"{file}: {ROWS} is {type(rows).__name__}"
            raise InvalidInputError("latents", got, "a list", "Run dyncity encode.")
        opened = cls(folder, tuple(shard_folder(folder, number) for number in range(len(rows))), described)
        if opened.rows != rows:
            raise InvalidInputError("latents", f"{folder} with {opened.rows} rows", f"{rows}", "Run dyncity encode.")
        return opened

    @cached_property
    def made_with(self) -> dict[str, Any]:
        """What the rows depend on; before there were shards, nothing told it."""
        file = self.folder / PLAN
        return read_json(file) if file.is_file() else {}

    @cached_property
    def rows(self) -> list[int]:
        """Of each shard."""
        return [len(array) for array in self.arrays(_COUNTED)]

    def __len__(self) -> int:
        """Rows in all."""
        return sum(self.rows)

    def __contains__(self, name: str) -> bool:
        """Whether every shard has an array of that name."""
        return all((shard / f"{name}.npy").is_file() for shard in self.shards)

    def arrays(self, name: str) -> list[np.ndarray]:
        """That array of each shard, mapped into memory.

        Raises:
            InvalidInputError: a shard has none, not the whole, another number of rows, or rows of another shape.
        """
        arrays = [_mapped(shard / f"{name}.npy") for shard in self.shards]
        if name != _COUNTED and [len(array) for array in arrays] != self.rows:
            got = f"{self.folder} with {[len(array) for array in arrays]} rows of {name}"
            raise InvalidInputError("latents", got, f"{self.rows}, as of {_COUNTED}", "Run dyncity encode.")
        if len(rows := {(array.shape[1:], str(array.dtype)) for array in arrays}) > 1:
            got = f"{self.folder} with rows of {name} of {sorted(rows)}"
            raise InvalidInputError("latents", got, "rows of one shape and type", "Run dyncity encode.")
        return arrays

    def tensor(self, name: str, device: torch.device) -> Tensor:
        """All rows of an array in the memory of a device."""
        arrays = [torch.from_numpy(array) for array in self.arrays(name)]
        whole = torch.empty((len(self), *arrays[0].shape[1:]), dtype=arrays[0].dtype, device=device)
        for array, (start, stop) in zip(arrays, pairwise(accumulate(self.rows, initial=0)), strict=True):
            whole[start:stop] = array
        return whole

    def every(self, name: str, stride: int) -> np.ndarray:
        """Rows 0, ``stride``, 2 ``stride`` and so on of an array, counted over all shards."""
        starts = accumulate(self.rows[:-1], initial=0)
        arrays = zip(self.arrays(name), starts, strict=True)
        return np.concatenate([array[-start % stride :: stride] for array, start in arrays])


def read_json(file: Path) -> dict[str, Any]:
    """What an index or a plan says; InvalidInputError where it is damaged."""
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidInputError("latents", f"{file}: {error}", "a JSON object", "Run dyncity encode.") from error
    if not isinstance(said, dict):
        raise InvalidInputError("latents", f"{file}: {type(said).__name__}", "a JSON object", "Run dyncity encode.")
    return said


def shard_folder(folder: Path, number: int) -> Path:
    """Where a shard lies."""
    return folder / f"shard-{number:05d}"


def write_shard(folder: Path, number: int, rows: dict[str, np.ndarray]) -> None:
    """Write arrays that have a row each for the same samples, as a shard that appears when it is whole."""
    with whole_folder(shard_folder(folder, number)) as partial:
        for name, array in rows.items():
            np.save(partial / f"{name}.npy", array)


def write_index(encoded: EncodedSet) -> None:
    """Make one set of shards that are all there."""
    write_text(json.dumps(encoded.described | {ROWS: encoded.rows}, indent=2), encoded.folder / INDEX)


def check_free(folder: Path) -> None:
    """Raise InvalidInputError where an encoded data set lies already."""
    if (folder / INDEX).exists():
        raise InvalidInputError(
            "out", str(folder), "a folder without an encoded data set", "Choose another or remove it."
        )


def _mapped(file: Path) -> np.ndarray:
    try:
        # Copy on write, because PyTorch warns of arrays that cannot be written to.
        array: np.ndarray = np.lib.format.open_memmap(file, mode="c")
    except (OSError, ValueError) as error:
        raise InvalidInputError("latents", f"{file}: {error}", "a whole array", "Run dyncity encode.") from error
    return array
