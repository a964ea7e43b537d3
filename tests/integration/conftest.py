"""A real server process for the tests of backends."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from dyncity_sim.client import DyncityClient

PATIENCE_S = 120.0


@pytest.fixture(scope="session")
def served() -> Callable[..., AbstractContextManager[DyncityClient]]:
    """A function from arguments of ``dyncity serve`` to a client of it, on the torch backend without a GPU."""

    @contextmanager
    def serve(*arguments: str) -> Iterator[DyncityClient]:
        command = [sys.executable, "-m", "dyncity_sim.cli.main", "serve", "--backend", "torch", "--port", "0"]
        environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
        with subprocess.Popen(
            [*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            try:
                line = process.stdout.readline()
                match = re.fullmatch(r"SERVING (\S+) on (127\.0\.0\.1:\d+)\n", line)
                assert match, line + process.stderr.read()
                with DyncityClient(match[2], timeout_s=PATIENCE_S) as client:
                    yield client
            finally:
                process.kill()

    return serve
