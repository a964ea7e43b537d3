"""Claims about the lines of a road."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dyncity_sim.errors import InvalidInputError
from dyncity_sim.preview.lanes import lane_borders
from dyncity_sim.scene.build import build_scene


def road(geometry: str, length: float, offset: float = 0.0, elevation: str = "") -> str:
    return f"""<?xml version="1.0" encoding="UTF-8"?><OpenDRIVE><road length="{length}"><planView>{geometry}</planView>
    <elevationProfile>{elevation}</elevationProfile><lanes><laneOffset s="0" a="{offset}" b="0" c="0" d="0"/>
    <laneSection s="0"><left><lane id="1"><width sOffset="0" a="3" b="0.1" c="0" d="0"/></lane></left>
    <center><lane id="0"/></center><right><lane id="-1"><width sOffset="0" a="3.5" b="0" c="0" d="0"/></lane>
    <lane id="-2"><width sOffset="0" a="2" b="0" c="0" d="0"/></lane></right>
    </laneSection></lanes></road></OpenDRIVE>"""


def piece(shape: str, s: float = 0, x: float = 0, y: float = 0, hdg: float = 0, length: float = 10) -> str:
    return f'<geometry s="{s}" x="{x}" y="{y}" hdg="{hdg}" length="{length}">{shape}</geometry>'


def cubic(u: tuple[float, ...], v: tuple[float, ...], parameter: str) -> str:
    given = [f'{c}{axis}="{x}"' for axis, values in (("U", u), ("V", v)) for c, x in zip("abcd", values, strict=True)]
    return f'<paramPoly3 {" ".join(given)} pRange="{parameter}"/>'


def test_borders_lie_beside_a_straight_road_by_the_widths_of_its_lanes() -> None:
    rising = '<elevation s="0" a="1" b="0.1" c="0" d="0"/>'
    middle, left, first, second = lane_borders(road(piece("<line/>", hdg=np.pi / 2), 10, 0.5, rising))
    np.testing.assert_allclose(middle[[0, -1]], [[-0.5, 0, 1], [-0.5, 10, 2]], atol=1e-9)
    np.testing.assert_allclose(left[[0, -1]], [[-3.5, 0, 1], [-4.5, 10, 2]], atol=1e-9)
    np.testing.assert_allclose(first[-1], [3.0, 10, 2], atol=1e-9)
    np.testing.assert_allclose(second[-1], [5.0, 10, 2], atol=1e-9)


def test_an_arc_is_a_circle() -> None:
    middle, *_, outer = lane_borders(road(piece('<arc curvature="0.05"/>', length=60), 60))
    np.testing.assert_allclose(np.hypot(middle[:, 0], middle[:, 1] - 20), 20, atol=1e-9)
    np.testing.assert_allclose(np.hypot(outer[:, 0], outer[:, 1] - 20), 25.5, atol=1e-9)
    assert np.arctan2(middle[-1, 0], 20 - middle[-1, 1]) == pytest.approx(3.0)


def test_a_spiral_turns_by_the_mean_of_its_curvatures() -> None:
    middle, left, *_ = lane_borders(road(piece('<spiral curvStart="0" curvEnd="0.1"/>', length=20), 20), 0.05)
    assert np.linalg.norm(np.diff(middle[:, :2], axis=0), axis=1).sum() == pytest.approx(20, abs=1e-3)
    across = left[-1] - middle[-1]
    assert np.arctan2(-across[0], across[1]) == pytest.approx(1.0, abs=1e-9)


def test_pieces_of_a_cubic_follow_on_each_other() -> None:
    pieces = piece(cubic((0, 10, 0, 0), (0, 0, 1, 0), "normalized")) + piece(
        cubic((0, 1, 0, 0), (0, 0, 0, 0), "arcLength"), s=10, x=10, y=1, length=5
    )
    middle, *_ = lane_borders(road(pieces, 15))
    np.testing.assert_allclose(middle[5], [5, 0.25, 0], atol=1e-9)
    np.testing.assert_allclose(middle[-1], [15, 1, 0], atol=1e-9)


def test_the_road_of_a_drive_runs_where_the_ego_drove(build_street: Callable[..., Any]) -> None:
    street = build_street(frames=16, curvature_per_m=0.03)
    lines = lane_borders(build_scene(street, tracks=()).opendrive)
    ego = street.poses_world_from_ego[8, :3, 3]
    beside = [float(np.hypot(line[:, 0], line[:, 1] - 1 / 0.03)[5] - 1 / 0.03) for line in lines]
    assert min(beside) < -1 < 1 < max(beside)
    assert all(np.abs(line[:, 2] - (ego[2] - 1.8)).max() < 0.05 for line in lines)


@pytest.mark.parametrize(
    "text", ["", "<OpenDRIVE><road/></OpenDRIVE>", road(piece("<poly3 a='0' b='0' c='0' d='0'/>"), 10)]
)
def test_what_is_no_road_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError, match="opendrive: got"):
        lane_borders(text)
