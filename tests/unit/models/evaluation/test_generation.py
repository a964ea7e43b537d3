"""Chunks generated from plans: road under the path, turns, and one score a plan."""

from dataclasses import replace

import numpy as np
import pytest
from dyncity_models.drive.road import road_under_path
from dyncity_models.evaluation.generation import generate_from_plans, road_of_turn, turns_as_planned

from dyncity_sim.domain.taxonomy import CARLASC

ROAD, SIDEWALK = CARLASC.index("road"), CARLASC.index("sidewalk")


def test_all_of_the_path_is_road_in_a_street_that_follows_it(build_street):
    for curvature_per_m in (0.0, 0.03, -0.03):
        assert road_under_path(build_street(16, 8.0, curvature_per_m=curvature_per_m)) == 1.0


def test_the_share_of_road_is_that_of_the_columns_under_the_path(build_street):
    street = build_street(16, 8.0)
    labels = street.labels.copy()
    labels[:, 64:][labels[:, 64:] == ROAD] = SIDEWALK
    # of the sixteen poses, seen from the ninth, the first eight lie behind and the ninth is at the border
    assert road_under_path(replace(street, labels=labels)) == pytest.approx(8 / 16)
    labels[labels == ROAD] = SIDEWALK
    assert road_under_path(replace(street, labels=labels)) == 0.0


def test_a_path_along_the_kerb_has_road_under_two_of_its_three_columns(build_street):
    """Those on and right of it; the left one is sidewalk."""
    street = build_street(16, 8.0)
    labels = street.labels.copy()
    left = labels[:, :, 65:]
    left[left == ROAD] = SIDEWALK
    assert road_under_path(replace(street, labels=labels)) == pytest.approx(2 / 3)


def test_the_road_of_a_turn_is_that_under_its_own_path_and_under_its_mirror_image(build_street):
    street = build_street(16, 12.0, curvature_per_m=0.06)
    own, mirrored = road_of_turn(street)
    assert own == 1.0
    assert mirrored == road_under_path(street, mirrored=True) < 1.0


def test_a_world_that_moves_as_planned_is_told_from_its_mirror_image(build_street, street_actor):
    landmark = street_actor(15.0, 10.0, 0.3, 0.0, (4.0, 4.0, 2.5), label=CARLASC.index("building"))
    turning = build_street(16, 10.0, [landmark], curvature_per_m=0.04)
    mirror = np.diag([1.0, -1.0, 1.0, 1.0])
    other_way = replace(turning, poses_world_from_ego=mirror @ turning.poses_world_from_ego @ mirror)
    assert turns_as_planned(turning)
    assert not turns_as_planned(other_way)


def test_generation_is_scored_once_per_plan(backend, plan_along):
    kept = []
    plans = [plan_along(6.0, 0.3), plan_along(6.0)]
    scores = generate_from_plans(backend, iter(plans), seed=3, steps=1, keep=kept.append)
    assert [chunk.seed for chunk in kept] == [3, 4]
    assert len(scores.seconds) == len(scores.rigidity) == 2
    assert scores.road_under_path == [road_under_path(chunk.occupancy) for chunk in kept]
    assert len(scores.turns) == len(scores.road_of_turns) == 1
    assert [cells.sum() for cells in scores.cells] == [16 * 128 * 128 * 8] * 2
    assert [cells[ROAD] for cells in scores.cells] == [int((c.occupancy.labels == ROAD).sum()) for c in kept]
