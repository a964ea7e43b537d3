"""``dyncity play``: show a generated scene in a simulator."""

from collections.abc import Sequence

from dyncity_sim.cli.plugins import Subparsers
from dyncity_sim.cli.simulator_task import register_task

EXAMPLES = """\
examples:
  dyncity play out/demo/scene --sim carla
  dyncity play out/demo/scene --sim carla --tick external --loops 3
  dyncity play --sim carla --help
"""


def register(subparsers: Subparsers, words: Sequence[str]) -> None:
    """Add the command; ``words`` is the command line."""
    register_task(
        subparsers,
        words,
        name="play",
        group="dyncity_sim.players",
        default_simulator="carla",
        summary="show a generated scene in a simulator",
        description="Show a scene that was generated earlier in a simulator: its road, its actors at their times, "
        "its static geometry as boxes.",
        examples=EXAMPLES,
    )
