"""The threads of NumPy's and SciPy's linear algebra."""

from contextlib import AbstractContextManager
from functools import cache
from typing import Any


def one_thread() -> AbstractContextManager[Any]:
    """Return the context in which BLAS uses one thread.

    OpenBLAS splits long sums over its threads, whose number (OMP_NUM_THREADS, or the cores) changes the last bits.
    """
    context: AbstractContextManager[Any] = _libraries().limit(limits=1, user_api="blas")
    return context


@cache
def _libraries() -> Any:
    """Return the control of the libraries; finding them takes 2 ms."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
