"""What shapes are measured on: occupancy with nothing hidden."""

from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.errors import InvalidInputError


def check_dense(occupancy: OccupancySequence) -> None:
    """Raise InvalidInputError when some cells were never observed: where sight ends is no kerb and no bumper."""
    if occupancy.observed is not None and not occupancy.observed.all():
        raise InvalidInputError(
            "occupancy.observed",
            f"{1 - occupancy.observed.mean():.0%} of cells unobserved",
            "dense occupancy, as it is generated or recorded as truth",
            "Leave the mask out when the labels hold the dense truth.",
        )
