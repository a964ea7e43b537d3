"""Every error this project raises on purpose.

::

    DyncityError
    ├── InvalidInputError         a value from outside has the wrong shape, range, unit or meaning
    │   ├── ConfigError           a configuration key or value
    │   ├── CheckpointError       weights that are missing, truncated or of another model
    │   └── MapError              a road network that cannot be read or driven on
    ├── UnsupportedConditionError the weights were not trained with the condition asked for
    ├── MissingExtraError         an optional package is not installed
    ├── SimulatorError            a simulator refused, stopped or misbehaved
    │   └── RoadEndsError         the ego stands where its road ends
    ├── StorageError              a file could not be written whole
    ├── BusyError                 the engine's queue is full: try again later
    ├── DeadlineError             the work was not done by the time its caller set
    ├── UnavailableError          the server cannot be reached, is starting or is draining
    └── RemoteError               the server failed for a reason of its own

A message names the field, what was got, what was expected, and what to do about it.
"""

from typing import Self


class DyncityError(Exception):
    """Base of every error that is meant for the user."""


class InvalidInputError(DyncityError):
    """A value from outside is wrong; carries the four parts of a useful message.

    Args:
        field: dotted name of the offending field, e.g. ``plan.poses_world_from_ego``.
        got: what arrived, in the user's terms.
        expected: what would have been accepted.
        mend: what to do about it; may be empty when ``expected`` says it all.
    """

    def __init__(self, field: str, got: object, expected: str, mend: str = "") -> None:
        self.field = field
        self.got = got
        self.expected = expected
        self.mend = mend
        super().__init__(f"{field}: got {got}, expected {expected}." + (f" {mend}" if mend else ""))

    def __reduce__(self) -> tuple[type[Self], tuple[str, object, str, str]]:
        """Errors of worker processes are raised in the one that waits for them."""
        return type(self), (self.field, self.got, self.expected, self.mend)


class ConfigError(InvalidInputError):
    """A configuration key is unknown or its value does not fit."""


class CheckpointError(InvalidInputError):
    """Weights are missing, truncated, or belong to another model."""


class MapError(InvalidInputError):
    """A road network cannot be read, or has no lane to drive on."""


class UnsupportedConditionError(DyncityError):
    """The loaded weights were not trained with the condition that was asked for."""


class MissingExtraError(DyncityError):
    """An optional package is needed for this and is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        self.package = package
        self.extra = extra
        super().__init__(
            f"{purpose} needs the package {package!r}, which is not installed. "
            f"Install it with: pip install '.[{extra}]' in the project's folder"
        )


class SimulatorError(DyncityError):
    """A simulator refused a call, stopped, or returned something impossible."""


class RoadEndsError(SimulatorError):
    """No plan goes on from where the ego stands; what was driven up to there is whole."""


class StorageError(DyncityError):
    """A file could not be written whole (disk full, permission); nothing was left half-written."""


class BusyError(DyncityError):
    """The engine's queue is full.

    Args:
        message: what was full.
        retry_after_s: seconds after which a retry is worth trying.
    """

    def __init__(self, message: str, retry_after_s: float) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(f"{message} Try again in {retry_after_s:.1f} s.")


class DeadlineError(DyncityError):
    """The work was not done by the time its caller set, and was dropped."""


class UnavailableError(DyncityError):
    """The server cannot be reached, is still starting, or is draining."""


class RemoteError(DyncityError):
    """The server failed; the message holds the incident id that its log explains."""
