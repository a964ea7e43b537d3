"""Files that appear under their final name only when they are whole.

A symbolic link stays: what it leads to is written, whether or not that is there yet.
"""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from dyncity_sim.errors import InvalidInputError, StorageError


@contextmanager
def whole_file(file: Path) -> Iterator[Path]:
    """Yield a temporary sibling of ``file`` to write to; it takes the final name when the block succeeds.

    Missing parent folders are made. When the block fails, nothing is left behind and a file that stood
    under the name before is untouched.

    Raises:
        StorageError: the disk is full, or the folder may not be written to.
    """
    target = _led_to(file)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, target)
    except OSError as error:
        raise StorageError(f"{file} could not be written: {error.strerror or error}.") from error
    finally:
        # What cannot be looked for, since its folder is none, is not there.
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def whole_files(files: Sequence[Path]) -> Iterator[list[Path]]:
    """Yield a place to write each of several files to; they take their final names, one by one, if the block succeeds.

    A place has the name of its file, in a hidden folder beside it. Missing parent folders are made. When the block
    fails, nothing is left behind and files that stood under the names before are untouched.

    Raises:
        StorageError: a place cannot be made, or a file cannot be moved there.
    """
    with ExitStack() as stack:
        yield [stack.enter_context(_beside(file)) for file in files]


@contextmanager
def _beside(file: Path) -> Iterator[Path]:
    target = _led_to(file)
    place = target.parent / f".{target.name}.{os.getpid()}.part" / file.name
    try:
        _remove_leftovers(place.parent)
        place.parent.mkdir(parents=True)
        yield place
        os.replace(place, target)
    except OSError as error:
        raise StorageError(f"{file} could not be written: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(place.parent, ignore_errors=True)


def write_bytes(content: bytes, file: Path) -> None:
    """Write ``content`` whole, or raise StorageError and leave what was there."""
    with whole_file(file) as temporary:
        temporary.write_bytes(content)


def write_text(content: str, file: Path) -> None:
    """Write ``content`` as UTF-8, whole, or raise StorageError and leave what was there."""
    write_bytes(content.encode("utf-8"), file)


def json_bytes(content: object) -> bytes:
    """JSON as files hold it: the same bytes for the same content.

    Raises:
        ValueError: a number that is not finite.
    """
    return (json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, unless they are there, or raise StorageError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{folder} cannot be made: {error.strerror or error}.") from error


def check_free(folder: Path) -> None:
    """Raise InvalidInputError where ``whole_folder`` would, for those who look before long work."""
    if not folder.name:
        raise InvalidInputError("folder", str(folder), "a folder with a name", "It takes the place of what is there.")
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise InvalidInputError(
            "folder", str(folder), "a name that is free, or an empty folder", "Remove it or name another."
        )


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary sibling of ``folder`` to fill; it takes the final name when the block succeeds.

    Raises:
        InvalidInputError: something is under the final name already; nothing is ever overwritten.
        StorageError: the disk is full, or the parent folder may not be written to.
    """
    check_free(folder)
    target = _led_to(folder)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        _remove_leftovers(temporary)
        temporary.mkdir(parents=True)
        yield temporary
        os.replace(temporary, target)
    except OSError as error:
        raise StorageError(f"{folder} could not be written: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _led_to(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _remove_leftovers(folder: Path) -> None:
    """Of a process that was killed and had the number of this one, as all have that are alone in a container."""
    shutil.rmtree(folder, ignore_errors=True)
