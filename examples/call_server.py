"""Generate what an ego would meet along a plan of your own, chunk after chunk.

The plan stands for your planner's output: here a car that drives on and bends to the left. The server
keeps nothing between calls: each reply's continuation goes into the next request.

    dyncity serve
    python examples/call_server.py --server localhost:50051 --chunks 3 --seed 7
"""

import argparse
import sys

import numpy as np

from dyncity_sim.cli.numbers import not_negative, positive
from dyncity_sim.client import DyncityClient
from dyncity_sim.domain.conditions import Conditions, Continuation, EgoPlan, SamplingOptions
from dyncity_sim.domain.frames import poses_from_planar
from dyncity_sim.domain.generation import ModelInfo
from dyncity_sim.domain.grid import LIDAR_HEIGHT_M
from dyncity_sim.domain.occupancy import OccupancySequence
from dyncity_sim.errors import DyncityError

SPEED_MPS = 8.0
YAW_RATE_RADPS = 0.12
CORRIDOR_HALF_WIDTH_M = 1.2
EGO_FRONT_M = 3.0
"""From the ego frame's origin to a little ahead of the front bumper."""


def plan_of_chunk(chunk: int, model: ModelInfo) -> EgoPlan:
    """The part of the drive that one chunk covers; all parts share one world frame and one clock."""
    step_us = round(1e6 / model.rate_hz)
    frames = chunk * model.frames_per_chunk + np.arange(model.frames_per_chunk)
    yaw_rad = YAW_RATE_RADPS * frames * step_us * 1e-6
    radius_m = SPEED_MPS / YAW_RATE_RADPS
    planar = np.column_stack([radius_m * np.sin(yaw_rad), radius_m * (1 - np.cos(yaw_rad)), yaw_rad])
    return EgoPlan(poses_from_planar(planar, z_m=LIDAR_HEIGHT_M), frames * step_us)


def free_ahead_m(occupancy: OccupancySequence, frame: int) -> float:
    """Metres straight ahead of the ego until the first vehicle or pedestrian, or until the grid ends."""
    grid = occupancy.grid
    moves = np.any(np.isin(occupancy.labels[frame], occupancy.taxonomy.moving_labels), axis=-1)
    corridor = moves[:, np.abs(grid.centres(1)) < CORRIDOR_HALF_WIDTH_M].any(axis=1)
    blocked_m = grid.centres(0)[corridor & (grid.centres(0) > EGO_FRONT_M)]
    return float(blocked_m.min() if blocked_m.size else grid.upper_m[0]) - EGO_FRONT_M


def main() -> None:
    """Generate and report."""
    parser = argparse.ArgumentParser(description="Generate what an ego would meet along a plan of your own.")
    parser.add_argument("--server", default="localhost:50051", metavar="HOST:PORT")
    parser.add_argument("--chunks", type=positive, default=3)
    parser.add_argument("--seed", type=not_negative, default=7)
    arguments = parser.parse_args()

    with DyncityClient(arguments.server) as client:
        client.wait_until_serving()
        model = client.model_info()
        print(f"{model.model_id}: {model.frames_per_chunk} frames at {model.rate_hz:g} Hz on {model.grid.shape} cells")
        continuation: Continuation | None = None
        for number in range(arguments.chunks):
            plan = plan_of_chunk(number, model)
            conditions = Conditions(plan, plan.command, continuation)
            chunk = client.generate(conditions, SamplingOptions(seed=arguments.seed + number))
            continuation = chunk.continuation
            free_m = [free_ahead_m(chunk.occupancy, frame) for frame in range(len(chunk.occupancy))]
            times = chunk.timings
            print(
                f"chunk {number + 1} ({plan.command.value}): free ahead {min(free_m):.1f} to {max(free_m):.1f} m, "
                f"sampled in {times.sampling_s:.2f} s, decoded in {times.decoding_s:.2f} s"
            )


if __name__ == "__main__":
    try:
        main()
    except DyncityError as error:
        sys.exit(f"error: {error}")
