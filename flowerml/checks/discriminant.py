"""Likely label errors among many rows, by linear discriminants that are fitted in one pass and judge in a second one.

A discriminant needs the mean of each class and one covariance (R. Fisher, "The use of multiple measurements in
taxonomic problems", 1936), and these are sums over rows: those of a model that has not seen a fold are the sums of all
rows less the fold's. So a pass over the rows adds up what all models need, and memory does not grow with rows. Its
probabilities are too confident; one temperature corrects that, the likeliest on a sample (C. Guo et al., "On
Calibration of Modern Neural Networks", ICML 2017).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flowerml.checks.cosines import Vectors, folding

FOLDS = 3
MIN_MARGIN = 0.7  # between the probabilities of another class and of the label; finds two in three planted errors
MAX_DIMENSIONS = 2048  # more are folded to so many, as a covariance is quadratic in them
NUMBERS_AT_ONCE = 2**23  # of a block of rows or of their probabilities: 32 MB
SHRINKAGE = 1.0  # share of the mean variance that is added to each
TEMPERATURES = np.geomspace(0.1, 100, 30)
SAMPLE = 10_000  # rows that the temperature follows from


@dataclass(frozen=True)
class Suspect:
    """A row whose encoding speaks for another class, `suggested`, of this probability.

    `margin` is that less the probability of its label.
    """

    row: int
    suggested: int
    margin: float
    probability: float


@dataclass(frozen=True)
class Discriminant:
    """Linear scores of classes: vectors @ weights + offsets. weights [D, C], offsets [C]."""

    weights: NDArray[np.float32]
    offsets: NDArray[np.float32]


@dataclass
class Sums:
    """What a discriminant follows from: counts [C], sums of vectors [C, D] and of their products [D, D]."""

    counts: NDArray[np.float64]
    sums: NDArray[np.float64]
    products: NDArray[np.float64]

    @classmethod
    def zero(cls, classes: int, dimensions: int) -> "Sums":
        return cls(np.zeros(classes), np.zeros((classes, dimensions)), np.zeros((dimensions, dimensions)))

    def add(self, vectors: NDArray[np.float32], targets: NDArray[np.int64]) -> None:
        """Add rows: vectors [B, D], targets [B]."""
        from scipy import sparse  # type: ignore[import-untyped]

        members = sparse.csr_matrix(
            (np.ones(len(targets), np.float32), (targets, np.arange(len(targets)))), (len(self.counts), len(targets))
        )
        self.counts += np.bincount(targets, minlength=len(self.counts))
        self.sums += members @ vectors
        self.products += vectors.T @ vectors

    def without(self, other: "Sums") -> "Sums":
        return Sums(self.counts - other.counts, self.sums - other.sums, self.products - other.products)

    def fit(self) -> Discriminant:
        """Return the discriminant of these rows."""
        from scipy import linalg

        means = self.sums / np.maximum(self.counts, 1)[:, None]
        covariance = (self.products - means.T @ self.sums) / max(1.0, self.counts.sum() - len(self.counts))
        covariance[np.diag_indices_from(covariance)] += SHRINKAGE * np.trace(covariance) / len(covariance) + 1e-12
        weights = linalg.solve(covariance, means.T, assume_a="pos")
        priors = np.log(np.maximum(self.counts, 0.5) / self.counts.sum())
        offsets = priors - 0.5 * np.einsum("cd,dc->c", means, weights)
        return Discriminant(weights.astype(np.float32), offsets.astype(np.float32))


class Rows:
    """The judged rows of vectors as dense blocks, with their fold: `rows[numbers]` reads some, [len(numbers), D]."""

    def __init__(self, vectors: Vectors, rows: NDArray[np.int64], targets: NDArray[np.int64]) -> None:
        self._vectors, self._rows = vectors, rows
        self.targets = targets
        self.classes = int(targets.max()) + 1
        self.folds = stratified_folds(targets)
        self._fold = folding(vectors, MAX_DIMENSIONS)
        self.dimensions = self[np.arange(1)].shape[1]

    def __getitem__(self, numbers: NDArray[np.int64]) -> NDArray[np.float32]:
        return self._fold(self._vectors[self._rows[numbers]])

    def blocks(self) -> "list[NDArray[np.int64]]":
        """Return the numbers of the rows in blocks of bounded size."""
        size = max(1, NUMBERS_AT_ONCE // max(self.dimensions, self.classes))
        return np.array_split(np.arange(len(self.targets)), -(-len(self.targets) // size))


def suspects(vectors: Vectors, rows: NDArray[np.int64], targets: NDArray[np.int64]) -> list[Suspect]:
    """Return those of the rows [N] of vectors that likely have a wrong label; `row` is a number of `rows`.

    As MIN_MARGIN is above one half, only the likeliest class can be suggested, and the others need not be kept. targets
    [N] have at least FOLDS rows of each class.
    """
    data = Rows(vectors, rows, targets)
    models = _fit(data)
    temperature = _temperature(data, models)
    of_label = np.empty(len(targets), dtype=np.float32)
    best, suggested = np.empty_like(of_label), np.empty(len(targets), dtype=np.int64)
    for block in data.blocks():
        probabilities = _softmax(_scores(data, models, block) / np.float32(temperature))
        own = (np.arange(len(block)), targets[block])
        of_label[block] = probabilities[own]
        probabilities[own] = -1
        suggested[block] = probabilities.argmax(axis=1)
        best[block] = probabilities.max(axis=1)
    thresholds = np.bincount(targets, weights=of_label) / np.bincount(targets)
    margins = best - of_label
    chosen = np.flatnonzero((margins >= MIN_MARGIN) & (best >= thresholds[suggested]))
    return [Suspect(row, suggested[row], margins[row], best[row]) for row in chosen]


def stratified_folds(targets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the fold of each row [N], drawn so that each class has as many rows in each, give or take one."""
    order = np.random.default_rng(0).permutation(len(targets))
    order = order[np.argsort(targets[order], kind="stable")]
    sizes = np.bincount(targets)
    starts = np.cumsum(sizes) - sizes
    folds = np.empty(len(targets), dtype=np.int64)
    folds[order] = (np.arange(len(targets)) - starts[targets[order]]) % FOLDS
    return folds


