"""What ``dyncity record`` in SUMO's traffic can be asked for."""

import argparse
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Self

from dyncity_sim.domain.grid import FRAME_RATE_HZ
from dyncity_sim.errors import InvalidInputError

SHORTEST_DRIVE = 2
"""Frames."""


@dataclass(frozen=True)
class RecordOptions:
    """What ``dyncity record`` was asked for.

    Attributes:
        map: map specification.
        minutes: recorded time, summed over all egos.
        egos: egos at a time in one town.
        seed: decides everything.
        burst: frames of a drive, or None for long drives.
        town_minutes: recorded time after which a new town is built.
        out: folder of the recording.
        format: ``store`` or ``carlasc``.
        blind: leave the emulated sensors out.
        captures: render nothing: write captures instead of a recording.
        standing: share of the people on foot who stand.
        off_nominal: share of drives in which the ego leaves its line or brakes for nothing.
    """

    map: str
    minutes: float
    egos: int
    seed: int
    burst: int | None
    town_minutes: float
    out: Path
    format: str
    blind: bool = False
    captures: bool = False
    standing: float = 0.0
    off_nominal: float = 0.0

    def __post_init__(self) -> None:
        for name, value, least in (
            ("minutes", self.minutes, 1e-3),
            ("egos", self.egos, 1),
            ("seed", self.seed, 0),
            ("burst", SHORTEST_DRIVE if self.burst is None else self.burst, SHORTEST_DRIVE),
            ("town-minutes", self.town_minutes, 1e-3),
        ):
            if not least <= value < inf:
                raise InvalidInputError(f"--{name}", value, f"a number of at least {least:g}")
        for name, share in (("standing", self.standing), ("off-nominal", self.off_nominal)):
            if not 0 <= share <= 1:
                raise InvalidInputError(f"--{name}", share, "a share in [0, 1]")
        if self.captures and self.blind:
            raise InvalidInputError(
                "--blind", "it beside --captures", "one of them", "Captures see nothing: say it to dyncity render."
            )
        if self.captures and self.format != "store":
            raise InvalidInputError(
                "--format", f"{self.format} beside --captures", "store", "Captures hold no cells: render them first."
            )
        if self.out.exists():
            raise InvalidInputError("--out", f"{self.out}, which exists", "a new folder", "Choose another name.")

    @classmethod
    def of(cls, args: argparse.Namespace) -> Self:
        """The options that the arguments of ``add_record_arguments`` say."""
        return cls(
            args.map,
            args.minutes,
            args.egos,
            args.seed,
            None if args.continuous else args.burst,
            args.town_minutes,
            args.out,
            args.format,
            args.blind,
            args.captures,
            args.standing,
            args.off_nominal,
        )

    @property
    def frames(self) -> int:
        """Frames to record in all."""
        return round(self.minutes * 60 * FRAME_RATE_HZ)


def add_record_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of a recording in SUMO's traffic."""
    parser.add_argument(
        "--map",
        default="generated:grid",
        help="berlin, braunschweig, generated:grid, generated:spider, generated:random, an .xodr or a .net.xml file",
    )
    parser.add_argument(
        "--minutes",
        type=float,
        default=10.0,
        help="recorded time summed over all egos: one minute is 600 frames, however many egos share it",
    )
    parser.add_argument(
        "--egos", type=int, default=16, help="egos driving in one town at a time; half are driven by us"
    )
    parser.add_argument("--seed", type=int, default=0, help="same seed, same bytes")
    parser.add_argument(
        "--standing",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="share of the people on foot who stand: before crossings, under shelters, in pairs, alone; "
        "some start and some stop walking",
    )
    parser.add_argument(
        "--off-nominal",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="share of egos, and about of drives, that drift, swerve, leave their lane, cut corners and brake hard, "
        "where there is room",
    )
    length = parser.add_mutually_exclusive_group()
    length.add_argument(
        "--burst", type=int, default=40, help="frames of a drive; turns are kept, straight and standing ones in part"
    )
    length.add_argument("--continuous", action="store_true", help="one long drive per ego, nothing left out")
    parser.add_argument(
        "--town-minutes",
        type=float,
        default=4.0,
        help="recorded time after which a new town is built (generated maps: new streets; others: new buildings)",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    parser.add_argument(
        "--format",
        choices=["store", "carlasc"],
        default="store",
        help="compact recording for training, or one CarlaSC folder per drive",
    )
    parser.add_argument(
        "--blind",
        action="store_true",
        help="leave the emulated sensors out: several times faster, nothing counts as observed; "
        "enough to train the transformer on, not the autoencoder",
    )
    parser.add_argument(
        "--captures",
        action="store_true",
        help="render nothing: write what a recording is made from, a hundredth of its size; see dyncity render",
    )
