"""Optional packages, which extras of ours bring."""

from importlib import import_module
from types import ModuleType

from dyncity_sim.errors import MissingExtraError


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
