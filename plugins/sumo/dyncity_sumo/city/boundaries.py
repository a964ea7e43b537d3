"""What separates lots from the street and from each other: fences, walls, hedges, guard rails."""

from dataclasses import dataclass

import numpy as np
import shapely

from dyncity_sumo.city.canvas import FENCE, GROUND, SIDEWALK, TERRAIN, VEGETATION, WALL, Canvas, Frame


@dataclass(frozen=True)
class Boundary:
    """A kind of boundary.

    Attributes:
        label: its class.
        thickness_m: across.
        height_m: above the ground.
    """

    label: int
    thickness_m: float
    height_m: float


FENCE_M = 0.3
"""Thickness of a fence: one to two columns, so that it has no holes in any direction."""


def draw_boundary(rng: np.random.Generator) -> Boundary:
    """A fence (most often), a wall or a hedge."""
    draw = rng.random()
    if draw < 0.5:
        return Boundary(FENCE, FENCE_M, float(rng.choice([1.2, 1.5, 1.8])))
    if draw < 0.75:
        return Boundary(WALL, 0.3, float(rng.choice([1.0, 1.4, 1.8])))
    return Boundary(VEGETATION, 0.8, float(rng.choice([1.2, 1.5])))


def raise_along_street(
    canvas: Canvas, frame: Frame, width_m: float, gates_m: list[tuple[float, float]], boundary: Boundary
) -> None:
    """A boundary along the front of a lot, with gaps at its gates (intervals of u, in order)."""
    at_m = 0.0
    v_m = (0.1, 0.1 + boundary.thickness_m)
    for start_m, end_m in [*gates_m, (width_m, width_m)]:
        if start_m - at_m > 0.3:
            canvas.box(frame, (at_m, start_m), v_m, boundary.label, (0.0, boundary.height_m))
        at_m = max(at_m, end_m)


def raise_across(canvas: Canvas, frame: Frame, u_m: float, v_m: tuple[float, float], boundary: Boundary) -> None:
    """A boundary from the street into the block, centred on ``u_m``."""
    half = boundary.thickness_m / 2
    canvas.box(frame, (u_m - half, u_m + half), v_m, boundary.label, (0.0, boundary.height_m))


def raise_line(canvas: Canvas, line: shapely.Geometry, boundary: Boundary) -> None:
    """A boundary along any line, wherever the ground below it is not carriageway."""
    for patch in canvas.geometry(shapely.buffer(line, boundary.thickness_m / 2, cap_style="flat", quad_segs=2)):
        off_road = patch.inside & canvas.is_ground(patch, (TERRAIN, SIDEWALK, GROUND))
        canvas.solid(type(patch)(patch.window, off_road), boundary.label, 0.0, boundary.height_m)
