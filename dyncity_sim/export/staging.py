"""A hidden folder beside what an export makes, which takes its place when it is whole."""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from dyncity_sim.errors import InvalidInputError, StorageError


def check_free(places: Sequence[Path]) -> None:
    """Raise InvalidInputError where something is at one of the places."""
    for place in places:
        if place.exists():
            raise InvalidInputError("--out", f"{place}, which exists", "a place that is free", "Name another --out.")


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """A hidden folder in ``out``, which is gone after the block; so is ``out`` if it is new and nothing is in it.

    Raises:
        StorageError: the folder cannot be made, or something in the block cannot be written.
    """
    there, staging = out.exists(), out / f".export.{os.getpid()}.part"
    try:
        # A process that was killed may have had the number of this one, as all have that are alone in a container.
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        yield staging
    except OSError as error:
        raise StorageError(f"{out} could not be written to: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        if not there and out.is_dir() and not any(out.iterdir()):
            out.rmdir()


@contextmanager
def told_of(out: Path, part: Path) -> Iterator[None]:
    """StorageErrors of the block name ``out``, where users look, in the place of ``part``, which is gone by then."""
    try:
        yield
    except StorageError as error:
        raise StorageError(str(error).replace(str(part), str(out))) from error


def take_places(made: Path, out: Path, places: Sequence[Path]) -> None:
    """Move what lies in ``made`` under the names of ``places`` to ``out``: all of it or nothing.

    Raises:
        OSError: something cannot be moved.
    """
    with ExitStack() as back:
        for place in places:
            from_there = made / place.relative_to(out)
            place.parent.mkdir(parents=True, exist_ok=True)
            os.replace(from_there, place)
            back.callback(os.replace, place, from_there)
        back.pop_all()
