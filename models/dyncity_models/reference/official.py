"""Reads what the published trainers write: ``conf.yaml`` beside pickled checkpoints, without running a pickle."""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor
from yaml import YAMLError

from dyncity_models.plain_checkpoints import load_plain
from dyncity_sim.errors import CheckpointError

CHECKPOINT = re.compile(r"last\.ckpt|\d+_mIoU_(\d+(\.\d+)?(e[+-]\d+)?|nan)\.ckpt|\d+\.ckpt")
"""File names that the published trainers give to checkpoints; scores stand in them as Python prints numbers."""

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)

WRAPPERS = ("module.", "_orig_mod.")
"""What data parallelism and compilation put before the name of every tensor of what they wrap."""


@dataclass(frozen=True, eq=False)
class OfficialRun:
    """One run folder of the published trainers.

    Attributes:
        conf: its ``conf.yaml``; sections are resolved by ``resolved``.
        checkpoint: the file that ``tensors`` come from.
        tensors: published name to weights; of a transformer those averaged over training.
    """

    conf: Mapping[str, Any]
    checkpoint: Path
    tensors: Mapping[str, Tensor]

    @property
    def is_transformer(self) -> bool:
        """Whether it is a run of the diffusion transformer, which names the autoencoder it was trained with."""
        return "vae_name" in self.conf


def read_run(folder: Path, checkpoint: str | None = None) -> OfficialRun:
    """Read a run folder.

    Args:
        folder: holds ``conf.yaml`` and checkpoints.
        checkpoint: name of the file to take; ``last.ckpt`` by default, or the only other one.

    Raises:
        CheckpointError: a file is missing, truncated, or holds something other than weights.
    """
    conf = _read_conf(folder / "conf.yaml")
    file = _choose(folder, checkpoint)
    saved = load_plain(file)
    # Sampling uses the averaged weights; `model_state_dict` of a transformer are the raw ones.
    entry = "ema" if "vae_name" in conf else "model_state_dict"
    tensors = saved.get(entry) if isinstance(saved, dict) else None
    if not isinstance(tensors, dict) or not tensors:
        raise CheckpointError(f"{file.name}: {entry}", _contents(saved), f"a checkpoint with the entry {entry!r}")
    weights = {}
    for name, value in tensors.items():
        if not isinstance(value, Tensor):
            raise CheckpointError(f"{file.name}: {entry}.{name}", type(value).__name__, "a tensor")
        if value.dtype not in DTYPES or value.layout != torch.strided or value.is_meta or not isinstance(name, str):
            got = f"{value.dtype} in layout {value.layout}" + " with no values" * value.is_meta
            raise CheckpointError(f"{file.name}: {entry}.{name}", got, "a dense tensor of floating point numbers")
        weights[name] = value.detach()
    return OfficialRun(conf, file, _unwrapped(weights))


def _unwrapped(weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    while prefix := next((p for p in WRAPPERS if all(name.startswith(p) for name in weights)), None):
        weights = {name.removeprefix(prefix): value for name, value in weights.items()}
    return weights


def _contents(saved: Any) -> str:
    if not isinstance(saved, dict):
        return type(saved).__name__
    names = [str(name)[:80] for name in saved]
    return ", ".join(names[:6]) + f" and {len(names) - 6} more" * (len(names) > 6) or "nothing"


def _choose(folder: Path, checkpoint: str | None) -> Path:
    if checkpoint is not None:
        # Any name will do, but of this folder only.
        here = Path(checkpoint).name == checkpoint or Path(checkpoint).resolve().parent == folder.resolve()
        if not here or not (folder / Path(checkpoint).name).is_file():
            got = f"no {checkpoint} in {folder}"
            raise CheckpointError("checkpoint", got, "the name of a file of the run folder")
        return folder / Path(checkpoint).name
    found = sorted(file.name for file in folder.glob("*.ckpt") if CHECKPOINT.fullmatch(file.name) and file.is_file())
    if "last.ckpt" in found:
        return folder / "last.ckpt"
    if len(found) != 1:
        raise CheckpointError(
            "checkpoint",
            f"{', '.join(found) or 'no checkpoint'} in {folder}",
            "last.ckpt, or one N_mIoU_x.ckpt or N.ckpt",
            "Choose one with --checkpoint." if found else "",
        )
    return folder / found[0]


def _read_conf(file: Path) -> Mapping[str, Any]:
    if not file.is_file():
        raise CheckpointError("run", f"no {file.name} in {file.parent}", "a run folder with conf.yaml")
    try:
        # OmegaConf, unlike plain YAML, reads `1e-3` as a number, as the published code does.
        conf = resolved(OmegaConf.load(file))
    except (OmegaConfBaseException, YAMLError, ValueError, KeyError, OSError, RecursionError) as error:
        # PyYAML converts numbers and tagged values without a look: hence the errors that are Python's own.
        raise CheckpointError(str(file), f"{type(error).__name__}: {error}", "the conf.yaml of a run") from error
    if not isinstance(conf, dict):
        raise CheckpointError(str(file), type(conf).__name__, "the conf.yaml of a run, with names and values")
    return {str(name): value for name, value in conf.items()}


def resolved(node: Any) -> Any:
    """A mapping or list of a conf with each of its values resolved; any other value as it is.

    It goes one level deep, because confs hold much that is not asked for here, and interpolations that only their
    writer could resolve. Such a value stays as it is written.
    """
    if not isinstance(node, DictConfig | ListConfig):
        return node
    written: Any = OmegaConf.to_container(node)
    for key in range(len(node)) if isinstance(node, ListConfig) else list(node):
        with suppress(OmegaConfBaseException, RecursionError):
            written[key] = node[key]
    return written


def renamed(
    file: str, tensors: Mapping[str, Tensor], pairs: Sequence[tuple[str, str]], expected: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Tensors under our names.

    Args:
        file: named in errors.
        tensors: by published name.
        pairs: published and own name of every tensor that belongs to the model.
        expected: our names, for their shapes.

    Raises:
        CheckpointError: a tensor is missing, is not part of the model, has another shape, is not finite, or would take
            more memory than it has in the file.
    """
    done = {}
    for theirs, ours in pairs:
        found, shape = tensors.get(theirs), tuple(expected[ours].shape)
        if found is None:
            raise CheckpointError(f"{file}: {theirs}", "no such tensor", f"shape {shape}")
        if tuple(found.shape) != shape:
            raise CheckpointError(
                f"{file}: {theirs}", f"shape {tuple(found.shape)}", f"shape {shape}", "It does not fit its conf.yaml."
            )
        held = found.untyped_storage().nbytes()
        if held < found.nbytes:
            raise CheckpointError(
                f"{file}: {theirs}", f"{found.nbytes} bytes out of {held}", "a value for each element"
            )
        done[ours] = found.float()
        if not done[ours].isfinite().all():
            raise CheckpointError(f"{file}: {theirs}", "infinity or NaN", "finite weights in single precision")
    unexpected = sorted(set(tensors) - {theirs for theirs, _ in pairs})
    if unexpected:
        first = unexpected[0]
        raise CheckpointError(
            f"{file}: {first}",
            f"a tensor of shape {tuple(tensors[first].shape)}"
            + (f" and {len(unexpected) - 1} more" * (len(unexpected) > 1)),
            "only tensors of the model that conf.yaml describes",
        )
    return done
