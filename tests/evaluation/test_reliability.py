"""Reliability: confidence against accuracy."""

import math

import numpy as np
import pytest

from flowerml.evaluation.reliability import expected_calibration_error, reliability_table

CONFIDENCE = np.array([0.55, 0.6, 0.65, 0.95, 1.0])
PROBABILITIES = np.stack([CONFIDENCE, 1 - CONFIDENCE], axis=1)
TARGETS = np.array([0, 1, 0, 0, 0])


def test_examples_are_binned_by_confidence():
    table = reliability_table(PROBABILITIES, TARGETS, bins=10, least=1)
    assert table["count"].tolist() == [2, 1, 2]
    assert table["accuracy"].tolist() == [0.5, 1.0, 1.0]
    assert table["confidence"].tolist() == pytest.approx([0.575, 0.65, 0.975])


def test_ece_is_the_mean_gap():
    error = expected_calibration_error(PROBABILITIES, TARGETS, bins=10)
    assert error == pytest.approx((2 * 0.075 + 0.35 + 2 * 0.025) / 5)
    assert math.isnan(expected_calibration_error(np.zeros((0, 2)), np.zeros(0, dtype=np.int64)))


def test_small_bins_are_pooled():
    table = reliability_table(PROBABILITIES, TARGETS, bins=10, least=2)
    assert table["count"].tolist() == [2, 3]
    assert table["accuracy"].tolist() == [0.5, 1.0]
    assert table["confidence"].tolist() == pytest.approx([0.575, (0.65 + 0.95 + 1.0) / 3])


@pytest.mark.parametrize("count", [1, 9, 10, 35, 400])
def test_bins_hold_ten_examples(count):
    confidence = np.random.default_rng(count).uniform(0.5, 1, count)
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    table = reliability_table(probabilities, np.zeros(count, dtype=np.int64))
    assert table["count"].sum() == count
    assert table["count"].min() >= min(10, count)
    assert table["confidence"].is_monotonic_increasing


def test_one_full_bin_takes_the_rest():
    confidence = np.array([0.6] * 12 + [0.99] * 3)
    table = reliability_table(np.stack([confidence, 1 - confidence], axis=1), np.zeros(15, dtype=np.int64))
    assert table["count"].tolist() == [15]
