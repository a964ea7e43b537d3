import numpy as np
import pytest
from dyncity_models.data.clips import UNOBSERVED
from dyncity_models.drive.known_world import SURFACES, with_smooth_kerbs

from dyncity_sim.domain.taxonomy import CARLASC

ROAD, SIDEWALK, GROUND = SURFACES
BUILDING = CARLASC.index("building")
SIZE = 96
X, Y = np.meshgrid(np.arange(SIZE) + 0.5, np.arange(SIZE) + 0.5, indexing="ij")


def memory(surface, layer=0):
    """Labels of a memory with a map of surfaces at a height and nothing above it."""
    labels = np.zeros((SIZE, SIZE, 4), dtype=np.uint8)
    np.put_along_axis(labels, np.broadcast_to(layer, surface.shape)[..., None], surface[..., None], axis=-1)
    return labels


def street(angle_deg, waves=0.0):
    """A road between sidewalks and lawns, its kerbs waving by some cells; and distances from its middle."""
    angle = np.deg2rad(angle_deg)
    across = (Y - SIZE / 2) * np.cos(angle) - (X - SIZE / 2) * np.sin(angle)
    along = (X - SIZE / 2) * np.cos(angle) + (Y - SIZE / 2) * np.sin(angle)
    aside = np.abs(across + waves * np.sin(along))
    return np.where(aside < 10, ROAD, np.where(aside < 17, SIDEWALK, GROUND)).astype(np.uint8)


NOTHING = np.full((SIZE, SIZE, 4), UNOBSERVED, dtype=np.uint8)


@pytest.mark.parametrize("angle_deg", [0, 30, 45, 73])
def test_kerbs_that_wave_become_straight_and_straight_ones_stay(angle_deg):
    straight = street(angle_deg)
    waving = street(angle_deg, waves=1.5)
    inner = np.s_[8:-8, 8:-8, 0]

    def strays(labels):
        return (labels[inner] != straight[8:-8, 8:-8]).mean()

    assert strays(with_smooth_kerbs(memory(waving), NOTHING)) < 0.25 * strays(memory(waving))
    assert strays(with_smooth_kerbs(memory(straight), NOTHING)) < 0.005


def test_what_was_known_stays_as_it_is():
    waving = memory(street(20, waves=1.5))
    known = np.where(X[..., None] < SIZE / 2, waving, UNOBSERVED).astype(np.uint8)
    found = with_smooth_kerbs(waving, known)
    assert np.array_equal(found[: SIZE // 2], waving[: SIZE // 2])
    assert not np.array_equal(found[SIZE // 2 :], waving[SIZE // 2 :])


def test_only_surfaces_become_others_and_only_where_there_are_any():
    labels = memory(street(20, waves=1.5))
    labels[30:50, 60:75, 1:] = BUILDING
    labels[60:, :20] = UNOBSERVED
    found = with_smooth_kerbs(labels, NOTHING)
    changed = found != labels
    assert changed.any()
    assert np.isin(labels[changed], SURFACES).all()
    assert np.isin(found[changed], SURFACES).all()


def test_kerbs_on_a_slope_are_smooth_where_they_lie():
    layer = (X // (SIZE / 4)).astype(np.int64)
    found = with_smooth_kerbs(memory(street(0, waves=1.5), layer), NOTHING)
    flat = with_smooth_kerbs(memory(street(0, waves=1.5)), NOTHING)
    assert np.array_equal(np.take_along_axis(found, layer[..., None], -1)[..., 0], flat[..., 0])
