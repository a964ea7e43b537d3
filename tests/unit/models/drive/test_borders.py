import numpy as np
import pytest
from dyncity_models.data.clips import UNOBSERVED
from dyncity_models.drive.borders import BUILDING, IS_SURFACE, SURFACES, columns_at, surfaces_at

ROAD, SIDEWALK, GROUND = SURFACES
SIZE = 96


def centres(angle_deg=0.0, shift=0.0):
    """Points a column apart on axes that are turned around the middle of the square, well inside of it."""
    along = np.arange(-30, 30) + 0.5 + shift
    x, y = np.meshgrid(along, along, indexing="ij")
    angle = np.deg2rad(angle_deg)
    turned = np.stack([x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle)], axis=-1)
    return turned + SIZE / 2


def columns():
    x, y = np.meshgrid(np.arange(SIZE) + 0.5, np.arange(SIZE) + 0.5, indexing="ij")
    return np.stack([x, y], axis=-1)


def memory(surface, layer=0):
    """Labels of a memory with a map of surfaces at a height and nothing else."""
    labels = np.zeros((SIZE, SIZE, 4), dtype=np.uint8)
    np.put_along_axis(labels, np.broadcast_to(layer, surface.shape)[..., None], surface[..., None], axis=-1)
    return labels


def street(points, angle_deg, waves=0.0):
    """A road between sidewalks and lawns whose kerbs wave by some columns."""
    angle = np.deg2rad(angle_deg)
    x, y = np.moveaxis(points - SIZE / 2, -1, 0)
    across, along = y * np.cos(angle) - x * np.sin(angle), x * np.cos(angle) + y * np.sin(angle)
    aside = np.abs(across + waves * np.sin(1.5 * along))
    return np.where(aside < 10, ROAD, np.where(aside < 17, SIDEWALK, GROUND)).astype(np.uint8)


def block(points, angle_deg):
    """Whether points lie in a rectangular building."""
    angle = np.deg2rad(angle_deg)
    x, y = np.moveaxis(points - SIZE / 2, -1, 0)
    across, along = y * np.cos(angle) - x * np.sin(angle), x * np.cos(angle) + y * np.sin(angle)
    return (np.abs(across) < 11) & (np.abs(along) < 17)


def nearest(values, points):
    index = np.floor(points).astype(int)
    return values[index[..., 0], index[..., 1]]


@pytest.mark.parametrize("written_deg", [10, 17, 30, 60])
@pytest.mark.parametrize("read_deg", [8, 31])
def test_kerbs_are_read_on_turned_axes_more_exactly_than_from_the_nearest_column(written_deg, read_deg):
    written = street(columns(), written_deg)
    points = centres(read_deg, 0.3)
    true = street(points, written_deg)
    strays = (surfaces_at(memory(written), points) != true).mean()
    assert strays < 0.006
    assert strays < 0.4 * (nearest(written, points) != true).mean()


@pytest.mark.parametrize("angle_deg", [0, 30, 73])
def test_kerbs_that_wave_are_read_straight(angle_deg):
    waving, straight = (street(columns(), angle_deg, waves) for waves in (1.2, 0.0))
    points = centres()
    true = nearest(straight, points)
    assert (surfaces_at(memory(waving), points) != true).mean() < 0.35 * (nearest(waving, points) != true).mean()


def test_strips_of_two_columns_stay():
    surface = np.full((SIZE, SIZE), GROUND)
    surface[:, 40:] = ROAD
    surface[:, 40:42] = SIDEWALK
    read = surfaces_at(memory(surface), columns())
    assert (read[8:-8] == SIDEWALK).any(axis=1).all()


def test_surfaces_on_a_slope_are_read_as_if_it_were_flat():
    surface, points = street(columns(), 20, 1.2), centres(10)
    layer = (columns()[..., 0] // (SIZE / 4)).astype(np.int64)
    assert np.array_equal(surfaces_at(memory(surface, layer), points), surfaces_at(memory(surface), points))


@pytest.mark.parametrize("written_deg", [10, 17, 30, 60])
@pytest.mark.parametrize("read_deg", [8, 31])
def test_walls_are_read_on_turned_axes_more_exactly_than_from_the_nearest_column(written_deg, read_deg):
    built = block(columns(), written_deg)
    walls = built[..., None] & (np.arange(4) < 3)
    labels = np.where(walls, BUILDING, memory(np.full((SIZE, SIZE), GROUND))).astype(np.uint8)
    points = centres(read_deg, 0.3)
    true = block(points, written_deg)
    index = columns_at(labels, points)
    read = (labels[index[..., 0], index[..., 1]] == BUILDING).any(axis=-1)
    strays = (read != true).mean()
    assert strays < 0.006
    assert strays < 0.7 * (nearest(built, points) != true).mean()


def test_columns_away_from_walls_are_the_nearest_ones():
    labels = np.where(block(columns(), 17)[..., None], BUILDING, memory(np.full((SIZE, SIZE), GROUND))).astype(np.uint8)
    points = centres(8, 0.3)
    away = np.linalg.norm(points - SIZE / 2, axis=-1) > 25
    assert away.any()
    assert np.array_equal(columns_at(labels, points)[away], np.floor(points[away]).astype(int))
    none = memory(np.full((SIZE, SIZE), GROUND))
    assert np.array_equal(columns_at(none, points), np.floor(points).astype(int))


def test_what_is_not_known_neither_becomes_a_wall_nor_gives_a_label():
    labels = np.full((SIZE, SIZE, 4), UNOBSERVED, dtype=np.uint8)
    labels[:, :40] = memory(np.full((SIZE, SIZE), GROUND))[:, :40]
    labels[20:40, 10:40] = BUILDING
    points = columns() + 0.2
    index = columns_at(labels, points)
    found = labels[index[..., 0], index[..., 1]]
    assert np.array_equal((found == UNOBSERVED).all(-1), nearest((labels == UNOBSERVED).all(-1), points))


def test_only_surfaces_count_as_such():
    assert np.flatnonzero(IS_SURFACE).tolist() == sorted(SURFACES)
