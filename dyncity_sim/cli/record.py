"""``dyncity record``: record drives through a simulated town."""

from collections.abc import Sequence

from dyncity_sim.cli.plugins import Subparsers
from dyncity_sim.cli.simulator_task import register_task

EXAMPLES = """\
examples:
  dyncity record --map generated:grid --minutes 10 --seed 1 --out data/grid
  dyncity record --minutes 2 --egos 8 --continuous --seed 1 --out data/town      long drives
  dyncity record --captures --map berlin --minutes 60 --seed 2 --out data/berlin-captures
  dyncity record --sim carla --minutes 2 --format carlasc --out data/carla
  dyncity record --sim carla --help
"""


def register(subparsers: Subparsers, words: Sequence[str]) -> None:
    """Add the command; ``words`` is the command line."""
    register_task(
        subparsers,
        words,
        name="record",
        group="dyncity_sim.recorders",
        default_simulator="sumo",
        summary="record drives through a simulated town",
        description="Record what is around cars in a simulated town: labels, what sensors see of them, actors, poses.",
        examples=EXAMPLES,
    )
