"""Claims about the sheet that shows one frame."""

import numpy as np
import pytest

from dyncity_sim.domain.grid import CARLASC_GRID, Grid
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.preview.bev import UNSEEN_COLOUR, render_bev
from dyncity_sim.preview.oblique import Image
from dyncity_sim.preview.sheet import render_sheet

OCC3D_GRID = Grid((200, 200, 16), (-40.0, -40.0, -1.0), (0.4, 0.4, 0.4))
BLUE = np.array(CARLASC.classes[CARLASC.index("vehicle")].colour)


def pixels(picture: Image, colour: np.ndarray) -> int:
    return int((np.abs(picture.astype(int) - colour).max(axis=2) <= 40).sum())


def test_columns_that_nobody_saw_are_grey_where_they_lie() -> None:
    labels = np.zeros(CARLASC_GRID.shape, np.uint8)
    unseen = np.zeros(CARLASC_GRID.shape[:2], np.bool_)
    unseen[120:, 100:] = True  # far ahead on the left: the picture's upper left corner
    picture = render_bev(labels, CARLASC_GRID, CARLASC, scale=1, draw_ego=False, unseen=unseen)
    grey = (picture == UNSEEN_COLOUR).all(axis=2)
    assert grey[:8, :28].all()
    assert grey.sum() == 8 * 28


@pytest.mark.parametrize("grid", [CARLASC_GRID, OCC3D_GRID], ids=["carlasc", "occ3d"])
def test_a_sheet_shows_unobserved_labels_only_of_dense_data(grid: Grid) -> None:
    labels = np.zeros(grid.shape, np.uint8)
    labels[60:110, 60:110, 2:5] = CARLASC.index("vehicle")
    nothing = np.zeros(grid.shape, np.bool_)
    sparse = render_sheet(labels, nothing, grid, CARLASC, dense=False)
    dense = render_sheet(labels, nothing, grid, CARLASC, dense=True)
    seen = render_sheet(labels, ~nothing, grid, CARLASC, dense=False)
    assert sparse.shape == dense.shape == seen.shape
    assert pixels(sparse, BLUE) == 0
    assert 0 < pixels(dense, BLUE) < pixels(seen, BLUE)
