"""An evaluation's tables and files."""

import numpy as np
import pandas as pd
import pytest

from flowerml.classifier.calibration import Calibration
from tests.support.evaluations import evaluation_of, random_answers


def test_coverage_accepts_ties_together():
    probabilities, targets = random_answers(300)
    rounded = probabilities.round(1)
    table = evaluation_of(rounded, targets).coverage()
    assert table["threshold"].is_monotonic_decreasing and table["threshold"].is_unique
    assert table["share"].iloc[-1] == 1
    assert table["accuracy"].iloc[-1] == pytest.approx((rounded.argmax(axis=1) == targets).mean())


def test_worst_mistakes_come_first():
    probabilities = np.array([[0.6, 0.4], [0.99, 0.01], [0.2, 0.8], [0.7, 0.3]])
    assert evaluation_of(probabilities, np.array([1, 1, 1, 1])).mistakes(most=2).tolist() == [1, 3]


def test_tables_and_metrics_are_written(tmp_path):
    probabilities, targets = random_answers(60)
    evaluation = evaluation_of(
        probabilities,
        targets,
        calibration=Calibration(1.5, 0.4, 0.95),
        known=np.ones(60, bool),
        out_of_distribution=np.linspace(0, 0.5, 60),
        properties=tuple({"brightness": value} for value in np.linspace(0, 1, 60)),
    )
    metrics = evaluation.write(tmp_path, top_k=2, resamples=20)
    assert set(pd.read_csv(tmp_path / "reliability.csv")["probabilities"]) == {"calibrated", "uncalibrated"}
    slices = pd.read_csv(tmp_path / "slices.csv")
    assert slices["property"].value_counts().to_dict() == {"brightness": 4, "out of distribution": 4}
    predictions = pd.read_csv(tmp_path / "predictions.csv")
    assert predictions["known"].all() and predictions["out_of_distribution"].max() == 0.5
    assert pd.read_json(tmp_path / "metrics.json", typ="series").to_dict() == pytest.approx(
        {name: interval.estimate for name, interval in metrics.items()}
    )
