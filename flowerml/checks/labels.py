"""Likely label errors: examples whose encodings speak for another class than their label.

The core of confident learning (C. Northcutt, L. Jiang, I. Chuang, "Confident Learning: Estimating Uncertainty in
Dataset Labels", JAIR 2021): probabilities come from models that have not seen the example, and a model is confident of
a class where its probability reaches the mean over that class's own examples.

Not cleanlab, the authors' package: its license is the AGPL. `find_label_issues` there is given probabilities, and
prunes by the estimated noise rate of each pair of classes; here cross-validated models of the cached encodings give the
probabilities, and MIN_MARGIN keeps only the clearest cases. Up to EXACT_ROWS rows these are logistic regressions, or
the votes of neighbors; beyond it models whose cost grows as the rows do (see `cross_fitted`).
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from flowerml.checks import cross_fitted
from flowerml.checks.cosines import Matrix, Vectors
from flowerml.checks.cross_fitted import FOLDS, MIN_MARGIN, Suspect
from flowerml.data.examples import Key
from flowerml.data.findings import Finding, Suggestion
from flowerml.engine.similar import EXACT_ROWS

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier

MAX_PRODUCT = 2 * 10**9  # of rows, dimensions and classes: up to it a linear model is fitted within seconds
MAX_STEPS = 30
STRENGTH = 30.0  # C of the logistic regression, for vectors of length 1
NEIGHBORS = 10
MAX_CLASSES = 4096  # of more than EXACT_ROWS rows: the cost grows with rows x classes


def findings(
    keys: Sequence[Key], vectors: Vectors, names: Mapping[str, str], *, min_margin: float = MIN_MARGIN
) -> Iterator[Finding]:
    """Yield the examples with likely wrong labels, the likeliest first, if there are any.

    Another class is more probable than the label by at least `min_margin`; a smaller one finds more, and more that are
    right.
    `vectors` [N, D] have a row for each key; `names` are those of classes. Classes of fewer than FOLDS examples are
    skipped, and beyond EXACT_ROWS rows those that are not among the MAX_CLASSES largest, which is yielded, too.
    """
    labels = sorted({key.label for key in keys})
    index = {label: number for number, label in enumerate(labels)}
    numbers = np.fromiter((index[key.label] for key in keys), np.int64, len(keys))
    sizes = np.bincount(numbers)
    judged = sizes >= FOLDS
    if len(keys) > EXACT_ROWS and judged.sum() > MAX_CLASSES:
        judged &= np.argsort(np.argsort(-sizes, kind="stable")) < MAX_CLASSES
        left_out = int(sizes[(sizes >= FOLDS) & ~judged].sum())
        how = f"labels, for which only the {MAX_CLASSES:,} largest classes are looked at"
        yield Finding("partly_compared", left_out, "examples", detail=how)
    rows = np.flatnonzero(judged[numbers])
    classes, targets = np.unique(numbers[rows], return_inverse=True)
    if len(classes) < 2:
        return
    if len(keys) > EXACT_ROWS:
        suspects = cross_fitted.suspects(vectors, rows, targets, min_margin=min_margin)
    else:
        suspects = suspects_of(out_of_sample_probabilities(vectors[rows], targets), targets, min_margin)
    notes, suggestions = {}, {}
    for suspect in sorted(suspects, key=lambda suspect: -suspect.margin):
        label, other = labels[classes[targets[suspect.row]]], labels[classes[suspect.suggested]]
        id = keys[rows[suspect.row]].id
        notes[id] = f"is {names.get(label, label)}; looks like {names.get(other, other)} ({suspect.probability:.2f})"
        suggestions[id] = Suggestion(other, float(suspect.probability))
    if notes:
        things = "examples" if len(notes) > 1 else "example"
        groups = [[id] for id in notes]
        yield Finding("label_error", len(notes), things, groups, notes, suggestions=suggestions)


def suspects_of(
    probabilities: NDArray[np.floating], targets: NDArray[np.int64], min_margin: float = MIN_MARGIN
) -> list[Suspect]:
    """Return the rows with a likely wrong label. probabilities [N, C], targets [N]."""
    margins, suggested = label_margins(probabilities, targets)
    rows = np.flatnonzero(margins >= min_margin)
    return [Suspect(row, suggested[row], margins[row], probabilities[row, suggested[row]]) for row in rows.tolist()]


def label_margins(
    probabilities: NDArray[np.floating], targets: NDArray[np.int64]
) -> tuple[NDArray[np.floating], NDArray[np.int64]]:
    """Return by how much the best other class beats the label, [N], and that class, [N].

    Only classes that a row is confident of count: its probability reaches the mean over the class's own examples.
    Without another such class the margin is -1. probabilities [N, C], targets [N].

    >>> label_margins(np.array([[0.9, 0.1], [0.2, 0.8], [0.9, 0.1]]), np.array([0, 1, 1]))
    (array([-1. , -1. ,  0.8]), array([0, 1, 0]))
    """
    rows = np.arange(len(targets))
    of_label = probabilities[rows, targets]
    counts = np.bincount(targets, minlength=probabilities.shape[1])
    thresholds = np.bincount(targets, weights=of_label, minlength=probabilities.shape[1]) / np.maximum(counts, 1)
    confident = np.where(probabilities >= thresholds, probabilities, -1.0)
    suggested = confident.argmax(axis=1)
    best = confident[rows, suggested]
    return np.where((best >= 0) & (suggested != targets), best - of_label, -1.0), suggested


def out_of_sample_probabilities(vectors: Matrix, targets: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return each row's class probabilities [N, C] from a model fitted without its fold. vectors [N, D], targets [N].

    Where a linear model would take minutes, the nearest neighbors vote.
    """
    from sklearn.model_selection import StratifiedKFold

    if hasattr(vectors, "indices"):
        # Hashed columns are mostly empty: without these a fit on 3,800 texts of 8 classes takes a quarter of the time.
        vectors = vectors[:, np.unique(vectors.indices)]
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    probabilities = np.zeros((len(targets), targets.max() + 1))
    for fitted, held_out in folds.split(np.zeros(len(targets)), targets):
        model = _fit(vectors[fitted], targets[fitted])
        probabilities[held_out] = model.predict_proba(vectors[held_out])
    return probabilities


def _fit(vectors: Matrix, targets: NDArray[np.int64]) -> "LogisticRegression | KNeighborsClassifier":
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier

    numbers, classes = getattr(vectors, "nnz", vectors.size), targets.max() + 1
    if numbers * (1 if classes == 2 else classes) > MAX_PRODUCT:
        return KNeighborsClassifier(NEIGHBORS, algorithm="brute", weights="distance").fit(vectors, targets)
    with warnings.catch_warnings():  # stopped early on purpose: the likeliest class is settled long before
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LogisticRegression(C=STRENGTH, max_iter=MAX_STEPS).fit(vectors, targets)
