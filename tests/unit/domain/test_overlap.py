"""Boxes in boxes, against polygons."""

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from dyncity_sim.domain.frames import poses_from_planar
from dyncity_sim.domain.overlap import overlap_shares
from dyncity_sim.domain.recording import ActorKind
from dyncity_sim.domain.scene import Track


def standing(planar, size_m, times_us):
    poses = poses_from_planar(np.tile(planar, (len(times_us), 1)))
    return Track(1, ActorKind.CAR, (*size_m, 1.5), poses, np.array(times_us), np.zeros((len(times_us), 3)))


def polygon(planar, size_m):
    x, y, yaw_rad = planar
    box = shapely.box(-size_m[0] / 2, -size_m[1] / 2, size_m[0] / 2, size_m[1] / 2)
    turned = shapely.affinity.rotate(box, yaw_rad, origin=(0, 0), use_radians=True)
    return shapely.affinity.translate(turned, x, y)


SIDES = st.floats(0.5, 6.0)


@given(
    at=st.tuples(st.floats(-4, 4), st.floats(-4, 4), st.floats(-np.pi, np.pi)),
    turned=st.floats(-np.pi, np.pi),
    sizes=st.tuples(st.tuples(SIDES, SIDES), st.tuples(SIDES, SIDES)),
)
def test_shares_are_those_of_polygons_wherever_the_world_lies(at, turned, sizes):
    far = np.array([4e5, 5.6e6, 0.0])
    first, second = standing((*far[:2], turned), sizes[0], [0, 5]), standing(far + at, sizes[1], [5, 9])
    (share,) = overlap_shares(first, second)
    truth = polygon((0, 0, turned), sizes[0]).intersection(polygon(at, sizes[1])).area
    assert share == pytest.approx(truth / min(np.prod(size) for size in sizes), abs=0.13)
    assert overlap_shares(second, first) == pytest.approx(share, abs=0.13)


def test_tracks_that_are_never_seen_together_share_nothing():
    assert len(overlap_shares(standing((0, 0, 0), (4, 2), [0]), standing((0, 0, 0), (4, 2), [1]))) == 0
