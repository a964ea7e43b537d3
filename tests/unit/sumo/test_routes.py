"""Claims about routes: they avoid dead ends, smooth what lanes leave rough, and are decided by their generator."""

from typing import ClassVar

import numpy as np
import pytest
from dyncity_sumo.junctions import Link
from dyncity_sumo.roads import Lane, LaneKind
from dyncity_sumo.routes import SPACING_M, Route, guide_line


class Fork:
    """``start`` leads left to a cul-de-sac of two lanes, right to a ring of three."""

    ways: ClassVar[dict[str, list[str]]] = {
        "start": ["cul0", "ring0"],
        "cul0": ["cul1"],
        "ring0": ["ring1"],
        "ring1": ["ring2"],
        "ring2": ["ring0"],
    }

    def links(self, lane_id: str) -> tuple[Link, ...]:
        return tuple(
            Link(to, f":{to}", "l" if to == "cul0" else "r", "", -1, False) for to in self.ways.get(lane_id, [])
        )

    def inner_lanes(self, link: Link) -> tuple[str, ...]:
        return ()


def lanes() -> dict[str, Lane]:
    corners = {"start": [(0, 0), (50, 0)], "cul0": [(50, 0), (50, 40)], "cul1": [(50, 40), (50, 90)]}
    corners |= {"ring0": [(50, 0), (90, -30)], "ring1": [(90, -30), (130, 0)], "ring2": [(130, 0), (50, 0)]}
    return {
        name: Lane(name, name, LaneKind.DRIVING, np.array([(*point, 0.5) for point in points], float), 3.2, 10.0)
        for name, points in corners.items()
    }


@pytest.mark.parametrize("seed", range(6))
def test_a_walk_does_not_enter_a_dead_end_that_it_can_avoid(seed: int) -> None:
    route = Route(lanes(), Fork(), "start", np.random.default_rng(seed))
    assert route.grow(600.0)
    assert {stop.link.lane_id for stop in route.stops} == {"ring0", "ring1", "ring2"}


def test_a_walk_that_cannot_go_on_says_so() -> None:
    route = Route(lanes(), Fork(), "cul0", np.random.default_rng(0))
    assert not route.grow(600.0)
    assert route.line.length_m == pytest.approx(90.0, abs=1.0)


def test_growing_does_not_move_what_was_there() -> None:
    route = Route(lanes(), Fork(), "start", np.random.default_rng(1))
    route.grow(200.0)
    before = route.line
    route.grow(500.0)
    kept = int((before.length_m - 15.0) / SPACING_M)
    assert np.allclose(before.points_m[:kept], route.line.points_m[:kept], atol=1e-9)


def test_stops_lie_at_the_ends_of_lanes() -> None:
    route = Route(lanes(), Fork(), "start", np.random.default_rng(1))
    route.grow(140.0)
    assert [stop.at_m for stop in route.stops] == pytest.approx([50.0, 100.0])
    assert [stop.lane_id for stop in route.stops] == ["start", "ring0"]


def test_a_guide_line_slows_down_before_a_corner_not_in_it() -> None:
    line = guide_line(np.array([[0.0, 0, 0], [60, 0, 0], [60, 60, 0]]), np.full(3, 13.9))
    corner = int(60 / SPACING_M)
    assert line.speeds_mps[corner] == line.speeds_mps.min()
    assert line.speeds_mps[corner] < 4
    braking = -np.diff(line.speeds_mps[:corner] ** 2) / (2 * SPACING_M)
    assert braking.max() <= 1.6 + 1e-9
    assert np.all(line.points_m[[0, -1], :2] == pytest.approx(np.array([[0.0, 0.0], [60.0, 60.0]]), abs=0.6))


def test_projection_finds_the_way_back_from_beside_the_line() -> None:
    line = guide_line(np.array([[0.0, 0, 0], [60, 0, 0], [60, 60, 0]]), np.full(3, 13.9))
    for s_m in (5.0, 31.3, 80.2):
        point, yaw_rad = line.at(s_m)
        beside = point[:2] + 0.8 * np.array([-np.sin(yaw_rad), np.cos(yaw_rad)])
        assert line.project(beside, s_m + 3) == pytest.approx(s_m, abs=0.3)
