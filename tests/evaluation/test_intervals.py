"""Intervals: how sure a number is."""

import numpy as np
import pytest

from flowerml.evaluation.intervals import Interval, paired_difference, perfect_auc, wilson_interval
from tests.support.evaluations import evaluation_of, evaluation_of_hits, random_answers


def test_accuracy_interval_is_binomial():
    hits = np.arange(500) % 10 > 0
    interval = evaluation_of_hits(hits).intervals(top_k=1, resamples=2000)["accuracy"]
    half = 1.96 * (0.9 * 0.1 / 500) ** 0.5
    assert (interval.estimate, interval.low, interval.high) == pytest.approx((0.9, 0.9 - half, 0.9 + half), abs=0.003)


def test_intervals_cover_the_truth():
    generator = np.random.default_rng(7)
    covered = 0
    for _ in range(120):
        hits = generator.random(150) < 0.8
        interval = evaluation_of_hits(hits).intervals(top_k=1, resamples=150)["accuracy"]
        covered += interval.low <= 0.8 <= interval.high
    assert 0.89 <= covered / 120 <= 0.99


def test_intervals_are_reproducible():
    probabilities, targets = random_answers()
    first, second = (evaluation_of(probabilities, targets).intervals(top_k=2, resamples=50) for _ in range(2))
    assert first == second


def test_a_few_hits_are_not_certainty():
    interval = evaluation_of_hits([True] * 20).intervals(top_k=1, resamples=100)["accuracy"]
    assert interval.estimate == interval.high == 1 and interval.low == pytest.approx(0.839, abs=0.001)


@pytest.mark.parametrize(("hits", "count", "low", "high"), [(0, 10, 0, 0.2775), (8, 10, 0.4902, 0.9433), (0, 0, 0, 1)])
def test_wilson_limits(hits, count, low, high):
    interval = wilson_interval(hits, count)
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=1e-4)


def test_pairing_shows_small_differences():
    old = np.arange(1000) % 10 > 0
    new = old | (np.arange(1000) % 50 == 0)  # correct on 20 more, and wherever the old one was
    difference = paired_difference(new, old, resamples=2000, seed=0)
    assert difference.estimate == pytest.approx(0.02)
    assert (difference.low, difference.high) == pytest.approx((0.02 - 0.0087, 0.02 + 0.0087), abs=0.002)
    # The two accuracies alone have overlapping intervals.
    assert evaluation_of_hits(new).intervals(top_k=1, resamples=500)["accuracy"].low < old.mean() + 0.01


def test_infinite_limits_are_null_in_json():
    assert Interval(0.5, float("nan"), 0.7).limits() == {"low": None, "high": 0.7}


def test_equal_answers_differ_by_zero():
    hits = np.arange(100) % 3 > 0
    assert paired_difference(hits, hits, resamples=100, seed=0) == Interval(0, 0, 0)
    with pytest.raises(ValueError, match="the same examples"):
        paired_difference(hits, hits[1:], resamples=100, seed=0)


@pytest.mark.parametrize(("first", "second"), [(20, 17), (10, 40)])
def test_a_perfect_auc_is_unlikely_below_its_limit(first, second):
    few = min(first, second)
    low = perfect_auc(1, first, second).low
    # The worst of all cases: scores of the smaller class are above all others, or below all of them.
    assert 0.02 < low**few < 0.04
    assert perfect_auc(0, first, second).high == pytest.approx(1 - low)
