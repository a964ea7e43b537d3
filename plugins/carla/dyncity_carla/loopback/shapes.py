"""What arguments look like on the wire, checked field by field; ``argument_shapes`` has those of CARLA's classes.

A class travels as an array of its fields; optionals as ``[false]`` or ``[true, value]``; variants as
``[index, fields]``. A shape says what is wrong with a value, and where.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

U8_MAX, U16_MAX, U32_MAX, U64_MAX = 2**8 - 1, 2**16 - 1, 2**32 - 1, 2**64 - 1


class ShapeError(Exception):
    """An argument does not have the shape its method takes; the message says where and why."""


@dataclass(frozen=True)
class Shape:
    """A named check.

    Attributes:
        name: as the method table shows it.
        check: takes a value and the path to it; raises ShapeError.
    """

    name: str
    check: Callable[[object, str], None]


def _wrong(path: str, got: object, expected: str) -> ShapeError:
    shown = repr(got)
    return ShapeError(f"{path}: got {shown if len(shown) <= 80 else shown[:77] + '...'}, expected {expected}")


def _number(value: object, path: str) -> None:
    if type(value) is float:
        if not math.isfinite(value):
            raise _wrong(path, value, "a finite number")
    elif type(value) is not int:
        raise _wrong(path, value, "a number")


def _boolean(value: object, path: str) -> None:
    if type(value) is not bool:
        raise _wrong(path, value, "a boolean")


def _text(value: object, path: str) -> None:
    if type(value) is not str:
        raise _wrong(path, value, "a string")


def integer(name: str, low: int, high: int) -> Shape:
    """Whole numbers in ``[low, high]``."""

    def check(value: object, path: str) -> None:
        if type(value) is not int or not low <= value <= high:
            raise _wrong(path, value, f"an integer in [{low}, {high}]")

    return Shape(name, check)


def array(name: str, *fields: tuple[str, Shape]) -> Shape:
    """An array of exactly these fields."""
    checks = [(field, shape.check) for field, shape in fields]

    def check(value: object, path: str) -> None:
        if type(value) is not list or len(value) != len(checks):
            raise _wrong(path, value, f"{name}, an array of {len(checks)}: {', '.join(field for field, _ in checks)}")
        for item, (field, check_field) in zip(value, checks, strict=True):
            check_field(item, f"{path}.{field}")

    return Shape(name, check)


def list_of(shape: Shape) -> Shape:
    """An array of any length."""

    def check(value: object, path: str) -> None:
        if type(value) is not list:
            raise _wrong(path, value, f"an array of {shape.name}")
        for place, item in enumerate(value):
            shape.check(item, f"{path}[{place}]")

    return Shape(f"[{shape.name}]", check)


def optional(shape: Shape) -> Shape:
    """``[false]`` or ``[true, value]``."""

    def check(value: object, path: str) -> None:
        if value == [False] and type(value[0]) is bool:
            return
        if type(value) is not list or len(value) != 2 or value[0] is not True:
            raise _wrong(path, value, f"[false] or [true, {shape.name}]")
        shape.check(value[1], path)

    return Shape(f"optional {shape.name}", check)


def variant(name: str, alternatives: Callable[[], Sequence[Shape]]) -> Shape:
    """``[index, value]``; the alternatives come from a function, since a command may hold commands."""

    def check(value: object, path: str) -> None:
        shapes = alternatives()
        if type(value) is not list or len(value) != 2:
            raise _wrong(path, value, f"{name}, [index, value]")
        if type(value[0]) is not int or not 0 <= value[0] < len(shapes):
            raise _wrong(f"{path}.index", value[0], f"an index of {name} in [0, {len(shapes) - 1}]")
        shapes[value[0]].check(value[1], f"{path}.{shapes[value[0]].name}")

    return Shape(name, check)


FLOAT = Shape("float", _number)
BOOL = Shape("bool", _boolean)
TEXT = Shape("str", _text)
U8 = integer("u8", 0, U8_MAX)
U16 = integer("u16", 0, U16_MAX)
U32 = integer("u32", 0, U32_MAX)
U64 = integer("u64", 0, U64_MAX)
I32 = integer("i32", -(2**31), 2**31 - 1)

METADATA = array("Metadata", ("is_async", BOOL))


def check_arguments(arguments: object, shapes: Sequence[Shape]) -> None:
    """Check what a client sent after the metadata.

    Raises:
        ShapeError: another number of arguments, or one of another shape.
    """
    if type(arguments) is not list or not arguments:
        raise _wrong("args", arguments, "an array that begins with Metadata")
    METADATA.check(arguments[0], "args.metadata")
    if len(arguments) - 1 != len(shapes):
        expected = ", ".join(shape.name for shape in shapes) or "none"
        raise ShapeError(f"args: got {len(arguments) - 1} arguments, expected {len(shapes)} ({expected})")
    for place, (argument, shape) in enumerate(zip(arguments[1:], shapes, strict=True)):
        shape.check(argument, f"args[{place}]")
