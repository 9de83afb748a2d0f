"""Groups of rows whose encodings point the same way."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from flowerml.engine import similar
from flowerml.engine.similar import Components, Pairs, Similar

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

BLOCK = 512  # rows that are compared with all others in one matrix product
ROWS_AT_ONCE = 32  # of a block, whose pairs are listed at once: a block of equal rows would have 50 million
READ_AT_ONCE = 4096  # rows in memory
SAMPLE = 20_000  # rows from which the thresholds of bits follow
BITS = 256  # of a row: on which side of random hyperplanes it is
SKETCH = 2048  # dimensions, to which longer vectors are folded first
LARGEST_SHARE = 0.35  # of bits in which a pair may differ that is still confirmed

Matrix: TypeAlias = "NDArray[np.float32] | csr_matrix"
Allowed = Callable[[Pairs], NDArray[np.bool_]]


class Vectors(Protocol):
    """Vectors of length 1, of which some are in memory at a time; NumPy arrays and sparse matrices are such, too."""

    @property
    def shape(self) -> tuple[int, ...]:
        """N and D."""

    def __getitem__(self, rows: Any) -> Any:
        """Return the rows of a slice or of row numbers as a matrix, dense or sparse."""


def similar_rows(vectors: Vectors, cosine: float, allowed: Allowed) -> Similar:
    """Return the groups of rows that are connected by pairs of at least this cosine, of those `allowed` returns.

    All pairs are compared up to EXACT_ROWS rows. Beyond it, rows are compared whose signs on random hyperplanes are
    close (M. Charikar, "Similarity estimation techniques from rounding algorithms", 2002).
    """
    if vectors.shape[0] <= similar.EXACT_ROWS:
        return Similar(_of_all_pairs(vectors[:], cosine, allowed).groups())
    bits, distance = signs(vectors, cosine)
    components = Components(vectors.shape[0])
    crowded = similar.sorted_neighbors(
        bits, lambda pairs: _confirmed(vectors, pairs, cosine, allowed), components, largest_distance=distance
    )
    return Similar(components.groups(), vectors.shape[0], similar.told(crowded, "examples"))


def _of_all_pairs(vectors: Matrix, cosine: float, allowed: Allowed) -> Components:
    components = Components(vectors.shape[0])
    for start in range(0, vectors.shape[0], BLOCK):
        close = vectors[start : start + BLOCK] @ vectors[start:].T >= cosine
        for first in range(0, close.shape[0], ROWS_AT_ONCE):
            pairs = np.transpose(close[first : first + ROWS_AT_ONCE].nonzero()).astype(np.int64)
            pairs[:, 0] += first
            pairs = components.separate(pairs[pairs[:, 0] < pairs[:, 1]] + start)
            components.join(pairs[allowed(pairs)])
    return components


def signs(vectors: Vectors, cosine: float) -> tuple[NDArray[np.uint64], int]:
    """Return the bits of each row, [N, BITS / 64], and in how many of them rows of this cosine may differ.

    Each hyperplane has as many rows of a sample on one side as on the other. Encodings lie in a narrow cone: without
    that most bits would be the same for all.
    """
    rng, fold = np.random.default_rng(0), folding(vectors, SKETCH)
    sample = fold(vectors[np.unique(np.linspace(0, vectors.shape[0] - 1, SAMPLE).astype(np.int64))])
    planes = rng.standard_normal((sample.shape[1], BITS), dtype=np.float32)
    thresholds = np.median(sample @ planes, axis=0)
    spread = float(np.var(sample, axis=0).sum())  # mean squared distance to the mean
    bits = np.empty((vectors.shape[0], BITS // 8), dtype=np.uint8)
    for start in range(0, len(bits), READ_AT_ONCE):
        rows = slice(start, start + READ_AT_ONCE)
        bits[rows] = np.packbits(fold(vectors[rows]) @ planes > thresholds, axis=1)
    angle = np.arccos(np.clip(1 - (1 - cosine) / spread, -1, 1)) if spread else np.pi
    share = min(LARGEST_SHARE, angle / np.pi)
    return bits.view(np.uint64), int(BITS * share + 4 * np.sqrt(BITS * share * (1 - share)))


def folding(vectors: Vectors, dimensions: int) -> Callable[[Matrix], NDArray[np.float32]]:
    """Return a function that makes rows of `vectors` dense, with at most so many dimensions.

    More columns are added up, each with a random sign, which keeps cosines to within some hundredths (K. Weinberger et
    al., "Feature Hashing", ICML 2009).
    """
    from scipy import sparse

    width = vectors.shape[1]
    if width <= dimensions:
        return _dense
    rng = np.random.default_rng(0)
    columns, values = rng.integers(0, dimensions, width), rng.choice(np.array([-1, 1], np.float32), width)
    sums = sparse.csr_matrix((values, columns, np.arange(width + 1)), shape=(width, dimensions))

    return lambda matrix: _dense(matrix @ sums)


def _dense(matrix: Any) -> NDArray[np.float32]:
    return matrix.toarray() if hasattr(matrix, "toarray") else matrix


def _confirmed(vectors: Vectors, pairs: Pairs, cosine: float, allowed: Allowed) -> NDArray[np.bool_]:
    """Return which pairs [M, 2] are allowed and have at least this cosine, [M]."""
    confirmed = allowed(pairs)
    candidates = np.flatnonzero(confirmed)
    for start in range(0, len(candidates), READ_AT_ONCE):
        part = candidates[start : start + READ_AT_ONCE]
        first, second = vectors[pairs[part, 0]], vectors[pairs[part, 1]]
        products = first.multiply(second) if hasattr(first, "multiply") else first * second
        confirmed[part] = np.asarray(products.sum(axis=1)).ravel() >= cosine
    return confirmed
