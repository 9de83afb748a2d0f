"""Comparisons: how sure a difference is, of two networks and of two sets of repeats."""

import importlib

import numpy as np
import pandas as pd
import pytest

from flowerml.core.errors import DataError
from flowerml.evaluation.comparison import PSEUDO_EXAMPLES, compare, difference, sentences
from tests.support.project import REPOSITORY


def predictions(hits, *, probability=0.8):
    """Return the predictions of a classifier of a and b that is right where `hits` says so."""
    predicted = np.where(hits, "a", "b")
    columns = {"actual": "a", "predicted": predicted, "probability_of_actual": np.where(hits, probability, 0.1)}
    return pd.DataFrame({"id": [str(number) for number in range(len(hits))], **columns})


def hits(*wrong, count=1000):
    return ~np.isin(np.arange(count), wrong)


def test_pairing_makes_small_differences_clear():
    comparison = compare([predictions(hits(*range(10)))], [predictions(hits(*range(40)))])
    limits = comparison.accuracy.interval
    assert (comparison.accuracy.verdict, comparison.differing) == ("better", (30, 0))
    assert (limits.estimate, limits.low, limits.high) == pytest.approx((0.03, 0.0193, 0.0407), abs=0.0003)
    assert comparison.loss.verdict == "worse"  # a lower loss


def test_sides_mirror_each_other():
    first, second = [predictions(hits(1, 2, 3))], [predictions(hits(3, 4)), predictions(hits(5))]
    forth, back = compare(first, second).accuracy, compare(second, first).accuracy
    assert forth.interval.low == pytest.approx(-back.interval.high)
    assert (-back).interval.estimate == pytest.approx(forth.interval.estimate)


def test_equal_answers_are_not_certainty():
    accuracy = compare([predictions(hits())], [predictions(hits())]).accuracy
    assert accuracy.verdict == "unclear"
    assert 0.001 < accuracy.interval.high < 0.004
    assert difference(np.ones((1, 1000)), np.ones((1, 1000))).interval.high == 0


def test_spread_of_seeds_widens_the_interval():
    rng = np.random.default_rng(0)
    steady = [rng.random(1000) < share for share in (0.9, 0.9, 0.9)]
    moving = [rng.random(1000) < share for share in (0.80, 0.9, 0.99)]
    base = [rng.random(1000) < 0.85 for _ in range(3)]
    narrow, wide = difference(steady, base), difference(moving, base)
    assert wide.seeds > 3 * wide.examples > 0
    assert narrow.interval.high - narrow.interval.low < (wide.interval.high - wide.interval.low) / 3


def test_examples_that_one_could_not_read_are_left_out():
    first, second = predictions(hits(count=10)), predictions(hits(0, count=8))
    comparison = compare([first], [second.sample(frac=1, random_state=0)])
    assert (comparison.examples, comparison.differing) == (8, (1, 0))


def test_one_example_is_too_few():
    with pytest.raises(DataError, match="at least 2 test examples"):
        compare([predictions(hits(count=1))], [predictions(hits(count=1))])
    with pytest.raises(ValueError, match="the same N >= 2"):
        difference(np.ones((1, 3)), np.ones((1, 2)))


def test_other_labels_are_other_data():
    with pytest.raises(DataError, match="labels of the test examples differ"):
        compare([predictions(hits(count=4))], [predictions(hits(count=4)).assign(actual="b")])


def test_certain_mistakes_have_a_finite_loss():
    comparison = compare([predictions(hits(0, 5)).assign(probability_of_actual=0.0)], [predictions(hits(0, 9))])
    assert np.isfinite(comparison.loss.interval.high)


def test_words_say_who_is_better_and_what_would_help():
    better, chance = sentences(compare([predictions(hits(*range(10)))], [predictions(hits(*range(40)))]))
    assert better == "A is better by 1.9 to 4.1 points of accuracy (95 %), measured 3.0."
    assert chance.startswith("Other test examples (1,000) could move it by 1.1 points; ")
    unclear, _, advice = sentences(compare([predictions(hits(*range(6)))], [predictions(hits(*range(3, 10)))]))
    assert unclear == "Not clear which is better: A - B is -0.45 to +0.65 points of accuracy (95 %), measured +0.10."
    assert advice == "To tell a difference of this size, about 32,000 test examples would be needed."


def test_coarse_simulation_covers_the_truth(monkeypatch):
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")
    coverage = importlib.import_module("coverage_of_intervals")
    rng = np.random.default_rng(0)
    for case in coverage.CASES[:: len(coverage.CASES) // 4]:
        covered = coverage.simulate(case, 150, rng)["both"]
        assert 0.90 <= covered <= 0.99, case  # 150 draws of 0.95 lie in there with a probability of 0.99
    seeds = coverage.Case(examples=800, networks=(3, 3), accuracies=(0.90, 0.85), seeds=0.1)
    assert coverage.simulate(seeds, 100, rng)["examples alone"] < 0.8
    assert PSEUDO_EXAMPLES == 0.5
