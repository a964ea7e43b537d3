"""A server process whose chunks take as many tenths of a second as they have steps.

Usage: python slow_server.py GRACE_S [PORT LOADING_S]
"""

import asyncio
import sys
import time
from functools import partial

import numpy as np

from dyncity_sim.engine.engine import Engine
from dyncity_sim.engine.null import NullBackend
from dyncity_sim.server.app import serve


class SlowBackend(NullBackend):
    def generate(self, conditions, options, checkpoint):
        for step in range(options.steps or 0):
            checkpoint(step)
            time.sleep(0.1)
        return super().generate(conditions, options, checkpoint)


def load(loading_s: float) -> SlowBackend:
    time.sleep(loading_s)
    return SlowBackend()


if __name__ == "__main__":
    grace_s, port, loading_s = map(float, [*sys.argv[1:], 0, 0][:3])
    engine = Engine(partial(load, loading_s), max_queue=4, rng=np.random.default_rng())
    asyncio.run(serve(engine, "127.0.0.1", int(port), grace_s, announce=partial(print, flush=True)))
