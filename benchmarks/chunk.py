"""Seconds per generated chunk by number of network evaluations, decoding included: python benchmarks/chunk.py."""

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from dyncity_models.backends.load import load
from rich.console import Console
from rich.table import Table

from dyncity_sim.domain.conditions import Conditions, EgoPlan, SamplingOptions
from dyncity_sim.domain.frames import poses_from_planar


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, help="weights folder (default: the bundled ones)")
    parser.add_argument("--steps", type=int, nargs="+", default=[4, 8, 16])
    parser.add_argument("--chunks", type=int, default=8, help="chunks per figure, the first not counted")
    parser.add_argument(
        "--option", action="append", default=[], metavar="KEY=VALUE", help="as of dyncity serve, e.g. compile=true"
    )
    arguments = parser.parse_args()
    if arguments.chunks < 2:
        parser.error(f"--chunks: {arguments.chunks}, where the first is not counted: at least 2")

    backend = load(arguments.weights, arguments.option)
    frames = backend.info.frames_per_chunk
    times_us = np.arange(frames, dtype=np.int64) * 100_000
    table = Table(
        "steps",
        "median s",
        "min s",
        "max s",
        title=", ".join([backend.info.model_id, f"{torch.get_num_threads()} threads", *arguments.option]),
    )
    for steps in arguments.steps:
        seconds, continuation = [], None
        for number in range(arguments.chunks):
            planar = np.zeros((frames, 3))
            planar[:, 0] = (number * frames + np.arange(frames)) * 0.8
            plan = EgoPlan(poses_from_planar(planar, z_m=1.8), times_us + number * frames * 100_000)
            started = time.perf_counter()
            chunk = backend.generate(
                Conditions(plan, plan.command, continuation),
                SamplingOptions(seed=number, steps=steps),
                lambda step: None,
            )
            seconds.append(time.perf_counter() - started)
            continuation = chunk.continuation
        counted = seconds[1:]
        table.add_row(str(steps), f"{statistics.median(counted):.2f}", f"{min(counted):.2f}", f"{max(counted):.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
