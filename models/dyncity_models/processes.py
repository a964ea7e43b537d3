"""Which part of a batch a process works on, and what all parts have in common.

With several processes every batch is one batch of all: each draws the random numbers of the whole and keeps the rows of
its part, and what a loss divides by is that of the whole. Gradients are averaged over processes, so that a run computes
what one process alone would, up to rounding.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Protocol, Self, TypeVar

import torch
from jaxtyping import Shaped
from torch import Tensor
from torch import distributed as dist


class Sliceable(Protocol):
    """Arrays and tensors."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice, /) -> Self: ...


Rows = TypeVar("Rows", bound=Sliceable)


@dataclass(frozen=True)
class Share:
    """One of ``count`` equal parts of a batch; the default is the whole.

    Methods that talk to other processes must be called by all of them, in the same order.

    Attributes:
        number: of the part, and of the process.
        count: of parts.
    """

    number: int = 0
    count: int = 1

    def of(self, whole: Rows) -> Rows:
        """The rows of this part."""
        size = len(whole) // self.count
        return whole[self.number * size : (self.number + 1) * size]

    def drawn(self, draw: Callable[[int], Rows], rows: int) -> Rows:
        """What ``draw`` gives this part, whose number of rows is ``rows``, when it draws for the whole."""
        return self.of(draw(rows * self.count))

    def mean(self, value: Shaped[Tensor, "*S"]) -> Shaped[Tensor, "*S"]:
        """Mean over the processes, without gradient."""
        if self.count == 1:
            return value
        total = value.detach().clone()
        dist.all_reduce(total)
        return total / self.count

    def gathered(self, rows: Shaped[Tensor, " N *S"]) -> Sequence[Shaped[Tensor, " M *S"]]:
        """The rows of each process, in order, without gradient; their number may differ."""
        if self.count == 1:
            return (rows,)
        # Lightning brings torchmetrics; what serves does without both.
        from torchmetrics.utilities.distributed import gather_all_tensors

        return gather_all_tensors(rows.detach())


WHOLE = Share()
"""The whole batch, of one process alone."""


def own_share() -> Share:
    """The part of the running process."""
    if not dist.is_available() or not dist.is_initialized():
        return WHOLE
    return Share(dist.get_rank(), dist.get_world_size())


def common_clock() -> float:
    """Seconds of a clock that all processes share, that of the first one, so that they decide alike."""
    held = [monotonic()]
    if own_share().count > 1:
        dist.broadcast_object_list(held, src=0)
    return held[0]


def randn_rows(like: Shaped[Tensor, " B *S"], generator: torch.Generator | None, share: Share) -> Tensor:
    """Unit normal numbers of the shape and device of ``like``, the rows of one part."""

    def draw(rows: int) -> Tensor:
        return torch.randn((rows, *like.shape[1:]), generator=generator, device=like.device)

    return share.drawn(draw, len(like))
