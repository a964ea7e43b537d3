"""Means over many chunks or drives, and how far other samples of them would have moved those means."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from jaxtyping import Int64

from dyncity_sim.errors import InvalidInputError

RESAMPLES = 2000
"""Bootstrap samples; the ends of a 95 % interval then rest on 50 of them each."""

LEVEL = 0.95
"""Share of intervals that hold the true mean."""

OF = "of"
"""Key of a field's metadata: the attribute that counts what the field is a mean over, so that means over several scores
are means over all that was counted.
"""


@dataclass(frozen=True)
class Interval:
    """A mean and its bootstrap confidence interval.

    Attributes:
        mean: of what was measured; NaN when nothing was.
        low: lower end; NaN under two values, which say nothing about their spread.
        high: upper end.
        count: values behind it.
        missing: values that were NaN, because there was nothing to measure, and are left out.
    """

    mean: float
    low: float
    high: float
    count: int
    missing: int


def known_mean(values: Iterable[float]) -> float:
    """Mean of what was measured, which NaN was not; NaN when nothing was."""
    measured = [value for value in values if not np.isnan(value)]
    return float(np.mean(measured)) if measured else float("nan")


def mean_with_interval(
    values: Iterable[float],
    rng: np.random.Generator,
    level: float = LEVEL,
    counts: Iterable[float] | None = None,
) -> Interval:
    """Mean with a percentile bootstrap interval (Efron and Tibshirani, An Introduction to the Bootstrap, ch. 13).

    Values are drawn anew as if they were independent: give one value a drive where chunks of one drive are alike.

    Args:
        values: one measurement each; NaN where there was nothing to measure.
        rng: draws the samples.
        level: share of intervals that hold the true mean, between 0 and 1.
        counts: of how many each measurement is a mean, above 0 where there was something to measure; the mean is then
            that over all of them. Each counts once by default.

    Raises:
        InvalidInputError: an infinite value, or a level that is no share.
    """
    if not 0 < level < 1:
        raise InvalidInputError("level", level, "a number between 0 and 1")
    given = np.asarray(list(values), dtype=np.float64)
    if np.isinf(given).any():
        raise InvalidInputError("values", "an infinite value", "finite numbers, or NaN where nothing was measured")
    there = ~np.isnan(given)
    measured = given[there]
    count, missing = len(measured), len(given) - len(measured)
    weights = np.ones(count) if counts is None else np.asarray(list(counts), dtype=np.float64)[there]
    if count == 0:
        return Interval(float("nan"), float("nan"), float("nan"), 0, missing)
    mean = float((weights * measured).sum() / weights.sum())
    if count == 1:
        return Interval(mean, float("nan"), float("nan"), 1, missing)
    drawn = rng.integers(count, size=(RESAMPLES, count))
    means = (weights * measured)[drawn].sum(axis=1) / weights[drawn].sum(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(mean, float(low), float(high), count, missing)


def pooled_with_interval(
    counts: Int64[np.ndarray, " N *S"],
    score: Callable[[Int64[np.ndarray, "*S"]], float],
    rng: np.random.Generator,
) -> Interval:
    """A score of counts that are summed over chunks, with a percentile bootstrap interval over chunks.

    Args:
        counts: of each chunk.
        score: of the counts of several chunks together; NaN where there is nothing to score.
        rng: draws the samples.
    """
    own, count = score(counts.sum(axis=0)), len(counts)
    if count < 2 or np.isnan(own):
        return Interval(own, float("nan"), float("nan"), count, 0)
    often = rng.multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
    scores = [score(np.tensordot(times, counts, axes=1)) for times in often]
    low, high = np.nanquantile(scores, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(own, float(low), float(high), count, 0)


def intervals_of(scores: Sequence[Any], rng: np.random.Generator) -> dict[str, Interval]:
    """An interval for each field of some scores.

    Args:
        scores: dataclasses of one kind whose fields are numbers, one for each chunk or drive. The metadata of a field
            may name what it is a mean over (``OF``).
        rng: draws the bootstrap samples.

    Raises:
        InvalidInputError: no scores, or scores of several kinds.
    """
    kinds = {type(score) for score in scores}
    if len(kinds) != 1:
        raise InvalidInputError("scores", f"{len(kinds)} kinds among {len(scores)}", "one or more scores of one kind")
    of = {field.name: field.metadata.get(OF) for field in fields(kinds.pop())}
    return {
        name: mean_with_interval(
            [getattr(score, name) for score in scores],
            rng,
            counts=None if count is None else [getattr(score, count) for score in scores],
        )
        for name, count in of.items()
    }
