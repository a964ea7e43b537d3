"""Buildings: footprints of straight walls, and what shapes them at street level."""

import enum
from dataclasses import dataclass

import numpy as np

from dyncity_sumo.city.canvas import BUILDING, STATIC, Canvas, Frame


class Footprint(enum.Enum):
    """Shape of the rear of a building; its front is always straight."""

    BAR = "bar"
    L = "l"
    U = "u"


class Entrance(enum.Enum):
    """What the street front looks like below the first floor."""

    PLAIN = "plain"
    RECESS = "recess"
    PORCH = "porch"
    BAY = "bay"
    AWNING = "awning"
    ARCADE = "arcade"


CANOPY_Z_M = (2.3, 2.7)
"""Lower and upper side of canopies and awnings."""

STEPS_HEIGHT_M = 0.4
WING_M = 5.5
"""Width and depth of a wing behind a building."""


@dataclass(frozen=True)
class House:
    """One building in the frame of its lot.

    Attributes:
        u_m: extent along the street.
        v_m: extent away from the street, front wall first.
        height_m: height of the eaves.
        footprint: shape of the rear.
        entrance: what the front looks like.
        door_u_m: middle of the door.
    """

    u_m: tuple[float, float]
    v_m: tuple[float, float]
    height_m: float
    footprint: Footprint
    entrance: Entrance
    door_u_m: float


def raise_house(canvas: Canvas, frame: Frame, house: House, depth_m: float) -> None:
    """Build a house, its wings as far as the lot of ``depth_m`` allows, and its entrance."""
    left, right = house.u_m
    front, back = house.v_m
    door = (house.door_u_m - 1.2, house.door_u_m + 1.2)
    whole = (0.0, house.height_m)
    if house.entrance is Entrance.RECESS:
        canvas.box(frame, (left, door[0]), (front, front + 1.0), BUILDING, whole)
        canvas.box(frame, (door[1], right), (front, front + 1.0), BUILDING, whole)
        canvas.box(frame, (left, right), (front + 1.0, back), BUILDING, whole)
        canvas.box(frame, door, (front, front + 1.0), BUILDING, (2.5, house.height_m))
    elif house.entrance is Entrance.ARCADE:
        canvas.box(frame, (left, right), (front + 1.8, back), BUILDING, whole)
        for pillar in np.linspace(left, right - 0.4, max(2, round((right - left) / 4))):
            canvas.box(frame, (pillar, pillar + 0.4), (front, front + 0.4), BUILDING, whole)
        canvas.box(frame, (left, right), (front, front + 1.8), BUILDING, (2.6, house.height_m))
    else:
        canvas.box(frame, (left, right), (front, back), BUILDING, whole)
    if house.entrance is Entrance.PORCH:
        canvas.box(frame, door, (front - 1.2, front), STATIC, (0.0, STEPS_HEIGHT_M))
        canvas.box(frame, (door[0] - 0.4, door[1] + 0.4), (front - 1.6, front), BUILDING, CANOPY_Z_M)
    elif house.entrance is Entrance.BAY:
        middle = left + 0.25 * (right - left)
        canvas.box(frame, (middle - 1.5, middle + 1.5), (front - 0.8, front), BUILDING, whole)
        canvas.box(frame, (door[0] + 0.4, door[1] - 0.4), (front - 0.8, front), STATIC, (0.0, STEPS_HEIGHT_M))
    elif house.entrance is Entrance.AWNING:
        canvas.box(frame, (left + 0.6, right - 0.6), (front - 1.4, front), BUILDING, CANOPY_Z_M)
    _raise_wings(canvas, frame, house, depth_m)


def _raise_wings(canvas: Canvas, frame: Frame, house: House, depth_m: float) -> None:
    left, right = house.u_m
    back = house.v_m[1]
    end = min(back + WING_M, depth_m - 1.0)
    if end - back < 2.0 or right - left < 2 * WING_M:
        return
    if house.footprint in (Footprint.L, Footprint.U):
        canvas.box(frame, (left, left + WING_M), (back, end), BUILDING, (0.0, house.height_m))
    if house.footprint is Footprint.U:
        canvas.box(frame, (right - WING_M, right), (back, end), BUILDING, (0.0, house.height_m))
