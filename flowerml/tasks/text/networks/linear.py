"""Linear SVMs on weighted n-grams: one for each class against the rest, fitted by liblinear."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import scipy.sparse as sparse
from numpy.typing import NDArray

from flowerml.engine.blas import one_thread
from flowerml.tasks.text.networks.folds import Rows
from flowerml.tasks.text.networks.ngram_counts import NGramCounts

# With 0.01 a fit takes half as long again and is no better.
TOLERANCE = 0.1

Floats = NDArray[np.float64]
Weighting = Literal["ratios", "idf", "plain"]


@dataclass(frozen=True)
class LinearFit:
    """How n-grams are weighted and the SVMs are fitted.

    A text is the vector of its counts times `norms`, divided by its length. `idf` is the logarithm of an n-gram's
    inverse document frequency, `plain` weights all alike. `ratios` also multiplies by naive-Bayes log-count ratios: the
    NB-SVM of Wang & Manning (2012), "Baselines and Bigrams: Simple, Good Sentiment and Topic Classification", with two
    changes: repeated n-grams count more than once, and frequent ones less.
    """

    counts: NGramCounts
    targets: NDArray[np.int64]
    classes: int
    weighting: Weighting
    smoothing: float
    seed: int
    class_weights: NDArray[Any] | None

    def __call__(self, rows: Rows, *, penalty: float) -> "LinearModel":
        """Return the model of these rows of the train split. `penalty` is LinearSVC's C."""
        fitter = self.fitter(rows, penalty)
        fit = fitter.ratios if self.weighting == "ratios" else fitter.together
        weights, intercepts = fit(self.classes)
        return LinearModel(self.counts, fitter.norms, weights * fitter.norms[:, None].astype(np.float32), intercepts)

    @property
    def work(self) -> int:
        """The number of values that one pass of liblinear over the training texts reads, for all classes."""
        return int(self.counts.values["train"].nnz) * (self.classes if self.classes > 2 else 1)

    def fitter(self, rows: Rows, penalty: float) -> "Fitter":
        """Return the weighted features of these rows, ready for a fit."""
        texts, targets = _rows(self.counts.values["train"], rows), self.targets[rows]
        frequencies = np.bincount(texts.indices, minlength=texts.shape[1])
        norms = (frequencies >= self.counts.minimum_count).astype(np.float64)
        if self.weighting != "plain":
            norms *= np.log((1 + len(rows)) / (1 + frequencies)) + 1
        features = _scale(texts, norms, 1 / _lengths(texts, norms))
        sample_weights = None if self.class_weights is None else self.class_weights[targets]
        return Fitter(features, targets, norms, frequencies, penalty, self.smoothing, self.seed, sample_weights)


@dataclass(frozen=True)
class LinearModel:
    """Weights [G, C] of counts, whose sum is divided by the length of the vector of counts times `norms` [G]."""

    counts: NGramCounts
    norms: Floats
    weights: NDArray[np.float32]
    intercepts: Floats

    def __call__(self, split: str, rows: Rows) -> Floats:
        """Return the margins [len(rows), C]."""
        texts = _rows(self.counts.values[split], rows)
        return np.asarray(texts @ self.weights / _lengths(texts, self.norms)[:, None] + self.intercepts)


@dataclass(frozen=True)
class Fitter:
    """The features of texts [N, G], and how SVMs are fitted on them."""

    features: sparse.csr_matrix
    targets: NDArray[np.int64]
    norms: Floats
    frequencies: NDArray[np.int64]
    penalty: float
    smoothing: float
    seed: int
    sample_weights: NDArray[Any] | None

    def together(self, classes: int) -> tuple[NDArray[np.float32], Floats]:
        """Return weights [G, C] and intercepts [C] of SVMs that share their features."""
        present = np.unique(self.targets)
        weights, intercepts = _empty(self.features.shape[1], classes, present)
        if len(present) > 1:
            svm = self._fit(self.features, self.targets)
            coefficients, offsets = svm.coef_.T, svm.intercept_
            if len(present) == 2:
                coefficients, offsets = np.hstack([-coefficients, coefficients]), np.concatenate([-offsets, offsets])
            weights[:, present], intercepts[present] = coefficients, offsets
        return weights, intercepts

    def ratios(self, classes: int) -> tuple[NDArray[np.float32], Floats]:
        """Return weights [G, C] and intercepts [C] of SVMs that see each n-gram times its ratio for the class."""
        present = np.unique(self.targets)
        weights, intercepts = _empty(self.features.shape[1], classes, present)
        if len(present) > 1:
            for label in present[1:] if len(present) == 2 else present:
                ratios = self.log_count_ratios(self.targets == label)
                svm = self._fit(_scale(self.features, ratios), self.targets == label)
                weights[:, label], intercepts[label] = svm.coef_[0] * ratios, svm.intercept_[0]
            if len(present) == 2:
                weights[:, present[0]], intercepts[present[0]] = -weights[:, present[1]], -intercepts[present[1]]
        return weights, intercepts

    def log_count_ratios(self, positive: NDArray[np.bool_]) -> Floats:
        """Return the log ratio of each n-gram's share in the positive texts to its share in the rest, [G].

        Shares are of the n-grams that occur, so the sizes of the two groups cancel. Those that don't occur get 0.
        """
        occurs = self.frequencies > 0
        inside = np.bincount(self.features[positive].indices, minlength=len(occurs))
        counts = [part[occurs] + self.smoothing for part in (inside, self.frequencies - inside)]
        shares = [np.log(part / part.sum()) for part in counts]
        ratios = np.zeros(len(occurs))
        ratios[occurs] = shares[0] - shares[1]
        return ratios

    def _fit(self, features: sparse.csr_matrix, targets: NDArray[Any]) -> Any:
        from sklearn.svm import LinearSVC  # a second to import, and only fitting needs it

        # Not in threads: liblinear's generator of random numbers is one for the whole process, so that fits beside
        # each other return other bits each time.
        svm = LinearSVC(C=self.penalty, tol=TOLERANCE, random_state=self.seed)
        with one_thread():
            return svm.fit(features, targets, sample_weight=self.sample_weights)


def _empty(grams: int, classes: int, present: NDArray[np.int64]) -> tuple[NDArray[np.float32], Floats]:
    """Return weights of 0, and intercepts that decide for a class only if it is the only one present."""
    intercepts = np.full(classes, -1.0)
    if len(present) == 1:
        intercepts[present] = 1
    return np.zeros((grams, classes), np.float32), intercepts


def _rows(matrix: sparse.csr_matrix, rows: Rows) -> sparse.csr_matrix:
    return matrix if len(rows) == matrix.shape[0] else matrix[rows]


def _lengths(texts: sparse.csr_matrix, norms: Floats) -> Floats:
    """Return the length of each text's vector, 1 for a text without known n-grams."""
    lengths = np.sqrt(texts.power(2) @ norms**2)
    return np.where(lengths > 0, lengths, 1)


def _scale(matrix: sparse.csr_matrix, columns: Floats, rows: Floats | None = None) -> sparse.csr_matrix:
    """Return the matrix with its columns, and its rows, multiplied by numbers."""
    data = matrix.data * columns[matrix.indices]
    if rows is not None:
        data *= np.repeat(rows, np.diff(matrix.indptr))
    return sparse.csr_matrix((data, matrix.indices, matrix.indptr), shape=matrix.shape)
