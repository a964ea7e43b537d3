"""Batches that are a function of their number, so that a run goes on from any of them."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Generic, TypeVar

Sample = TypeVar("Sample", covariant=True)


class NumberedBatches(ABC, Generic[Sample]):
    """Batch after batch; batch ``i`` is the same in every run with the same seed.

    Args:
        batch: rows of a batch, of all processes.
        seed: what every draw comes from.
        stop: number of the batch after the last one; also the length, since trainers count from batch 0 when they
            resume.
        first: number of the first batch.
    """

    def __init__(self, batch: int, seed: int, stop: int, first: int = 0) -> None:
        self.size, self.seed, self.stop, self.first = batch, seed, stop, first

    def __len__(self) -> int:
        return self.stop

    def __iter__(self) -> Iterator[Sample]:
        return (self.batch(number) for number in range(self.first, self.stop))

    @abstractmethod
    def batch(self, number: int) -> Sample:
        """The batch of that number, or this process's part of it."""
