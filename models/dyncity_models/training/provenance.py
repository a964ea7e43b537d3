"""What code a checkpoint is from."""

import json
import subprocess
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback

import dyncity_sim
from dyncity_sim.config import save_config
from dyncity_sim.files import whole_file, write_text


@dataclass(frozen=True)
class Provenance:
    """Code that runs.

    Attributes:
        commit: of the git checkout that the code lies in; None when it is installed, or there is no git.
        dirty: whether files that git tracks differ from that commit; None without one.
        versions: of this project and of the packages that training depends on.
    """

    commit: str | None
    dirty: bool | None
    versions: dict[str, str]


def provenance_of(file: Path) -> Provenance:
    """Of the code that ``file`` is part of; a checkout counts only when it tracks that file."""
    versions = {"dyncity-sim": dyncity_sim.__version__} | {name: version(name) for name in ("torch", "lightning")}
    if _git(file, "ls-files", "--error-unmatch", file.name) is None:
        return Provenance(None, None, versions)
    commit, changes = _git(file, "rev-parse", "HEAD"), _git(file, "status", "--porcelain", "--untracked-files=no")
    return Provenance(commit, None if changes is None else bool(changes), versions)


def _git(file: Path, *arguments: str) -> str | None:
    """What git prints in the folder of ``file``, or None where it fails or is missing."""
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=file.parent, capture_output=True, text=True, check=True, timeout=60
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


class BesideCheckpoints(Callback):
    """Writes ``config.yaml`` and ``provenance.json`` beside every checkpoint.

    Both say what the newest checkpoint was made with: a run can go on under other code.

    Args:
        folder: of the checkpoints.
        config: the run's resolved configuration.
        provenance: of the running code.
    """

    def __init__(self, folder: Path, config: object, provenance: Provenance) -> None:
        self.folder, self.config, self.provenance = folder, config, provenance

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Write both, in the first process alone."""
        if trainer.is_global_zero:
            with whole_file(self.folder / "config.yaml") as temporary:
                save_config(self.config, temporary)
            write_text(json.dumps(asdict(self.provenance), indent=2) + "\n", self.folder / "provenance.json")