def _fit(data: Rows) -> list[Discriminant]:
    """Return a discriminant for each fold, fitted without it."""
    parts = [Sums.zero(data.classes, data.dimensions) for _ in range(FOLDS)]
    for block in data.blocks():
        vectors = data[block]
        for fold, part in enumerate(parts):
            chosen = data.folds[block] == fold
            part.add(vectors[chosen], data.targets[block][chosen])
    total = Sums(*(sum(getattr(part, name) for part in parts) for name in ("counts", "sums", "products")))
    return [total.without(part).fit() for part in parts]


def _scores(data: Rows, models: list[Discriminant], block: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the scores of rows [B, C], each of the model that has not seen it."""
    vectors = data[block]
    scores = np.empty((len(block), data.classes), dtype=np.float32)
    for fold, model in enumerate(models):
        chosen = data.folds[block] == fold
        scores[chosen] = vectors[chosen] @ model.weights + model.offsets
    return scores


def _temperature(data: Rows, models: list[Discriminant]) -> float:
    """Return the temperature under which the labels of a sample are likeliest."""
    sample = np.unique(np.linspace(0, len(data.targets) - 1, SAMPLE).astype(np.int64))
    losses = np.zeros(len(TEMPERATURES))
    for block in np.array_split(sample, max(1, len(sample) * data.classes // NUMBERS_AT_ONCE)):
        scores = _scores(data, models, block)
        own = (np.arange(len(block)), data.targets[block])
        for number, temperature in enumerate(TEMPERATURES):
            losses[number] -= np.log(np.maximum(_softmax(scores / np.float32(temperature))[own], 1e-12)).sum()
    return float(TEMPERATURES[losses.argmin()])


def _softmax(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    return scores / scores.sum(axis=1, keepdims=True)
