"""What is found when it is asked for: optional packages, which extras of ours bring, and entry points."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from dyncity_sim.errors import DyncityError, InvalidInputError, MissingExtraError

EXTRAS = {"dyncity_models": "models", "dyncity_sumo": "sumo", "dyncity_carla": "carla"}
"""Extra that installs what a package of this distribution imports."""


def import_extra(module: str, package: str, extra: str, purpose: str) -> ModuleType:
    """A module of an optional package.

    Args:
        module: its dotted name.
        package: the name that the package is installed by.
        extra: ours that brings it.
        purpose: what needs it, as the beginning of a sentence.

    Raises:
        MissingExtraError: the package is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingExtraError(package, extra, purpose) from error


def look_for_extra(packages: Iterable[str], extra: str, purpose: str) -> None:
    """See, before long work begins, that there is what its end will import; nothing is imported for it.

    Args:
        packages: their names, as they are imported.
        extra: ours that brings them.
        purpose: what needs them, as the beginning of a sentence.

    Raises:
        MissingExtraError: one of them is not installed.
    """
    for package in packages:
        if find_spec(package) is None:
            raise MissingExtraError(package, extra, purpose)


@contextmanager
def packages_of(module: str, purpose: str) -> Iterator[None]:
    """While a module of this distribution is imported, a missing package is told by the extra that brings it.

    Args:
        module: its dotted name; modules of other distributions fail as they do.
        purpose: what needs it, as the beginning of a sentence.

    Raises:
        MissingExtraError: a package that it imports is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        missing, package = (error.name or "").split(".")[0], module.split(".")[0]
        if package not in EXTRAS or missing in ("", package):
            raise
        raise MissingExtraError(missing, EXTRAS[package], purpose) from error


def load_named(group: str, name: str, noun: str) -> Any:
    """What one package registered as ``name`` under an entry point group.

    Raises:
        InvalidInputError: nothing, or more than one thing, has that name; ``noun`` says what was looked for.
        MissingExtraError: a package that it is made of is not installed.
        DyncityError: it cannot be loaded for another reason.
    """
    found: dict[str, list[EntryPoint]] = {}
    for entry_point in entry_points(group=group):
        found.setdefault(entry_point.name, []).append(entry_point)
    if len(found.get(name, [])) != 1:
        raise InvalidInputError(
            noun,
            repr(name) if name not in found else f"{name!r} registered {len(found[name])} times",
            f"one of {', '.join(sorted(found)) or '(none installed)'}",
        )
    return load_entry_point(found[name][0], noun)


def load_entry_point(entry_point: EntryPoint, noun: str) -> Any:
    """What an entry point names; raises as ``load_named``."""
    what = f"The {noun} {entry_point.name!r}"
    try:
        with packages_of(entry_point.module, what):
            return entry_point.load()
    except (ImportError, AttributeError) as error:
        raise DyncityError(f"{what} of {entry_point.value} cannot be loaded: {error}") from error
