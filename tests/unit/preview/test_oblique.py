from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dyncity_sim.domain.frames import poses_from_planar
from dyncity_sim.domain.grid import CARLASC_GRID, Grid
from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.errors import InvalidInputError
from dyncity_sim.preview.bev import render_bev
from dyncity_sim.preview.camera import ObliqueCamera
from dyncity_sim.preview.oblique import EGO_COLOUR, UNKNOWN_GROUND, render_oblique

Build = Callable[..., Any]
RED, BLUE = CARLASC.index("pedestrian"), CARLASC.index("vehicle")


def empty() -> np.ndarray:
    return np.zeros(CARLASC_GRID.shape, dtype=np.uint8)


def picture(labels: np.ndarray, width: int = 400, **options: Any) -> np.ndarray:
    return render_oblique(labels, CARLASC_GRID, CARLASC, width, draw_ego=options.pop("draw_ego", False), **options)


def reddish(image: np.ndarray) -> np.ndarray:
    r, g, b = image.astype(int).transpose(2, 0, 1)
    return np.argwhere((r > g + 60) & (r > b + 60))


def bluish(image: np.ndarray) -> np.ndarray:
    r, _, b = image.astype(int).transpose(2, 0, 1)
    return np.argwhere(b > r + 60)


def test_forward_is_up_to_the_right_and_left_is_up_to_the_left() -> None:
    rows = {}
    for name, (x, y) in {"here": (60, 60), "forward": (100, 60), "left": (60, 100)}.items():
        labels = empty()
        labels[x : x + 6, y : y + 6, 0:3] = RED
        rows[name] = reddish(picture(labels)).mean(axis=0)
    assert rows["forward"][0] < rows["here"][0]
    assert rows["forward"][1] > rows["here"][1]
    assert rows["left"][0] < rows["here"][0]
    assert rows["left"][1] < rows["here"][1]


def test_higher_cells_stand_higher_in_the_picture() -> None:
    rows = []
    for z in (1, 6):
        labels = empty()
        labels[60:66, 60:66, z] = RED
        rows.append(reddish(picture(labels))[:, 0].mean())
    assert rows[1] < rows[0] - 5


def test_what_is_nearer_hides_what_is_behind() -> None:
    labels = empty()
    labels[80, 60, 0:2] = RED
    assert len(reddish(picture(labels))) > 5
    labels[72:78, 48:60, 0:8] = BLUE
    assert len(reddish(picture(labels))) == 0
    assert len(bluish(picture(labels))) > 50


def test_a_flat_road_has_no_cracks() -> None:
    labels = empty()
    labels[:, :, 0] = CARLASC.index("road")
    road = CARLASC.palette[CARLASC.index("road")].astype(float)
    for width in (320, 777, 1000):
        image = picture(labels, width)
        centre = image[image.shape[0] // 2 - 20 : image.shape[0] // 2 + 20, image.shape[1] // 2 - 40 :][:, :80]
        assert np.abs(centre - road).max() < 12


def test_unknown_ground_is_drawn_as_a_pale_plate() -> None:
    image = picture(empty())
    middle = image[image.shape[0] // 2, image.shape[1] // 2].astype(float)
    assert np.abs(middle - UNKNOWN_GROUND).max() < 12


def test_a_building_casts_a_shadow_and_darkens_its_foot() -> None:
    labels = empty()
    labels[:, :, 0] = CARLASC.index("ground")
    flat = picture(labels).astype(int)
    labels[60:70, 60:70, 0:8] = CARLASC.index("building")
    with_building = picture(labels).astype(int)
    green = (with_building[:, :, 1] > with_building[:, :, 0] + 15) & (
        with_building[:, :, 1] > with_building[:, :, 2] + 15
    )
    darker = green & (flat.sum(axis=2) - with_building.sum(axis=2) > 60)
    assert darker.sum() > 200


def test_the_ego_is_seen_unless_a_roof_covers_it() -> None:
    def orange(image: np.ndarray) -> int:
        return int((np.abs(image.astype(float) - EGO_COLOUR).max(axis=2) < 25).sum())

    labels = empty()
    assert orange(picture(labels, draw_ego=True)) > 30
    assert orange(picture(labels)) == 0
    labels[30:90, 30:90, 6:8] = CARLASC.index("building")
    assert orange(picture(labels, draw_ego=True)) == 0


def test_the_way_ahead_is_drawn_where_it_leads() -> None:
    labels = empty()
    labels[:, :, 0] = CARLASC.index("road")
    along = np.linspace(0, 20, 16)
    for side, columns in ((0.3, "left"), (-0.3, "right")):
        way = poses_from_planar(np.stack([along, side * along, np.zeros(16)], axis=-1))
        changed = np.argwhere(picture(labels, plan_ego_from_ego=way).astype(int).sum(2) - picture(labels).sum(2) > 60)
        straight = poses_from_planar(np.stack([along, 0 * along, np.zeros(16)], axis=-1))
        middle = np.argwhere(
            picture(labels, plan_ego_from_ego=straight).astype(int).sum(2) - picture(labels).sum(2) > 60
        )
        assert (changed[:, 1].mean() < middle[:, 1].mean()) == (columns == "left")


def test_the_same_frame_gives_the_same_picture(build_street: Build) -> None:
    labels = build_street(frames=1).labels[0]
    np.testing.assert_array_equal(picture(labels), picture(labels))


def test_other_grids_and_cameras_draw_too() -> None:
    grid = Grid((200, 200, 16), (-40.0, -40.0, -1.0), (0.4, 0.4, 0.4))
    labels = np.zeros(grid.shape, dtype=np.uint8)
    labels[100:110, 100:110, :10] = RED
    image = render_oblique(labels, grid, CARLASC, 500, ObliqueCamera(0.8, 0.5))
    assert len(reddish(image)) > 50


@pytest.mark.parametrize("azimuth_rad", [-0.3, 0.0, 1.6])
def test_a_camera_that_would_see_other_faces_is_refused(azimuth_rad: float) -> None:
    with pytest.raises(InvalidInputError, match=r"camera\.azimuth_rad"):
        ObliqueCamera(azimuth_rad=azimuth_rad)


def test_bad_labels_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="labels"):
        picture(empty()[:64])
    with pytest.raises(InvalidInputError, match="labels"):
        picture(np.full_like(empty(), 200))


def test_the_top_view_puts_forward_up_and_left_on_the_left() -> None:
    labels = empty()
    labels[120, 100, 2] = RED
    image = render_bev(labels, CARLASC_GRID, CARLASC, scale=1, draw_ego=False)
    (row, column), *more = reddish(image)
    assert (row, column) == (7, 27)
    assert not more


def test_the_top_view_shows_the_highest_class() -> None:
    labels = empty()
    labels[30:40, 30:40, 0] = BLUE
    labels[30:40, 30:40, 5] = RED
    image = render_bev(labels, CARLASC_GRID, CARLASC, scale=2, draw_ego=False)
    assert len(reddish(image)) == 400
    assert image.shape == (256, 256, 3)
