"""What ``dyncity view`` looks at: a drive or a scene, with its actors and its words."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dyncity_sim.cli.steps import Steps
from dyncity_sim.dataset.drives import LoadedDrive, open_drive
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.domain.scene import Scene, Track
from dyncity_sim.scene.actors.find import find_tracks
from dyncity_sim.scene.package.read import read_provenance, read_scene


@dataclass(frozen=True, eq=False)
class Shown:
    """What is looked at.

    Attributes:
        name: title, fit for a file name.
        facts: (term, value) pairs under the title.
        drive: a drive or a scene.
        tracks: its actors.
        attribution: credit that the map asks for.
    """

    name: str
    facts: tuple[tuple[str, str], ...]
    drive: LoadedDrive | Scene
    tracks: tuple[Track, ...]
    attribution: str

    def __len__(self) -> int:
        return len(self.drive.times_us if isinstance(self.drive, Scene) else self.drive.occupancy)


def is_scene(path: Path) -> bool:
    """Whether a folder holds a scene itself, not a drive with one."""
    return (path / "scene.json").is_file()


def shown_scene(path: Path, tell: Steps) -> Shown:
    """A scene; raises InvalidInputError where it is damaged."""
    scene = tell.once("opening", lambda: read_scene(path))
    facts = (("frames", f"{len(scene.times_us)}, {scene.rate_hz:g} Hz"), ("actors", f"{len(scene.tracks)}"))
    return Shown(_scene_name(path), facts, scene, scene.tracks, read_provenance(path).attribution)


def shown_drive(path: Path, sequence: int, start: int, frames: int | None, tell: Steps) -> Shown:
    """A drive with its actors: the true ones, those of the scene beside it, or those that are found in it.

    Raises:
        InvalidInputError: nothing that is known in the folder, a damaged file, or frames that are not there.
    """
    drive = tell.once("opening", lambda: open_drive(path, sequence, start, frames))
    tracks, whole = drive.tracks, path.resolve()
    if tracks is None:
        beside = whole.with_name("scene") if whole.name == "occupancy" else whole / "scene"
        if is_scene(beside):
            tracks = tuple(track for track in read_scene(beside).tracks if _is_in(track, drive.occupancy))
        else:
            tracks = tell.once("tracks", lambda: find_tracks(drive.occupancy))
    model, last = drive.provenance.model_id, start + len(drive.occupancy) - 1
    facts = (
        ("model", model) if model else ("data set", whole.name),
        ("frames", f"{start} to {last}, {drive.rate_hz:g} Hz"),
        ("actors", f"{len(tracks)}"),
    )
    return Shown(drive.name, facts, drive, tracks, drive.provenance.attribution)


def _is_in(track: Track, occupancy: OccupancySequence) -> bool:
    return bool(np.isin(track.times_us, occupancy.times_us).any())


def _scene_name(folder: Path) -> str:
    """``out/demo/scene`` is the scene of ``demo``."""
    whole = folder.resolve()
    return f"{whole.parent.name} scene" if whole.name == "scene" else whole.name
