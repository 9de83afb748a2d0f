"""How unlike the training examples an input is, judged by the features of a frozen network.

It is the cosine distance to the nearest of at most 256 prototypes, the centers of clusters of the training examples:
nearest neighbors, as in Sun et al. (2022), "Out-of-Distribution Detection with Deep Nearest Neighbors", in a table that
does not grow with the data. On pictures of flowers (102 kinds, and 5) against noise, plain colors, drawings, icons,
plots, printed pages and other photographs this was the best of what was tried: class centers, which are worse where a
class has many kinds; Mahalanobis distances (Lee et al., 2018) and relative ones (Ren et al., 2021); residuals of
principal components, as in ViM (Wang et al., 2022); and the energy of the logits, which where a classifier has five
classes tells icons from flowers hardly better than chance (AUROC 0.6).
"""

import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from flowerml.engine.blas import one_thread

PER_PROTOTYPE = 20  # training examples
MAX_PROTOTYPES = 256
MAX_EXAMPLES = 10_000  # clustered at most
ITERATIONS = 10
FOLDS = 4
MIN_DEVIATION = 1e-6
UPPER = 0.98  # the quantile of held-out scores that becomes 1
MIN_UPPER = 0.5  # of it, in standard deviations, where examples are few

Features = NDArray[np.float32]
Float = NDArray[np.float64]


class FeatureDistance(nn.Module):
    """Features [B, D] -> distance [B] to the nearest prototype [K, D], less `mean`, divided by `spread`.

    >>> detector = FeatureDistance(np.eye(2, dtype=np.float32), mean=0.5, spread=0.25)
    >>> detector(torch.tensor([[3.0, 0.0], [-1.0, 0.0]])).tolist()
    [-2.0, 2.0]
    """

    def __init__(self, prototypes: Features, *, mean: float, spread: float) -> None:
        super().__init__()
        self.mean, self.spread = mean, spread
        self.prototypes: Tensor
        self.register_buffer("prototypes", torch.from_numpy(_normalized(prototypes)))

    def forward(self, features: Tensor) -> Tensor:
        cosines = nn.functional.normalize(features, dim=1) @ self.prototypes.T
        return (1 - cosines.max(dim=1).values - self.mean) / self.spread


def fit_feature_distance(features: Features, *, held_out: Features | None = None) -> tuple[FeatureDistance, Float]:
    """Return the distance from training examples with features [N, D], and the held-out distances of some of them.

    Each of these is that from prototypes which were fitted without the example, or that of a row of `held_out` [M, D],
    where the network that gives the features was fitted to the training examples. Their mean is 0, and 2 % are above 1.
    """
    rows = _normalized(features[:: max(1, -(-len(features) // MAX_EXAMPLES))])
    with one_thread():
        prototypes = _prototypes(rows)
        distances = _held_out(rows) if held_out is None else _distances(_normalized(held_out), prototypes)
    mean, deviation = float(distances.mean()), max(float(distances.std()), MIN_DEVIATION)
    spread = max(float(np.quantile(distances, UPPER)) - mean, MIN_UPPER * deviation)
    return FeatureDistance(prototypes, mean=mean, spread=spread), (distances - mean) / spread


def _held_out(rows: Features) -> Float:
    """Return the distance of each row from prototypes of the rows of other folds."""
    distances = np.empty(len(rows))
    folds = np.random.default_rng(0).permutation(len(rows)) % FOLDS
    for fold in range(FOLDS):
        inside = folds == fold
        # A single example is compared with itself, as there is nothing else.
        distances[inside] = _distances(rows[inside], _prototypes(rows[~inside] if not inside.all() else rows))
    return distances


def _distances(rows: Features, prototypes: Features) -> Float:
    return (1 - (rows @ prototypes.T).max(axis=1, initial=-1)).astype(np.float64)


def _prototypes(rows: Features) -> Features:
    """Return the centers of clusters of rows of length 1, of length 1 themselves, [K, D]."""
    from scipy.cluster.vq import kmeans2

    count = min(max(len(rows) // PER_PROTOTYPE, 1), MAX_PROTOTYPES)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a cluster that no example is nearest to: it keeps its first center
        # Not "++": 256 centers of 6,500 rows then take 134 s, and are as good as random ones, which take 0.6 s.
        centers, _ = kmeans2(rows, count, iter=ITERATIONS, minit="points", seed=0)
    return _normalized(centers)


def _normalized(rows: Features) -> Features:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True).clip(min=np.finfo(np.float32).tiny)
    return np.ascontiguousarray(rows / lengths, dtype=np.float32)
