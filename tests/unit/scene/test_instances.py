"""Instances of one frame, and fragments that belong together."""

import numpy as np
import pytest

from dyncity_sim.domain.taxonomy import CARLASC
from dyncity_sim.scene.actors.instances import find_instances, join_fragments

CELL_M = 0.4
PEDESTRIAN = CARLASC.index("pedestrian")


def instances_of(drive):
    found = find_instances(drive.labels[0], drive.poses_world_from_ego[0], drive.grid, drive.taxonomy)
    return found, join_fragments(found, CELL_M)


@pytest.mark.parametrize("yaw_deg", [0, 35, 90])
def test_the_cab_of_a_truck_belongs_to_its_load(build_street, street_actor, yaw_deg):
    cos, sin = np.cos(np.deg2rad(yaw_deg)), np.sin(np.deg2rad(yaw_deg))
    load = street_actor(8, 1, np.deg2rad(yaw_deg), size_m=(5.6, 2.4, 2.8))
    cab = street_actor(8 + 4.1 * cos, 1 + 4.1 * sin, np.deg2rad(yaw_deg), size_m=(1.9, 2.3, 2.4))
    found, (truck,) = instances_of(build_street(frames=1, actors=[load, cab]))
    assert len(found) == 2
    assert len(truck.columns_world_m) == len(truck.tops_world_m) == sum(len(i.columns_world_m) for i in found)
    np.testing.assert_allclose(truck.height_m, max(i.height_m for i in found))


def test_a_car_with_a_row_of_cells_missing_is_one(build_street, street_actor):
    drive = build_street(frames=1, actors=[street_actor(8, 1)])
    row = drive.labels[0, int((8 + 0.1 + 25.6) / CELL_M)]
    row[row == CARLASC.index("vehicle")] = 0
    found, joined = instances_of(drive)
    assert (len(found), len(joined)) == (2, 1)


@pytest.mark.parametrize(
    "others",
    [
        [(12.9, 1.0, (4.5, 1.8, 1.5), None)],
        [(8.0, 3.3, (4.5, 1.8, 1.5), None)],
        [(11.4, 1.0, (1.8, 0.65, 1.7), PEDESTRIAN)],
        [(8.0, 2.65, (1.8, 0.65, 1.1), None)],
    ],
    ids=["a car behind", "a car beside", "a bicycle behind", "a bicycle without rider beside"],
)
def test_other_vehicles_close_by_are_not_joined(build_street, street_actor, others):
    actors = [street_actor(8, 1)]
    actors += [street_actor(x, y, size_m=size_m, rider_label=rider) for x, y, size_m, rider in others]
    found, joined = instances_of(build_street(frames=1, actors=actors))
    assert len(found) == len(joined) == 2


def test_two_bicycles_side_by_side_are_not_a_car(build_street, street_actor):
    bicycles = [street_actor(8, y, size_m=(1.8, 0.65, 1.75), rider_label=PEDESTRIAN) for y in (0.0, 1.4)]
    found, joined = instances_of(build_street(frames=1, actors=bicycles))
    assert len(found) == len(joined) == 2
