"""CARLA's own traffic: vehicles that its traffic manager drives, the same ones for the same seed."""

import numpy as np

from dyncity_carla.assets import family_of
from dyncity_carla.maps import spawn_places
from dyncity_carla.session import Session
from dyncity_sim.errors import SimulatorError

SPACING_M = 15.0
FAMILIES = ("car", "van", "truck", "motorcycle", "bicycle")


def add_traffic(session: Session, vehicles: int, rng: np.random.Generator, port: int) -> list[int]:
    """Make vehicles and let a traffic manager drive them; returns their ids.

    Raises:
        SimulatorError: there is no room for so many, or no traffic manager.
    """
    world = session.world
    models = [b.id for b in world.blueprints() if family_of(b) in FAMILIES]
    points = spawn_places(world, world.roads(), SPACING_M)
    made: list[int] = []
    for index in rng.permutation(len(points)):
        if len(made) == vehicles:
            break
        model = models[int(rng.integers(len(models)))]
        actor_id = session.spawn(model, f"traffic{len(made)}", points[index])
        if actor_id is not None:
            made.append(actor_id)
    if len(made) < vehicles:
        raise SimulatorError(
            f"There is room for {len(made)} of {vehicles} vehicles in the world of {world.address}: ask for fewer "
            "(--traffic)."
        )
    world.drive_by_itself(made, int(rng.integers(2**31)), port)
    return made
