"""Holm's correction of p-values for many tests at once."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def corrected(p: ArrayLike) -> NDArray[np.float64]:
    """Return p-values [N] with Holm's correction (1979): a level bounds the chance of any false alarm in all tests.

    Three lines here; statsmodels' `multipletests` would be a dependency for them.

    >>> corrected([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    values = np.asarray(p, np.float64)
    order = np.argsort(values, kind="stable")
    result = np.empty_like(values)
    result[order] = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1)).clip(max=1)
    return result
