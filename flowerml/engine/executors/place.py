"""Where work runs, from the environment: which engine, at which address, with how many workers."""

import os
from dataclasses import dataclass
from typing import Self

from flowerml.core.display import one_line
from flowerml.core.errors import FlowermlError
from flowerml.core.urls import without_secrets
from flowerml.engine.parallel import THREADS_VARIABLE, thread_count

ENGINE, ADDRESS, WORKERS = "FLOWERML_ENGINE", "FLOWERML_ADDRESS", "FLOWERML_WORKERS"
ENGINES = ("local", "ray", "dask")
MAX_WORKERS = 10_000


@dataclass(frozen=True)
class Place:
    """Where work runs: nothing of a result depends on it, so it is no part of params.yaml.

    >>> Place().in_process, Place(workers=2).in_process
    (True, False)
    """

    engine: str = "local"
    address: str | None = None
    workers: int = 1

    @classmethod
    def from_environment(cls) -> Self:
        """Return the place that FLOWERML_ENGINE, FLOWERML_ADDRESS and FLOWERML_WORKERS name.

        Raises FlowermlError for a value that cannot be followed.
        """
        engine = os.environ.get(ENGINE, "").strip() or "local"
        address = os.environ.get(ADDRESS, "").strip() or None
        workers = os.environ.get(WORKERS, "").strip()
        if engine not in ENGINES:
            raise FlowermlError(f"{ENGINE}: expected one of {', '.join(ENGINES)}; found {one_line(engine, 60)}")
        if engine == "local" and address is not None:
            raise FlowermlError(
                f"{ADDRESS}: is for a cluster, found {one_line(without_secrets(address), 80)}; set {ENGINE} to ray or "
                "dask, or leave the address out"
            )
        if engine != "local" and not workers:
            raise FlowermlError(
                f"expected the number of workers on {engine}, found none; give it by --workers or {WORKERS}"
            )
        return cls(engine, address, _count(workers or "1"))

    @property
    def in_process(self) -> bool:
        """Whether the work runs in this process, as no worker beside it was asked for."""
        return self.engine == "local" and self.workers == 1

    @property
    def threads_of_worker(self) -> int:
        """The threads of a worker that predicts: those of FLOWERML_THREADS, else its share of this machine's cores.

        In a cluster it has one, as the engine gives each worker one core.
        """
        if os.environ.get(THREADS_VARIABLE, "").strip():
            return thread_count()
        return max(1, thread_count() // self.workers) if self.engine == "local" else 1


def _count(text: str) -> int:
    """Return a number of workers; raises FlowermlError."""
    if not (text.isascii() and text.isdigit() and len(text) <= 6 and 1 <= int(text) <= MAX_WORKERS):
        raise FlowermlError(f"{WORKERS}: expected a number from 1 to {MAX_WORKERS}; found {one_line(text, 40)}")
    return int(text)
