from pathlib import Path

import numpy as np
import pytest
from dyncity_sumo.roads import Area, Junction, Lane, LaneKind, RoadNetwork

from dyncity_sim.errors import InvalidInputError, MapError


def lane(kind=LaneKind.DRIVING, points=((0, 0, 0), (3, 4, 0), (3, 4, 12)), width_m=3.5, name="a_0"):
    return Lane(name, "a", kind, np.array(points, dtype=float), width_m, 13.9)


def network(*lanes):
    return RoadNetwork("test", lanes, (), (), (), (), "", Path("test.net.xml"), "")


def test_the_length_of_a_lane_counts_its_climb():
    assert lane().length_m == pytest.approx(17.0)


def test_a_network_without_a_lane_for_cars_is_refused():
    with pytest.raises(MapError, match="lane for cars"):
        network(lane(LaneKind.SIDEWALK))


def test_lanes_are_picked_by_kind():
    walk = lane(LaneKind.SIDEWALK, name="a_1")
    assert network(lane(), walk).lanes_of(LaneKind.SIDEWALK, LaneKind.CROSSING) == (walk,)


@pytest.mark.parametrize("points", [[[0, 0, 0]], [[0, 0], [1, 1]], [[0, 0, 0], [np.nan, 1, 0]]])
def test_a_centreline_that_is_no_line_is_refused(points):
    with pytest.raises(InvalidInputError, match="centreline_m"):
        lane(points=points)


@pytest.mark.parametrize("width_m", [0.0, -3.0, 250.0])
def test_an_impossible_width_is_refused(width_m):
    with pytest.raises(InvalidInputError, match="width_m"):
        lane(width_m=width_m)


def test_outlines_need_three_points():
    two = np.zeros((2, 3))
    with pytest.raises(InvalidInputError, match="junction j"):
        Junction("j", two, "priority")
    with pytest.raises(InvalidInputError, match="area w"):
        Area("w", LaneKind.WALKING_AREA, two)


def test_geometry_cannot_be_changed_later():
    with pytest.raises(ValueError, match="read-only"):
        lane().centreline_m[0, 0] = 5.0
