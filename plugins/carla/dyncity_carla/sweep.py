"""What runs of this machine that were killed have left in a world: the next run clears it away."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from dyncity_carla.journal import Journal, remove_journal, run_of
from dyncity_carla.ports import ActorInfo, Destroy
from dyncity_carla.settings import put_back, still_applied
from dyncity_carla.world import CarlaWorld

_log = logging.getLogger(__name__)


def restore_for(world: CarlaWorld, journal: Journal) -> None:
    """Put the settings back for a run that cannot do it in its own world, where they are still those that it made."""
    saved, applied = journal.saved, journal.applied
    if saved is None or applied is None:
        return
    now = world.settings()
    if still_applied(now, applied, saved):
        world.apply_settings(put_back(now, applied, saved))


def sweep(world: CarlaWorld, left: Sequence[tuple[Path, Journal]], tick: Callable[[], object]) -> None:
    """Destroy what dead runs of this machine spawned, give back what they borrowed, and forget their journals.

    Args:
        world: which has been ticked, so that its actors are known.
        left: journals of dead runs, and the files that they lie in.
        tick: lets the world go on by a step.
    """
    actors = world.actors()
    of_this_world = [journal for _, journal in left if journal.episode == world.episode]
    for journal in of_this_world:
        if journal.borrowed is not None and journal.borrowed in actors:
            world.set_physics(journal.borrowed.id, True)
    egos = {journal.ego for journal in of_this_world}
    orphans = [actor for actor in actors if _is_orphan(actor) or actor in egos]
    # Sensors go before what carries them.
    orphans.sort(key=lambda actor: (not actor.type_id.startswith("sensor."), actor.id))
    world.batch([Destroy(actor.id) for actor in orphans])
    if orphans:
        tick()
    for file, _ in left:
        remove_journal(file)
    if orphans or left:
        _log.warning("Cleared away %d actors and the settings of runs that were killed.", len(orphans))


def _is_orphan(actor: ActorInfo) -> bool:
    run = run_of(actor.role_name)
    return run is not None and run.is_dead
