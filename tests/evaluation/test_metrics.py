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
