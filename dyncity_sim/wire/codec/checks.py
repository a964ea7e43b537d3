"""What several converters check of a message before a noun is made of it."""

from collections.abc import Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper

from dyncity_sim.errors import InvalidInputError
from dyncity_sim.wire.limits import MAX_FRAMES

Noun = TypeVar("Noun")
Number = TypeVar("Number", int, float)


@contextmanager
def extremes_reach_the_checks() -> Iterator[None]:
    """Let finite but absurd numbers overflow to infinity quietly; the nouns' checks then refuse them."""
    with np.errstate(over="ignore", invalid="ignore"):
        yield


def check_frames(values: Sized, field: str) -> None:
    """Refuse more values of a frame each than a message may have."""
    if len(values) > MAX_FRAMES:
        raise InvalidInputError(field, f"{len(values)} frames", f"at most {MAX_FRAMES}")


def triple(values: Sequence[Number], field: str) -> tuple[Number, Number, Number]:
    """Exactly three numbers."""
    if len(values) != 3:
        raise InvalidInputError(field, f"{len(values)} numbers", "3: x, y, z")
    return (values[0], values[1], values[2])


def from_enum(nouns: Mapping[int, Noun], enum: EnumTypeWrapper, number: int, field: str) -> Noun:
    """The noun of an enum's number; UNSPECIFIED and unknown ones are refused."""
    if number not in nouns:
        got = enum.Name(number) if number in enum.values() else number
        raise InvalidInputError(field, got, f"one of {', '.join(enum.Name(known) for known in nouns)}")
    return nouns[number]
