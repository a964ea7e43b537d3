"""What the sensors of a frame saw, put together: masks of cells and shares of actors.

Masks follow Occ3D (Tian et al., NeurIPS 2023, section 3.2): a cell is visible where a ray hits it or passes
through it. A ray that leaves the grid counts, since in the open it would be answered from farther away.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool

from dyncity_sim.groundtruth.sensors.rays import Seen


def seen_cells(seen: Sequence[Seen]) -> Bool[np.ndarray, "X Y Z"]:
    """Cells that one of the sensors, at least one, sees."""
    return np.asarray(np.logical_or.reduce([each.cells for each in seen]))


def visibility(track_id: int, seen: Sequence[Seen]) -> float | None:
    """Share of all sensors' rays at an actor that nothing else stops; None where no ray would meet it.

    LiDARs and cameras count ray by ray, so a near camera with many pixels on an actor weighs more.
    """
    crossed = sum(int(each.crossed[track_id]) for each in seen if track_id < len(each.crossed))
    met = sum(int(each.met[track_id]) for each in seen if track_id < len(each.met))
    return met / crossed if crossed else None
