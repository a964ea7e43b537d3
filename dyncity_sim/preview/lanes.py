"""Lines of an OpenDRIVE road to draw: the borders of its lanes.

ASAM OpenDRIVE 1.7: sections 7 (reference line: line, arc, spiral, paramPoly3), 8.4 (elevation), 9.3 (lane
sections and offset), 9.5.1 (widths). Superelevation is left out: roads of this project have none.
"""

from itertools import pairwise
from xml.etree.ElementTree import Element

import numpy as np
from jaxtyping import Float64

from dyncity_sim.errors import InvalidInputError
from dyncity_sim.scene.road.opendrive import cubic, reference_line, roads_of

STEP_M = 1.0
"""Points of a line are at most this far apart along the road."""

Line = Float64[np.ndarray, "N 3"]


def lane_borders(opendrive: str, step_m: float = STEP_M) -> tuple[Line, ...]:
    """The middle line of each road and the outer border of each of its lanes, in the world frame.

    Args:
        opendrive: the document.
        step_m: see STEP_M.

    Raises:
        InvalidInputError: not OpenDRIVE, or a reference line of another kind than those above.
    """
    try:
        return tuple(line for road in roads_of(opendrive) for line in _of_road(road, step_m))
    except (KeyError, ValueError) as error:
        raise InvalidInputError("opendrive", f"{type(error).__name__}: {error}", "an OpenDRIVE document") from error


def _of_road(road: Element, step_m: float) -> list[Line]:
    sections = road.findall("lanes/laneSection")
    starts = [float(section.attrib["s"]) for section in sections] + [float(road.attrib["length"])]
    lines = []
    for section, (start, end) in zip(sections, pairwise(starts), strict=True):
        s = np.linspace(start, end, max(2, int(np.ceil((end - start) / step_m)) + 1))
        middle = cubic(road.findall("lanes/laneOffset"), s)
        lines.append(_beside(road, s, middle))
        for side, sign in (("left", 1.0), ("right", -1.0)):
            border = middle
            for lane in sorted(section.findall(f"{side}/lane"), key=lambda lane: abs(int(lane.attrib["id"]))):
                border = border + sign * cubic(lane.findall("width"), s - start, "sOffset")
                lines.append(_beside(road, s, border))
    return lines


def _beside(road: Element, s: Float64[np.ndarray, " N"], t: Float64[np.ndarray, " N"]) -> Line:
    """Points of the road at distances ``s`` along the reference line and ``t`` to its left."""
    x, y, heading = reference_line(road, s).T
    return np.stack(
        [x - t * np.sin(heading), y + t * np.cos(heading), cubic(road.findall("elevationProfile/elevation"), s)],
        axis=-1,
    )
