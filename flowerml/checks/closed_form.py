"""Linear classifiers that follow from sums over rows, so that one pass over the rows fits them.

The sums of all rows less those of some are the sums of the others: so the same pass fits a model without each fold.
Dense vectors get a linear discriminant (R. Fisher, "The use of multiple measurements in taxonomic problems", 1936),
sparse ones complement naive Bayes (J. Rennie et al., "Tackling the Poor Assumptions of Naive Bayes Text Classifiers",
2003), since a covariance is quadratic in the number of columns. Not scikit-learn's: theirs want all rows at once, or
have no way to take rows away.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from flowerml.checks.cosines import Vectors, folding

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

MAX_DIMENSIONS = 2048  # of a discriminant; more columns are folded to so many
SHRINKAGE = 1.0  # how much of the mean variance is added to each
MAX_WEIGHTS = 2**26  # of naive Bayes, classes x columns: 256 MB; more columns are folded to fewer
SMOOTHING = 1.0

Scores = Callable[[Any], NDArray[np.float32]]
"""From a matrix of rows [B, D] to the scores of the classes [B, C]."""


@dataclass
class Discriminant:
    """What a linear discriminant follows from: counts [C], sums of vectors [C, D] and of their products [D, D]."""

    counts: NDArray[np.float64]
    sums: NDArray[np.float64]
    products: NDArray[np.float64]

    @classmethod
    def empty(cls, classes: int, columns: int) -> Self:
        return cls(np.zeros(classes), np.zeros((classes, columns)), np.zeros((columns, columns)))

    def add(self, vectors: NDArray[np.float32], targets: NDArray[np.int64]) -> None:
        """Add rows: vectors [B, D], targets [B]."""
        self.counts += np.bincount(targets, minlength=len(self.counts))
        self.sums += _members(targets, len(self.counts)) @ vectors
        self.products += vectors.T @ vectors

    def without(self, part: "Discriminant") -> "Discriminant":
        """Return the sums of the rows that are not in a part."""
        return Discriminant(self.counts - part.counts, self.sums - part.sums, self.products - part.products)

    def plus(self, part: "Discriminant") -> "Discriminant":
        """Return the sums of these rows and those of a part."""
        return Discriminant(self.counts + part.counts, self.sums + part.sums, self.products + part.products)

    def fit(self) -> Scores:
        """Return the classifier of these rows."""
        from scipy import linalg

        means = self.sums / np.maximum(self.counts, 1)[:, None]
        covariance = (self.products - means.T @ self.sums) / max(1.0, self.counts.sum() - len(self.counts))
        covariance[np.diag_indices_from(covariance)] += SHRINKAGE * np.trace(covariance) / len(covariance) + 1e-12
        weights = linalg.solve(covariance, means.T, assume_a="pos")
        priors = np.log(np.maximum(self.counts, 0.5) / self.counts.sum())
        offsets = (priors - 0.5 * np.einsum("cd,dc->c", means, weights)).astype(np.float32)
        weights = weights.astype(np.float32)
        return lambda vectors: vectors @ weights + offsets


@dataclass
class ComplementBayes:
    """What complement naive Bayes follows from: the sums of vectors, [C, D], of entries that are not negative."""

    sums: NDArray[np.float32]

    @classmethod
    def empty(cls, classes: int, columns: int) -> Self:
        return cls(np.zeros((classes, columns), np.float32))

    def add(self, vectors: "csr_matrix", targets: NDArray[np.int64]) -> None:
        """Add rows: vectors [B, D], targets [B]."""
        sums = (_members(targets, len(self.sums)) @ vectors).tocoo()
        self.sums[sums.row, sums.col] += sums.data

    def without(self, part: "ComplementBayes") -> "ComplementBayes":
        """Return the sums of the rows that are not in a part."""
        return ComplementBayes(np.maximum(self.sums - part.sums, 0))

    def plus(self, part: "ComplementBayes") -> "ComplementBayes":
        """Return the sums of these rows and those of a part."""
        return ComplementBayes(self.sums + part.sums)

    def fit(self) -> Scores:
        """Return the classifier of these rows."""
        others = self.sums.sum(axis=0) - self.sums
        others += np.float32(SMOOTHING)
        others /= others.sum(axis=1, keepdims=True)
        weights = np.ascontiguousarray(-np.log(others, out=others).T)
        return lambda vectors: vectors @ weights


def model_for(
    vectors: Vectors, classes: int
) -> tuple[type[Discriminant] | type[ComplementBayes], Callable[[Any], Any]]:
    """Return the model that suits vectors, and a function that folds a matrix of rows to its columns."""
    from scipy import sparse

    if not sparse.issparse(vectors[:1]):
        return Discriminant, folding(vectors, MAX_DIMENSIONS)
    columns = min(vectors.shape[1], max(MAX_DIMENSIONS, MAX_WEIGHTS // classes))

    def fold(matrix: "csr_matrix") -> "csr_matrix":
        folded = sparse.csr_matrix((matrix.data, matrix.indices % columns, matrix.indptr), (matrix.shape[0], columns))
        folded.sum_duplicates()
        return folded

    return ComplementBayes, fold


def _members(targets: NDArray[np.int64], classes: int) -> "csr_matrix":
    """Return which rows are of which class, [classes, B]."""
    from scipy import sparse

    ones, columns = np.ones(len(targets), np.float32), np.arange(len(targets))
    return sparse.csr_matrix((ones, (targets, columns)), (classes, len(targets)))
