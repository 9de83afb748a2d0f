"""Reliability: confidence against accuracy."""

import math

import numpy as np
import pytest

from flowerml.evaluation.reliability import expected_calibration_error, reliability_table

CONFIDENCE = np.array([0.55, 0.6, 0.65, 0.95, 1.0])
PROBABILITIES = np.stack([CONFIDENCE, 1 - CONFIDENCE], axis=1)
TARGETS = np.array([0, 1, 0, 0, 0])


def test_examples_are_binned_by_confidence():
    table = reliability_table(PROBABILITIES, TARGETS, bins=10)
    assert table["count"].tolist() == [2, 1, 2]
    assert table["accuracy"].tolist() == [0.5, 1.0, 1.0]
    assert table["confidence"].tolist() == pytest.approx([0.575, 0.65, 0.975])


def test_ece_is_the_mean_gap():
    error = expected_calibration_error(PROBABILITIES, TARGETS, bins=10)
    assert error == pytest.approx((2 * 0.075 + 0.35 + 2 * 0.025) / 5)
    assert math.isnan(expected_calibration_error(np.zeros((0, 2)), np.zeros(0, dtype=np.int64)))
