"""The metrics of an evaluation, and of bootstrap draws of it."""

import numpy as np
import pytest
from sklearn import metrics as reference

from flowerml.classifier.calibration import Calibration, softmax
from flowerml.evaluation.metrics import BootstrapMetrics, undo_temperature
from flowerml.evaluation.reliability import expected_calibration_error
from tests.support.evaluations import evaluation_of, random_answers


@pytest.mark.parametrize("classes", [2, 5])
def test_draws_equal_scikit_learn(classes):
    probabilities, targets = random_answers(200, classes)
    rounded = probabilities.round(2)  # with ties
    counts = np.random.default_rng(1).integers(3, size=200)
    rows = np.repeat(np.arange(200), counts)
    drawn, truth = rounded[rows], targets[rows]
    predicted = drawn.argmax(axis=1)
    metrics = BootstrapMetrics(rounded, targets, top_k=3, uncalibrated=None, known=None)(counts)
    assert metrics["accuracy"] == pytest.approx(reference.accuracy_score(truth, predicted))
    assert metrics["macro_f1"] == pytest.approx(reference.f1_score(truth, predicted, average="macro"))
    assert metrics["ece"] == pytest.approx(expected_calibration_error(drawn, truth))
    if classes == 2:
        assert metrics["roc_auc"] == pytest.approx(reference.roc_auc_score(truth, drawn[:, 1]))
    else:
        assert metrics["top_3_accuracy"] >= metrics["accuracy"]
        exact = BootstrapMetrics(probabilities, targets, top_k=3, uncalibrated=None, known=None)(counts)
        assert exact["loss"] == pytest.approx(reference.log_loss(truth, probabilities[rows], labels=range(5)))
        assert exact["top_3_accuracy"] == pytest.approx(
            reference.top_k_accuracy_score(truth, probabilities[rows], k=3, labels=range(5))
        )


def test_the_temperature_can_be_undone():
    logits = np.random.default_rng(0).normal(size=(20, 6)) * 3
    np.testing.assert_allclose(undo_temperature(softmax(logits / 0.4), Calibration(temperature=0.4)), softmax(logits))


def test_ece_of_a_calibrated_one_may_be_zero():
    generator = np.random.default_rng(3)
    near_zero = 0
    for _ in range(20):
        confidence = generator.uniform(0.5, 1, 400)
        probabilities = np.stack([confidence, 1 - confidence], axis=1)
        targets = (generator.random(400) > confidence).astype(np.int64)
        interval = evaluation_of(probabilities, targets).intervals(top_k=1, resamples=200)["ece"]
        assert 0 <= interval.low <= interval.estimate <= interval.high
        near_zero += interval.low < 0.01
    assert near_zero >= 18


def test_abstaining_raises_accuracy():
    probabilities, targets = random_answers(1000)
    calibration = Calibration(2.0, known_above=0.7, acceptance=0.9)
    known = probabilities.max(axis=1) >= 0.7
    metrics = evaluation_of(probabilities, targets, calibration=calibration, known=known).metrics(top_k=1)
    assert metrics["known_share"] == pytest.approx(np.mean(known))
    assert metrics["known_accuracy"] > metrics["accuracy"] + 0.02
    uncalibrated = undo_temperature(probabilities, calibration)
    assert metrics["ece_uncalibrated"] == pytest.approx(expected_calibration_error(uncalibrated, targets))
    none = evaluation_of(probabilities, targets, known=np.zeros(1000, dtype=bool)).metrics(top_k=1)
    assert none["known_share"] == 0 and "known_accuracy" not in none


@pytest.mark.parametrize("correct", [True, False])
def test_no_interval_of_few_examples_is_a_point(correct):
    targets = np.arange(37) % 2
    predicted = targets if correct else 1 - targets
    probabilities = np.where(np.eye(2, dtype=bool)[predicted], 0.97, 0.03)
    calibration = Calibration(1.5, known_above=0.5, acceptance=0.9)
    evaluation = evaluation_of(probabilities, targets, calibration=calibration, known=np.ones(37, dtype=bool))
    intervals = evaluation.intervals(top_k=1, resamples=50)
    assert {name for name, interval in intervals.items() if interval.high - interval.low < 0.05} == {"loss"}
    assert all(interval.low <= interval.estimate <= interval.high for interval in intervals.values())
    limits = (0.906, 1) if correct else (0, 0.094)
    assert (intervals["macro_f1"].low, intervals["macro_f1"].high) == pytest.approx(limits, abs=0.004)


def test_a_calibration_error_of_no_mistakes_may_be_zero():
    probabilities, targets = np.tile([0.97, 0.03], (37, 1)), np.zeros(37, dtype=np.int64)
    error = evaluation_of(probabilities, targets).intervals(top_k=1, resamples=50)["ece"]
    assert (error.low, error.estimate, error.high) == pytest.approx((0, 0.03, 0.97 - 0.906), abs=1e-3)


def test_a_rare_class_widens_a_perfect_macro_f1():
    targets = np.array([0] * 90 + [1] * 10)
    intervals = evaluation_of(np.eye(2)[targets], targets).intervals(top_k=1, resamples=20)
    assert intervals["macro_f1"].low < 0.91 < 0.96 < intervals["accuracy"].low
