"""Layouts of vehicles that chunks of the family anchored are asked for with."""

import numpy as np
import pytest

from dyncity_sim.domain.conditions import Command, Conditions, VehicleLayout
from dyncity_sim.errors import InvalidInputError, UnsupportedConditionError


def test_a_layout_is_refused_by_weights_that_were_not_trained_with_one(generate, plan_along):
    layout = VehicleLayout(np.zeros((16, 32, 32), dtype=bool))
    with pytest.raises(UnsupportedConditionError, match="layout"):
        generate(Conditions(plan_along(), layout=layout))


def test_the_same_layout_gives_the_same_bytes_and_another_others(with_layout, generate_with, plan_along):
    assert with_layout.info.conditions == ("known_region", "continuation", "plan", "layout", "command")
    empty = np.zeros((16, 32, 32), dtype=bool)
    one = empty.copy()
    one[:, 20, 14] = True
    given = [None, *(VehicleLayout(cells) for cells in (empty, one, one))]
    generated = [generate_with(with_layout, Conditions(plan_along(), layout=layout), seed=1) for layout in given]
    chunks = [chunk.occupancy.labels.tobytes() for chunk in generated]
    assert chunks[2] == chunks[3]
    assert len(set(chunks)) == 3


@pytest.mark.parametrize("scales", [{"layout": 4.0}, {"layout": 0.0}, {"layout": 2.0, "plan": 3.0, "command": 0.5}])
def test_a_layout_is_guided_with_a_scale_of_its_own(with_layout, generate_with, plan_along, scales):
    cells = np.zeros((16, 32, 32), dtype=bool)
    cells[:, 20, 14] = True
    conditions = Conditions(plan_along(), Command.FORWARD, layout=VehicleLayout(cells))
    plain, pushed = (
        generate_with(with_layout, conditions, guidance_scales=asked).occupancy.labels for asked in ({}, scales)
    )
    assert not np.array_equal(plain, pushed)


def test_a_layout_of_another_shape_is_refused(with_layout, generate_with, plan_along):
    layout = VehicleLayout(np.zeros((16, 32, 31), dtype=bool))
    with pytest.raises(InvalidInputError, match=r"^layout\.shape: "):
        generate_with(with_layout, Conditions(plan_along(), layout=layout))
