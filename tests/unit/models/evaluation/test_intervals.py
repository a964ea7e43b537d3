from dataclasses import dataclass, field

import numpy as np
import pytest
from dyncity_models.evaluation.intervals import OF, Interval, intervals_of, mean_with_interval, pooled_with_interval

from dyncity_sim.errors import InvalidInputError

NAN = float("nan")


def test_intervals_hold_the_true_mean_about_as_often_as_their_level_says():
    rng = np.random.default_rng(0)
    found = [mean_with_interval(rng.normal(3.0, 2.0, 40), rng, 0.8) for _ in range(200)]
    held = np.mean([interval.low <= 3.0 <= interval.high for interval in found])
    assert 0.7 < held < 0.88
    assert np.mean([interval.high - interval.low for interval in found]) == pytest.approx(
        2 * 1.28 * 2 / np.sqrt(40), rel=0.1
    )


def test_an_interval_leaves_out_as_much_on_either_side():
    interval = mean_with_interval(np.linspace(-1.0, 1.0, 41), np.random.default_rng(0), 0.8)
    assert abs(interval.low + interval.high) < 0.05 * (interval.high - interval.low)


def test_what_was_not_measured_is_left_out_and_counted():
    rng = np.random.default_rng(0)
    interval = mean_with_interval([1.0, NAN, 3.0, NAN, NAN], rng)
    assert (interval.mean, interval.count, interval.missing) == (2.0, 2, 3)
    assert 1.0 <= interval.low < interval.high <= 3.0


def test_the_same_generator_gives_the_same_interval():
    values = np.random.default_rng(1).normal(size=20)
    first, second = (mean_with_interval(values, np.random.default_rng(5)) for _ in range(2))
    assert first == second


def test_one_value_has_no_interval_and_none_has_no_mean():
    rng = np.random.default_rng(0)
    alone, nothing = mean_with_interval([2.0], rng), mean_with_interval([NAN], rng)
    assert (alone.mean, alone.count, alone.missing) == (2.0, 1, 0)
    assert (nothing.count, nothing.missing) == (0, 1)
    assert np.isnan([alone.low, alone.high, nothing.mean, nothing.low, nothing.high]).all()


@pytest.mark.parametrize(("values", "level"), [([1.0, float("inf")], 0.95), ([1.0, 2.0], 1.0), ([1.0, 2.0], NAN)])
def test_infinite_values_and_impossible_levels_are_refused(values, level):
    with pytest.raises(InvalidInputError):
        mean_with_interval(values, np.random.default_rng(0), level)


@dataclass(frozen=True)
class Score:
    share: float
    count: int


def test_each_field_of_scores_gets_its_own_interval():
    found = intervals_of([Score(0.5, 2), Score(0.5, 4), Score(NAN, 0)], np.random.default_rng(0))
    assert found["share"] == Interval(0.5, 0.5, 0.5, 2, 1)
    assert (found["count"].mean, found["count"].count) == (2.0, 3)


@dataclass(frozen=True)
class ShareOfSome:
    count: int
    share: float = field(metadata={OF: "count"})


def test_a_share_of_several_chunks_is_that_of_all_that_they_hold():
    """One of one, none of four and two of five: three of ten, not the mean of the shares."""
    scores = [ShareOfSome(1, 1.0), ShareOfSome(4, 0.0), ShareOfSome(0, NAN), ShareOfSome(5, 0.4)]
    share = intervals_of(scores, np.random.default_rng(0))["share"]
    assert (share.mean, share.count, share.missing) == (pytest.approx(0.3), 3, 1)
    assert (share.low, share.high) == (0.0, 1.0)


def test_chunks_that_count_alike_have_the_interval_of_their_mean():
    values = np.random.default_rng(1).normal(size=20)
    plain, counted = (mean_with_interval(values, np.random.default_rng(5), 0.9, c) for c in (None, [3.0] * 20))
    assert [counted.mean, counted.low, counted.high] == pytest.approx([plain.mean, plain.low, plain.high])


@pytest.mark.parametrize("scores", [[], [Score(0.5, 2), Interval(0, 0, 0, 0, 0)]])
def test_scores_of_no_or_several_kinds_are_refused(scores):
    with pytest.raises(InvalidInputError):
        intervals_of(scores, np.random.default_rng(0))


def test_a_score_of_summed_counts_has_an_interval_that_holds_the_true_one_as_often_as_it_says():
    def share(counts):
        return counts[0] / counts.sum()

    rng, held = np.random.default_rng(0), 0
    for _ in range(60):
        sizes = rng.integers(5, 50, 40)
        hits = rng.binomial(sizes, 0.3)
        interval = pooled_with_interval(np.stack([hits, sizes - hits], axis=1), share, rng)
        assert interval.low < interval.mean == hits.sum() / sizes.sum() < interval.high
        held += interval.low <= 0.3 <= interval.high
    assert 0.85 <= held / 60 <= 1.0


def test_one_chunk_says_nothing_of_the_spread_of_a_score():
    interval = pooled_with_interval(
        np.array([[3, 1]]), lambda counts: counts[0] / counts.sum(), np.random.default_rng(0)
    )
    assert (interval.mean, interval.count) == (0.75, 1)
    assert np.isnan([interval.low, interval.high]).all()
