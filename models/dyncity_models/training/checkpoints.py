"""Checkpoints of runs: written whole or not at all, of finite weights alone, and refused when damaged."""

import io
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from dyncity_models.plain_checkpoints import load_plain
from dyncity_models.stored import check_finite
from dyncity_sim.errors import CheckpointError
from dyncity_sim.files import write_bytes


class WholeCheckpoints(TorchCheckpointIO):
    """Checkpoints that appear under their name only when they are whole.

    Lightning's own are written in the folder for temporary files and moved from there, which between two file systems
    is a copy: killed, or on a full disk, it would leave half a checkpoint in the place of the one that was there.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint.

        Raises:
            CheckpointError: weights are not finite; what was there before stays, to go on from.
            StorageError: the disk is full, or the folder may not be written to; what was there before stays.
        """
        for key in ("state_dict", "current_model_state"):
            check_finite(Path(path).name, checkpoint.get(key, {}))
        content = io.BytesIO()
        torch.save(checkpoint, content)
        write_bytes(content.getvalue(), Path(path))

    def load_checkpoint(self, path: str | Path, *arguments: Any, **options: Any) -> dict[str, Any]:
        """See ``read_checkpoint``."""
        return read_checkpoint(Path(path))


def read_checkpoint(file: Path) -> dict[str, Any]:
    """A checkpoint of a run, on the CPU. Nothing in it is run: it holds tensors and containers of plain values.

    Raises:
        CheckpointError: it is no checkpoint, damaged, or asks for anything else.
    """
    try:
        found = load_plain(file)
    except CheckpointError as error:
        raise CheckpointError(
            "run.out",
            f"{file}: {error.got}",
            "a whole checkpoint of tensors and plain values",
            "Nothing in it was run. Remove it to begin anew, or put an older one in its place.",
        ) from error
    if not isinstance(found, dict) or "global_step" not in found:
        raise CheckpointError("run.out", str(file), "a checkpoint of a run")
    return found
