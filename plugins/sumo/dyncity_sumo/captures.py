"""Captures on disk: drives before they are rendered, some sixty bytes a frame.

A folder of captures is::

    captures.json                  format, version, how it was made, and the towns with their drives
    network_<hash>.net.xml.xz      the SUMO net of one or more towns, named after what it holds
    town_00000.npz.xz              poses, times and actors of a town's drives (see ``streams``)

From these, and the seed of each town, ``render`` makes a recording. The folder appears under its name only when it
is whole.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from dyncity_sim.dataset.store import RecordingMeta
from dyncity_sim.domain.grid import FRAME_RATE_HZ, Grid
from dyncity_sim.errors import InvalidInputError
from dyncity_sim.files import json_bytes, whole_folder
from dyncity_sumo.capture_columns import DriveNotes, captures_of, columns_of
from dyncity_sumo.netfile import parse_net
from dyncity_sumo.roads import Streets
from dyncity_sumo.scenery import Scenery
from dyncity_sumo.shots import Capture
from dyncity_sumo.streams import compressed, decompressed, packed, unpacked

FORMAT = "dyncity-captures"
FORMAT_VERSION = 1
DESCRIPTION = "captures.json"

_DAMAGED = "The file is cut off or damaged: copy it again, or capture again."


class CapturesWriter:
    """Writes captures, one town after the other; see ``new_captures``.

    Attributes:
        meta: what the captures are of; may be replaced until they are published.
    """

    def __init__(self, folder: Path, meta: RecordingMeta) -> None:
        self._folder = folder
        self._towns: list[dict[str, Any]] = []
        self.meta = meta

    def write_town(self, town_seed: int, net: bytes, scenery: Scenery, captures: Sequence[Capture]) -> None:
        """Write the captures of one town.

        Args:
            town_seed: what decides the town's scenery.
            net: content of the SUMO net that it is built around.
            scenery: what grew there; its checksum is kept.
            captures: in the order of the drives to come; at least one.
        """
        name = f"town_{len(self._towns):05d}.npz.xz"
        (self._folder / name).write_bytes(packed(columns_of(captures)))
        notes = [DriveNotes(len(c.shots), c.ego_id, c.ego_kind, c.manoeuvre) for c in captures]
        self._towns.append(
            {
                "town_seed": town_seed,
                "network": self._write_network(net),
                "scenery_crc32": scenery.checksum(),
                "file": name,
                "drives": [asdict(drive) for drive in notes],
            }
        )

    def write_description(self) -> None:
        """Say what was written: the last that is done to a folder."""
        described = {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "rate_hz": FRAME_RATE_HZ,
            **asdict(self.meta),
            "towns": self._towns,
        }
        (self._folder / DESCRIPTION).write_bytes(json_bytes(described))

    def _write_network(self, net: bytes) -> str:
        # SUMO's comments hold the time of day, which would make every net another one.
        net = re.sub(rb"<!--.*?-->\s*", b"", net, flags=re.DOTALL)
        name = network_name(net)
        if not (self._folder / name).exists():
            (self._folder / name).write_bytes(compressed(net))
        return name


@contextmanager
def new_captures(folder: Path, meta: RecordingMeta) -> Iterator[CapturesWriter]:
    """A writer of captures that are published under ``folder`` when the block succeeds.

    Raises:
        InvalidInputError: something is there already.
        StorageError: the disk is full or may not be written to.
    """
    with whole_folder(folder) as partial:
        writer = CapturesWriter(partial, meta)
        yield writer
        writer.write_description()


@dataclass(frozen=True)
class CapturedTown:
    """The captures of one town, read when asked for.

    Attributes:
        seed: what decides the town's scenery.
        network_file: its net.
        scenery_crc32: checksum of its scenery where it was captured.
        file: poses, times and actors.
        drives: in the order they were captured.
    """

    seed: int
    network_file: Path
    scenery_crc32: int
    file: Path
    drives: tuple[DriveNotes, ...]

    def streets(self) -> Streets:
        """The streets that its scenery is built around.

        Raises:
            InvalidInputError: the network's file is missing, cut off, damaged or another one.
        """
        streets, _ = parse_net(self._net(), str(self.network_file), self.network_file.name)
        return streets

    def check(self) -> None:
        """Read all files, so that a damaged one is found before hours of rendering.

        Raises:
            InvalidInputError: see ``streets`` and ``captures``.
        """
        self._net()
        self.captures()

    def _net(self) -> bytes:
        try:
            net = decompressed(self.network_file.read_bytes())
        except (OSError, ValueError) as error:
            raise InvalidInputError("network", f"{self.network_file}: {error}", "a whole xz file", _DAMAGED) from error
        if self.network_file.name != network_name(net):
            raise InvalidInputError("network", f"{self.network_file} with another net", network_name(net), _DAMAGED)
        return net

    def captures(self) -> list[Capture]:
        """All captures of the town.

        Raises:
            InvalidInputError: the file is missing, cut off or damaged, or does not fit the description.
        """
        try:
            columns = unpacked(self.file.read_bytes())
            return captures_of(columns, self.drives)
        except (OSError, KeyError, ValueError) as error:
            raise InvalidInputError("captures", f"{self.file}: {error}", "the arrays of a town", _DAMAGED) from error


@dataclass(frozen=True)
class Captures:
    """Captures on disk.

    Attributes:
        folder: where they lie.
        meta: what they are of, as a recording says it.
        towns: in the order they were captured.
    """

    folder: Path
    meta: RecordingMeta
    towns: tuple[CapturedTown, ...]

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Read the description; towns are read when asked for.

        Raises:
            InvalidInputError: no captures, or captures of another version.
        """
        file = folder / DESCRIPTION
        if not file.is_file():
            mend = "Make one: dyncity record --captures"
            raise InvalidInputError("captures", str(folder), f"a folder with {DESCRIPTION}", mend)
        try:
            described = json.loads(file.read_text(encoding="utf-8"))
            if described["format"] != FORMAT or described["version"] != FORMAT_VERSION:
                raise InvalidInputError(
                    "captures",
                    f"{file}: {described['format']} version {described['version']}",
                    f"{FORMAT} version {FORMAT_VERSION}",
                    "Render it with the release that wrote it, or capture again.",
                )
            towns = tuple(_town_of(folder, town) for town in described["towns"])
            if not towns:
                raise ValueError("no towns")
            return cls(folder, _meta_of(described), towns)
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInputError("captures", f"{file}: {error!r}", "a description of captures", _DAMAGED) from error

    def __len__(self) -> int:
        """Frames of all drives."""
        return sum(drive.frames for town in self.towns for drive in town.drives)


def _meta_of(described: Mapping[str, Any]) -> RecordingMeta:
    return RecordingMeta(
        described["map"],
        described["seed"],
        Grid(**{name: tuple(value) for name, value in described["grid"].items()}),
        described["attribution"],
        described["simulator"],
        described["options"],
    )


def _town_of(folder: Path, described: Mapping[str, Any]) -> CapturedTown:
    names = described["network"], described["file"]
    if any(Path(name).name != name for name in names):
        raise ValueError(f"files {names} are not beside it")
    drives = tuple(DriveNotes(**drive) for drive in described["drives"])
    return CapturedTown(
        described["town_seed"], folder / names[0], described["scenery_crc32"], folder / names[1], drives
    )


def network_name(net: bytes) -> str:
    """File name of a net, by what it holds: towns of one map share one file."""
    return f"network_{hashlib.sha256(net).hexdigest()[:16]}.net.xml.xz"
