"""What takes how long in an export."""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import Self

from dyncity_sim.domain.ground_truth import LabelledFrame
from dyncity_sim.groundtruth.formats.writer import FrameWriter


class Clock:
    """Wall-clock seconds of one thing among others."""

    def __init__(self) -> None:
        self.seconds = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count the seconds that the block takes."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - start

    def each(self, frames: Iterator[LabelledFrame]) -> Iterator[LabelledFrame]:
        """The frames, each timed until it comes."""
        while True:
            with self.running():
                frame = next(frames, None)
            if frame is None:
                return
            yield frame


class TimedWriter:
    """A writer whose time is taken, from its opening to its end."""

    def __init__(self, opened: AbstractContextManager[FrameWriter], clock: Clock) -> None:
        self._opened, self._clock = opened, clock

    def __enter__(self) -> Self:
        with self._clock.running():
            self._writer = self._opened.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        with self._clock.running():
            return self._opened.__exit__(kind, error, trace)

    def add(self, frame: LabelledFrame) -> None:
        """Write the next frame."""
        with self._clock.running():
            self._writer.add(frame)
