"""Likely label errors: examples whose encodings speak for another class than they are under.

The core of confident learning (C. Northcutt, L. Jiang, I. Chuang, "Confident Learning: Estimating Uncertainty in
Dataset Labels", JAIR 2021): probabilities from models that have not seen the example, and for each class the mean of
what its own examples are given as the threshold from which on a model is confident.
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowerml.data.examples import Key
from flowerml.data.findings import Finding

FOLDS = 3
MOST_NUMBERS = 2 * 10**9  # rows x dimensions x classes that a linear model is fitted to in seconds
STEPS = 30
STRENGTH = 30.0  # C of the logistic regression, for vectors of length 1
NEIGHBOURS = 10
SURE = 0.7  # by so much the other class must be the likelier one: of planted errors two in three are found


def finding(keys: Sequence[Key], vectors: Any, names: Mapping[str, str]) -> Finding | None:
    """The examples that are likely under a wrong label, the likeliest first; None where there are none.

    `vectors` [N, D] has a row for each key. Classes of fewer than three examples are passed over.
    """
    labels = np.array([key.label for key in keys])
    known, sizes = np.unique(labels, return_counts=True)
    rows = np.flatnonzero(np.isin(labels, known[sizes >= FOLDS]))
    classes, targets = np.unique(labels[rows], return_inverse=True)
    if len(classes) < 2:
        return None
    probabilities = out_of_sample(vectors[rows], targets)
    margins, others = suspects(probabilities, targets)
    found = np.flatnonzero(margins >= SURE)
    found = found[np.argsort(-margins[found], kind="stable")]
    if not len(found):
        return None
    notes = {}
    for place in found:
        label, other = classes[targets[place]], classes[others[place]]
        chance = probabilities[place, others[place]]
        notes[keys[rows[place]].id] = (
            f"is {names.get(label, label)}; looks like {names.get(other, other)} ({chance:.2f})"
        )
    return Finding(
        "label_error", len(notes), "examples" if len(notes) > 1 else "example", [[id] for id in notes], notes
    )


def suspects(probabilities: NDArray[np.floating], targets: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """For each row by how much another class is likelier than its own, [N], and that class, [N].

    Of classes only those count that a row is confidently of: it is given more than the mean of their own examples.
    Where there is none but its own the margin is -1. probabilities [N, C], targets [N].
    """
    every = np.arange(len(targets))
    own = probabilities[every, targets]
    counts = np.bincount(targets, minlength=probabilities.shape[1])
    thresholds = np.bincount(targets, weights=own, minlength=probabilities.shape[1]) / np.maximum(counts, 1)
    confident = np.where(probabilities >= thresholds, probabilities, -1.0)
    others = confident.argmax(axis=1)
    best = confident[every, others]
    return np.where((best >= 0) & (others != targets), best - own, -1.0), others


def out_of_sample(vectors: Any, targets: NDArray[np.int64]) -> NDArray[np.float64]:
    """The probability of each class for each row, from a model of the others' vectors, [N, C].

    Where a linear model would take minutes the nearest neighbours are asked.
    """
    from sklearn.model_selection import StratifiedKFold

    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    found = np.zeros((len(targets), targets.max() + 1))
    for others, held in folds.split(np.zeros(len(targets)), targets):
        model = _fitted(vectors[others], targets[others])
        found[held] = model.predict_proba(vectors[held])
    return found


def _fitted(vectors: Any, targets: NDArray[np.int64]) -> Any:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier

    numbers, classes = getattr(vectors, "nnz", vectors.size), targets.max() + 1
    if numbers * (1 if classes == 2 else classes) > MOST_NUMBERS:
        return KNeighborsClassifier(NEIGHBOURS, algorithm="brute", weights="distance").fit(vectors, targets)
    with warnings.catch_warnings():  # not trained to the end: the likeliest class is known long before
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LogisticRegression(C=STRENGTH, max_iter=STEPS).fit(vectors, targets)
