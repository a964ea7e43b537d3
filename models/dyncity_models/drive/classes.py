"""The classes that road users are told apart by, and whose cells those of movers are."""

import numpy as np
from jaxtyping import Bool, UInt8

from dyncity_sim.domain.grid import columns_of
from dyncity_sim.domain.taxonomy import CARLASC

FREE, ROAD, SIDEWALK, VEHICLE, PEDESTRIAN = (
    CARLASC.index(name) for name in ("free", "road", "sidewalk", "vehicle", "pedestrian")
)


def vehicles_and_riders(labels: UInt8[np.ndarray, "*T X Y Z"]) -> Bool[np.ndarray, "*T X Y Z"]:
    """Cells of vehicles, and of pedestrians in columns with a vehicle: who walks by has none."""
    vehicle = labels == VEHICLE
    return np.asarray(vehicle | ((labels == PEDESTRIAN) & columns_of(vehicle)[..., None]))


def on_foot(labels: UInt8[np.ndarray, "*T X Y Z"]) -> Bool[np.ndarray, "*T X Y Z"]:
    """Cells of pedestrians who are no riders."""
    return np.asarray((labels == PEDESTRIAN) & ~columns_of(labels == VEHICLE)[..., None])
