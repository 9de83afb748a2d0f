"""Likely label errors among many rows, in three passes over them, by models that have not seen the row they judge.

The first pass adds up what the models need (see `closed_form`), the second, over a sample, corrects how confident they
are by one temperature (C. Guo et al., "On Calibration of Modern Neural Networks", ICML 2017), the third one judges. The
memory for that is that of the models, of one block of rows, and of three numbers a row.
"""

from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowerml.checks.closed_form import Scores, model_for
from flowerml.checks.cosines import Vectors

FOLDS = 3
MIN_MARGIN = 0.7  # between the probabilities of another class and of the label; finds two in three planted errors
MAX_BLOCK = 4096  # rows
NUMBERS_AT_ONCE = 2**22  # of a block's probabilities: 16 MB
TEMPERATURES = np.geomspace(0.02, 50, 30)
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


def suspects(
    vectors: Vectors, rows: NDArray[np.int64], targets: NDArray[np.int64], *, min_margin: float = MIN_MARGIN
) -> list[Suspect]:
    """Return those of the rows [N] of vectors that likely have a wrong label; `row` is a number of `rows`.

    Only the likeliest class is suggested (above one half no other could be), so the others need not be kept. targets
    [N] have at least FOLDS rows of each class.
    """
    data = _Rows(vectors, rows, targets)
    models = data.fit()
    temperature = _temperature(data, models)
    of_label = np.empty(len(targets), dtype=np.float32)
    best, suggested = np.empty_like(of_label), np.empty(len(targets), dtype=np.int64)
    for block in data.blocks(np.arange(len(targets))):
        probabilities = _softmax(data.scores(models, block) / temperature)
        own = (np.arange(len(block)), targets[block])
        of_label[block] = probabilities[own]
        probabilities[own] = -1
        suggested[block] = probabilities.argmax(axis=1)
        best[block] = probabilities.max(axis=1)
    thresholds = np.bincount(targets, weights=of_label) / np.bincount(targets)
    margins = best - of_label
    chosen = np.flatnonzero((margins >= min_margin) & (best >= thresholds[suggested]))
    return [Suspect(row, suggested[row], margins[row], best[row]) for row in chosen.tolist()]


def stratified_folds(targets: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the fold of each row [N], drawn so that each class has as many rows in each, give or take one."""
    order = np.random.default_rng(0).permutation(len(targets))
    order = order[np.argsort(targets[order], kind="stable")]
    sizes = np.bincount(targets)
    starts = np.cumsum(sizes) - sizes
    folds = np.empty(len(targets), dtype=np.int64)
    folds[order] = (np.arange(len(targets)) - starts[targets[order]]) % FOLDS
    return folds


class _Rows:
    """The judged rows of vectors, of which a block is in memory at a time."""

    def __init__(self, vectors: Vectors, rows: NDArray[np.int64], targets: NDArray[np.int64]) -> None:
        self._vectors, self._rows, self.targets = vectors, rows, targets
        self._classes = int(targets.max()) + 1
        self._folds = stratified_folds(targets)
        self._model, self._fold = model_for(vectors, self._classes)

    def blocks(self, numbers: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Return the numbers of rows in blocks of bounded size."""
        size = max(1, min(MAX_BLOCK, NUMBERS_AT_ONCE // self._classes))
        return np.array_split(numbers, -(-len(numbers) // size))

    def fit(self) -> list[Scores]:
        """Return a model for each fold, fitted without it."""
        columns = self._read(np.arange(1)).shape[1]
        parts: list[Any] = [self._model.empty(self._classes, columns) for _ in range(FOLDS)]
        for block in self.blocks(np.arange(len(self.targets))):
            vectors = self._read(block)
            for fold, part in enumerate(parts):
                chosen = np.flatnonzero(self._folds[block] == fold)
                part.add(vectors[chosen], self.targets[block][chosen])
        total = reduce(lambda total, part: total.plus(part), parts[1:], parts[0])
        return [total.without(part).fit() for part in parts]

    def scores(self, models: list[Scores], block: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the scores of rows [B, C], each of the model that has not seen it."""
        vectors = self._read(block)
        scores = np.empty((len(block), self._classes), dtype=np.float32)
        for fold, model in enumerate(models):
            chosen = np.flatnonzero(self._folds[block] == fold)
            scores[chosen] = model(vectors[chosen])
        return scores

    def _read(self, numbers: NDArray[np.int64]) -> Any:
        return self._fold(self._vectors[self._rows[numbers]])


def _temperature(data: _Rows, models: list[Scores]) -> np.float32:
    """Return the temperature under which the labels of a sample are likeliest."""
    sample = np.unique(np.linspace(0, len(data.targets) - 1, SAMPLE).astype(np.int64))
    losses = np.zeros(len(TEMPERATURES))
    for block in data.blocks(sample):
        scores, own = data.scores(models, block), (np.arange(len(block)), data.targets[block])
        for number, temperature in enumerate(TEMPERATURES):
            losses[number] -= np.log(np.maximum(_softmax(scores / np.float32(temperature))[own], 1e-12)).sum()
    return np.float32(TEMPERATURES[losses.argmin()])


def _softmax(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    return scores / scores.sum(axis=1, keepdims=True)
