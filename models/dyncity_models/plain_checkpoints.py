"""Checkpoints of PyTorch as tensors, containers and plain values alone: no pickle is run, and damage is seen."""

import collections
import pickle
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy._core.multiarray import scalar

from dyncity_sim.errors import CheckpointError


def load_plain(file: Path) -> Any:
    """What a file holds, on the CPU.

    Raises:
        CheckpointError: it cannot be read, is damaged, asks for anything else, or would take more memory than it has
            bytes.
    """
    try:
        _check_archive(file)
        with torch.serialization.safe_globals(_allowed()), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Detected pickle protocol")
            return torch.load(file, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except pickle.UnpicklingError as error:
        wanted = re.search(r"(?:GLOBAL |global |but got <class ')([\w.]+)", str(error))
        got = f"a file that asks for {wanted[1]}" if wanted else "a file that is not a checkpoint"
        raise CheckpointError(
            file.name, got, "tensors, containers and numpy scalars", "Nothing in it was run. Do not trust its source."
        ) from error
    except Exception as error:  # torch reports damaged archives by RuntimeError, EOFError, KeyError, OSError, ...
        raise CheckpointError(
            file.name, f"{type(error).__name__} while reading", "a whole checkpoint", "It is truncated or damaged."
        ) from error


def _check_archive(file: Path) -> None:
    """Tensors lie in an archive as they are: entries that say more than the file holds are packed, or overlap.

    Their checksums, which torch does not look at, tell weights from what a damaged disk makes of them.
    """
    if not zipfile.is_zipfile(file):
        return
    with zipfile.ZipFile(file) as archive:
        unpacked, size = sum(entry.file_size for entry in archive.infolist()), file.stat().st_size
        if unpacked > size:
            raise CheckpointError(
                file.name,
                f"{size} bytes that are {unpacked} unpacked",
                "an archive without compression, as torch.save writes",
            )
        damaged = archive.testzip()
    if damaged is not None:
        raise CheckpointError(
            f"{file.name}: {damaged}", "a wrong checksum", "what was written", "It is damaged: copy it anew."
        )


def _allowed() -> list[Any]:
    # ``best_miou`` is a numpy scalar, whose module numpy 1 spells otherwise than numpy 2; a scheduler has a Counter.
    numbers = "?" + np.typecodes["AllInteger"] + np.typecodes["AllFloat"]
    kinds = sorted({type(np.dtype(kind)) for kind in numbers}, key=str)
    return [
        (scalar, "numpy._core.multiarray.scalar"),
        (scalar, "numpy.core.multiarray.scalar"),
        np.dtype,
        *kinds,
        collections.Counter,
    ]
