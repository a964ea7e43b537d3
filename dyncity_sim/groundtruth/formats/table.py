"""The label formats by name: what writes each, and what it needs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from dyncity_sim.errors import InvalidInputError, MissingExtraError
from dyncity_sim.groundtruth.formats.join import move
from dyncity_sim.groundtruth.formats.writer import Join, OpenWriter


@dataclass(frozen=True)
class LabelFormat:
    """One format.

    Attributes:
        name: as the command line says it.
        opener: its OpenWriter, as ``module:function`` of this package; imported when it is asked for.
        holds: what it holds, in a few words.
        joiner: its Join, said alike; empty where each drive has a file of its own.
        own_grid: grid that it is published with and can be resampled to; None where it takes any.
        suffix: of the one file it is; empty for a folder.
        extra: extra that installs what it imports; None where the core does.
    """

    name: str
    opener: str
    holds: str
    joiner: str = ""
    own_grid: str | None = None
    suffix: str = ""
    extra: str | None = None

    def open_writer(self, resample: bool = False) -> OpenWriter:
        """Its OpenWriter.

        Raises:
            InvalidInputError: ``resample`` for a format without a grid of its own.
            MissingExtraError: a package that it needs is not installed.
        """
        if resample and self.own_grid is None:
            raise InvalidInputError(f"resample for {self.name}", "nearest", "no resampling: it has no grid of its own")
        opener = self._imported(self.opener)
        return partial(opener, resample=True) if resample else opener

    def place(self, out: Path, drive_name: str) -> Path:
        """What it writes in a folder of exports: its own subfolder, or one file in it."""
        return out / self.name / f"{drive_name}{self.suffix}" if self.suffix else out / self.name

    def join(self, parts: Mapping[str, Path], out: Path) -> None:
        """Move what it wrote of each drive, in a folder of exports for each by the drive's name, into one such folder.

        Raises:
            OSError: something could not be moved or written.
        """
        places = [self.place(part, name) for name, part in parts.items()]
        if self.joiner and len(places) > 1:
            join: Join = self._imported(self.joiner)
            join(places, out / self.name)
        else:
            for name, place in zip(parts, places, strict=True):
                move(place, self.place(out, name))

    def _imported(self, function: str) -> Any:
        module, name = function.split(":")
        try:
            return getattr(import_module(f"{__package__}.{module}"), name)
        except ImportError as error:
            if self.extra is None or error.name is None:
                raise
            raise MissingExtraError(error.name.split(".")[0], self.extra, f"The format {self.name}") from error


FORMATS: dict[str, LabelFormat] = {
    form.name: form
    for form in (
        LabelFormat("carlasc", "write_carlasc:open_carlasc", "voxels, points, boxes", "join:join_folders"),
        LabelFormat(
            "occ3d",
            "write_occ3d:open_occ3d",
            "voxels, masks, flow, BEV",
            "write_occ3d:join_occ3d",
            own_grid="200 x 200 x 16 of 0.4 m",
        ),
        LabelFormat(
            "semantickitti",
            "write_semantickitti:open_semantickitti",
            "scans, completion voxels, boxes",
            "write_semantickitti:join_semantickitti",
            own_grid="256 x 256 x 32 of 0.2 m",
        ),
        LabelFormat(
            "nuscenes",
            "write_nuscenes:open_nuscenes",
            "tables, scans with lidarseg, pictures, boxes, a map",
            "write_nuscenes:join_nuscenes",
        ),
        LabelFormat("kitti", "write_kitti:open_kitti", "tracked boxes in a camera, scans", "write_kitti:join_kitti"),
        LabelFormat("mcap", "write_mcap:open_mcap", "everything, for Foxglove", suffix=".mcap", extra="export"),
        LabelFormat(
            "webdataset",
            "write_webdataset:open_webdataset",
            "everything, in tar shards",
            "write_webdataset:join_webdataset",
            extra="export",
        ),
    )
}
"""All formats by name."""


def formats_named(names: Sequence[str]) -> list[LabelFormat]:
    """The formats of these names, in their order.

    Raises:
        InvalidInputError: an unknown name, one named twice, or none.
    """
    for name in names:
        if name not in FORMATS or names.count(name) > 1:
            raise InvalidInputError("format", repr(name), f"each of {', '.join(FORMATS)} at most once")
    if not names:
        raise InvalidInputError("format", "none", f"some of {', '.join(FORMATS)}")
    return [FORMATS[name] for name in names]
