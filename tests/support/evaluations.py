"""Answers of made-up classifiers, and their evaluations."""

import numpy as np

from flowerml.classifier.calibration import softmax
from flowerml.evaluation.evaluation import Evaluation


def random_answers(count=300, classes=4, seed=0, sharpness=2.0):
    """Return probabilities [count, classes] of a classifier that is often right, and the targets."""
    generator = np.random.default_rng(seed)
    targets = generator.integers(classes, size=count)
    logits = generator.normal(size=(count, classes)) + sharpness * np.eye(classes)[targets]
    return softmax(logits), targets


def evaluation_of(probabilities, targets, **fields):
    """Return the evaluation of these answers; classes are a, b, c, …"""
    labels = tuple("abcdefghij"[: probabilities.shape[1]])
    ids = tuple(f"{number}.jpg" for number in range(len(targets)))
    return Evaluation(labels, {label: label.upper() for label in labels}, ids, targets, probabilities, **fields)


def evaluation_of_hits(hits):
    """Return an evaluation of two classes with these hits."""
    hits = np.asarray(hits, dtype=bool)
    return evaluation_of(np.where(hits[:, None], [0.9, 0.1], [0.2, 0.8]), np.zeros(len(hits), dtype=np.int64))
