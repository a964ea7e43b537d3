"""What the entry point of CARLA's simulator names."""

import argparse
from pathlib import Path

from dyncity_carla.options import (
    DEFAULT_LIDARS,
    DriveOptions,
    ServerOptions,
    add_ego_arguments,
    add_lidar_arguments,
    add_server_arguments,
)
from dyncity_carla.simulator import CarlaSimulator


class CarlaSimulators:
    """What the entry point names: options of a drive in CARLA, and the drive."""

    default_map = ""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the simulator's own options."""
        add_server_arguments(parser)
        group = parser.add_argument_group("CARLA drive")
        add_ego_arguments(group)
        add_lidar_arguments(group, DEFAULT_LIDARS)
        group.add_argument(
            "--furniture",
            choices=("props", "boxes", "none"),
            default="props",
            help="how generated street furniture is shown: as props of the nearest size, as drawn boxes that are no "
            "bodies, or not at all (default: %(default)s)",
        )
        group.add_argument(
            "--shown", type=Path, metavar="FILE", help="write what was shown at each frame, as JSON lines"
        )

    def open(self, map_spec: str, seed: int, args: argparse.Namespace) -> CarlaSimulator:
        """A drive that can begin."""
        options = DriveOptions(
            ServerOptions.of(args),
            args.ego,
            args.lidars,
            args.lidar_points,
            args.furniture,
            args.shown,
            args.follow,
        )
        return CarlaSimulator(options, map_spec, seed)


PLUGIN = CarlaSimulators()
