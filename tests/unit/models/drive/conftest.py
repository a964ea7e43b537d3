from collections.abc import Callable
from dataclasses import replace

import pytest
from dyncity_models.drive.forecast import Forecast
from dyncity_models.drive.memory import DriveMemory
from dyncity_models.drive.onward import onward
from dyncity_models.drive.road_users import road_users_of

from dyncity_sim.domain.frames import planar_from_poses
from dyncity_sim.domain.occupancy import OccupancySequence


@pytest.fixture(scope="session")
def forecast_halfway() -> Callable[[OccupancySequence], Forecast]:
    """A function that forecasts the second chunk of a drive from the first, all of whose cells were seen."""

    def forecast(drive: OccupancySequence) -> Forecast:
        before, planar = drive[:16], planar_from_poses(drive.poses_world_from_ego)
        heights_m = drive.poses_world_from_ego[:, 2, 3]
        users, motion = road_users_of(before)
        memory = DriveMemory.empty(planar[0], float(heights_m[0]), drive.grid)
        memory = memory.learn(before.labels, planar[:16], heights_m[:16], drive.grid)
        memory = replace(memory, movers_planar=planar[[15, 10, 15, 10]], road_users=users, motion=motion)
        return onward(memory, planar[16:], heights_m[16:], drive.grid)

    return forecast
