"""A world's settings: what a run that ticks changes of them, and what is put back when it is done."""

from dyncity_carla.plan import STEP_US
from dyncity_carla.ports import Settings

STEP_S = STEP_US / 1e6
"""One frame."""


def synchronous(settings: Settings) -> dict[str, bool | int | float | None]:
    """The same settings, but synchronous with a tick per frame, in substeps that physics can be computed in."""
    changed = {**settings, "synchronous_mode": True, "fixed_delta_seconds": STEP_S}
    reach_s = float(settings["max_substep_delta_time"] or 0) * int(settings["max_substeps"] or 0)
    if reach_s < STEP_S - 1e-9:
        changed |= {"max_substep_delta_time": 0.01, "max_substeps": round(STEP_S / 0.01)}
    return changed


def put_back(now: Settings, applied: Settings, saved: Settings) -> dict[str, bool | int | float | None]:
    """The settings now, but those that a run changed as it found them."""
    return {**now, **{name: saved[name] for name in _changed(applied, saved)}}


def still_applied(now: Settings, applied: Settings, saved: Settings) -> bool:
    """Whether all that a run changed is as it made it: in a server that was started anew it is not."""
    return now.keys() == applied.keys() and all(_same(now[name], applied[name]) for name in _changed(applied, saved))


def _changed(applied: Settings, saved: Settings) -> list[str]:
    return [name for name in saved if not _same(applied[name], saved[name])]


def _same(first: bool | int | float | None, second: bool | int | float | None) -> bool:
    """Whether two values of a setting agree; servers keep some in single precision."""
    if first is None or second is None:
        return first is second
    return abs(first - second) <= 1e-5 * max(1.0, abs(first))
