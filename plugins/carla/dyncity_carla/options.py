"""What everything that talks to a CARLA server can be told on the command line."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self, TypeAlias

from dyncity_carla.session import TickOwner
from dyncity_sim.cli.numbers import not_negative, positive, positive_port, positive_seconds

DEFAULT_PORT = 2000
DEFAULT_TIMEOUT_S = 20.0
DEFAULT_EGO = "hero"

DEFAULT_LIDARS = 6
DEFAULT_POINTS = 16_000

FurnitureStyle = Literal["props", "boxes", "none"]

if TYPE_CHECKING:
    Options: TypeAlias = argparse._ActionsContainer
else:
    Options = object


@dataclass(frozen=True)
class ServerOptions:
    """Where the server is, and how to get along with it.

    Attributes:
        host, port: of its RPC.
        timeout_s: longest wait for any one call.
        ticks: who lets the world go on.
        allow_version_mismatch: go on with a server of another version.
    """

    host: str = "localhost"
    port: int = DEFAULT_PORT
    timeout_s: float = DEFAULT_TIMEOUT_S
    ticks: TickOwner = "own"
    allow_version_mismatch: bool = False

    @classmethod
    def of(cls, args: argparse.Namespace) -> Self:
        """What ``add_server_arguments`` was given."""
        return cls(args.carla_host, args.carla_port, args.timeout, args.tick, args.allow_version_mismatch)


@dataclass(frozen=True)
class DriveOptions:
    """How CARLA takes part in a drive.

    Attributes:
        server: where it is.
        ego: role name of the ego.
        lidars, points_per_sweep: the sensor rig.
        furniture: how generated street furniture is shown.
        shown: file that takes what was shown at each frame, or None.
        follow: whether the server's spectator keeps behind the ego.
    """

    server: ServerOptions
    ego: str = DEFAULT_EGO
    lidars: int = DEFAULT_LIDARS
    points_per_sweep: int = DEFAULT_POINTS
    furniture: FurnitureStyle = "props"
    shown: Path | None = None
    follow: bool = False


def add_server_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that ``ServerOptions.of`` reads."""
    group = parser.add_argument_group("CARLA server")
    group.add_argument("--carla-host", default="localhost", metavar="HOST", help="of the server (default: %(default)s)")
    group.add_argument(
        "--carla-port",
        type=positive_port,
        default=DEFAULT_PORT,
        metavar="PORT",
        help="of its RPC (default: %(default)s)",
    )
    group.add_argument(
        "--timeout",
        type=positive_seconds,
        default=DEFAULT_TIMEOUT_S,
        metavar="SECONDS",
        help="longest wait for any one call (default: %(default)g)",
    )
    group.add_argument(
        "--tick",
        choices=("own", "external"),
        default="own",
        help="who lets the world go on: this client, at 10 Hz, or another one that is running (default: %(default)s)",
    )
    group.add_argument(
        "--allow-version-mismatch",
        action="store_true",
        help="go on with a server of another version than the client library's",
    )


def add_ego_arguments(parser: Options) -> None:
    """Add the options that name the ego and follow it."""
    parser.add_argument(
        "--ego",
        default=DEFAULT_EGO,
        metavar="ROLE_NAME",
        help="vehicle to take over by its role name; made where there is none (default: %(default)s)",
    )
    parser.add_argument(
        "--follow", action="store_true", help="keep the server's spectator behind the ego, for those who watch"
    )


def add_lidar_arguments(parser: Options, lidars: int) -> None:
    """Add the options of the sensor rig."""
    parser.add_argument(
        "--lidars",
        type=not_negative,
        default=lidars,
        metavar="N",
        help="semantic LiDARs, one on the ego and the others around it; 0 sees nothing (default: %(default)s)",
    )
    parser.add_argument(
        "--lidar-points",
        type=positive,
        default=DEFAULT_POINTS,
        metavar="N",
        help="rays of each in one turn (default: %(default)s)",
    )
