"""What a pool of workers does, whichever engine runs it; and the one door to the engines."""

from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from flowerml.engine.executors.place import Place
from flowerml.engine.executors.remote import WorkerLost
from flowerml.engine.executors.sharing import Shared

__all__ = ["Pool", "Worker", "WorkerLost", "open_pool"]


class Worker(Protocol):
    """An object that lives in another process. Its methods run one at a time, in the order of the calls."""

    name: str
    ready: "Future[None]"
    """Done once the object is made, in seconds, or minutes in a full cluster; raises what kept it from that."""

    def call(self, method: str, *args: Any) -> "Future[Any]":
        """Call a method there; never waits.

        The future raises what the method raised, and WorkerLost if the process ended. What kept the worker from
        starting (an error of its factory, an unlike machine) is raised by the future of every call.
        """

    def close(self) -> None:
        """End the process, also in the midst of a call: pending futures raise WorkerLost."""


class Pool(Protocol):
    """Processes for workers; a context manager, at whose end all of them are closed."""

    size: int
    """The number of workers that run at the same time."""
    mixed: bool
    """Whether a worker was let in whose results may differ in the last bits (FLOWERML_MIXED=allow)."""

    def start(self, factory: str, *args: Any) -> Worker:
        """Return a new worker: the object that `package.module:callable` returns for `args`, made in a new process.

        Never waits. A worker that was lost is replaced by calling this again.
        """

    def share(self, path: Path) -> Shared:
        """Return a file or folder as an argument for workers that are started after this."""

    def __enter__(self) -> Self:
        """Return the pool."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close all workers."""


def open_pool(place: Place, *, threads: int, facts: Mapping[str, str]) -> Pool:
    """Return a pool at a place, each worker with `threads` threads for torch and ONNX Runtime.

    `facts` are the `machine_facts` of this process: a worker with others is refused, unless FLOWERML_MIXED=allow.
    Raises FlowermlError where the engine is not installed or a cluster is not reached.
    """
    if place.engine == "ray":
        from flowerml.engine.executors.on_ray import RayPool

        return RayPool(place, threads, facts)
    if place.engine == "dask":
        from flowerml.engine.executors.on_dask import DaskPool

        return DaskPool(place, threads, facts)
    from flowerml.engine.executors.local import LocalPool

    return LocalPool(place, threads, facts)
