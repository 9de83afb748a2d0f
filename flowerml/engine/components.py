"""A few numbers of an input by which drift is found: principal components of the training examples' features.

New classes show in them. With half of 102 kinds of flowers new in half of a window of 500 pictures, the tests on 32
components raised an alarm in 12 of 12 draws, on 16 in 11; on a random projection to 16 numbers, which keeps distances
(Johnson & Lindenstrauss, 1984), in 5.
"""

from typing import TypeVar

import numpy as np
import scipy.sparse as sparse
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from flowerml.engine.blas import one_thread
from flowerml.engine.feature_distance import MAX_EXAMPLES

COUNT = 24  # 1,000 examples' numbers have to fit into a reference of 200 kB
MORE, ITERATIONS = 8, 4  # of the random subspace in which components are sought
SMALLEST = 1e-4  # of the largest deviation; a component that varies less is noise, and 0

Rows = TypeVar("Rows", NDArray[np.float32], sparse.csr_matrix)
Floats = NDArray[np.float32]


class Components(nn.Module):
    """Features [B, D] -> their principal components [B, COUNT], of mean 0 and deviation 1 over the training examples.

    >>> features = np.array([[0.0, 0.0], [2.0, 0.0]], np.float32)
    >>> Components.fit(features)(torch.tensor([[1.0, 5.0], [2.0, 0.0]]))[:, 0].round().tolist()
    [0.0, 1.0]
    """

    names = tuple(f"component {number}" for number in range(1, COUNT + 1))

    def __init__(self, mean: Floats, directions: Floats) -> None:
        super().__init__()
        self.mean: Tensor
        self.directions: Tensor
        self.register_buffer("mean", torch.from_numpy(mean))
        self.register_buffer("directions", torch.from_numpy(directions))

    @classmethod
    def fit(cls, features: Floats) -> "Components":
        """Return the components of features [N, D]; of more than MAX_EXAMPLES those that are evenly spaced."""
        rows = features[:: max(1, -(-len(features) // MAX_EXAMPLES))]
        mean = rows.mean(axis=0)
        centered = rows - mean
        with one_thread():
            directions = principal_directions(centered, COUNT)
            return cls(mean, directions * inverse_deviations(centered @ directions))

    def forward(self, features: Tensor) -> Tensor:
        return (features - self.mean) @ self.directions


def principal_directions(rows: Rows, count: int) -> Floats:
    """Return the directions [D, count] in which rows [N, D] are largest, of length 1; zeros where there are no more.

    By subspace iteration (Halko, Martinsson & Tropp, 2011): SciPy's solvers may not converge, and a whole
    decomposition of 10,000 rows takes ten seconds. The largest coefficient of each direction is positive.
    """
    size = min(count + MORE, *rows.shape)
    basis = rows @ np.random.default_rng(0).standard_normal((rows.shape[1], size)).astype(np.float32)
    for _ in range(ITERATIONS):
        basis = np.linalg.qr(basis)[0]
        basis = rows @ (rows.T @ basis)
    basis = np.linalg.qr(basis)[0]
    found = np.linalg.svd((rows.T @ basis).T, full_matrices=False)[2][:count].T
    found *= np.sign(found[np.abs(found).argmax(axis=0), np.arange(found.shape[1])])
    directions = np.zeros((rows.shape[1], count), np.float32)
    directions[:, : found.shape[1]] = found
    return directions


def inverse_deviations(components: Floats) -> Floats:
    """Return what gives components [N, K] a deviation of 1, [K]; 0 for those that hardly vary."""
    deviations = components.std(axis=0, dtype=np.float64)
    least = max(SMALLEST * float(deviations.max(initial=0)), float(np.finfo(np.float32).tiny))
    return np.where(deviations > least, 1 / np.maximum(deviations, least), 0).astype(np.float32)
