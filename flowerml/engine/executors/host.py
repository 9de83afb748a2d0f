"""The worker's side: one object, made by a factory, and the replies to requests for it."""

import importlib
import socket
import sys
from collections.abc import Callable
from typing import Any

from flowerml.core.errors import FlowermlError
from flowerml.engine.executors import wire
from flowerml.engine.executors.facts import location, machine_facts
from flowerml.engine.executors.sharing import Copies, Member, Shared


def environment(threads: int) -> dict[str, str]:
    """Return the environment of a worker: its share of the cores, and no workers of its own."""
    count = str(threads)
    return {
        "OMP_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
        "OPENBLAS_NUM_THREADS": "1",  # NumPy's and SciPy's, whose sums depend on it: as many on each machine
        "FLOWERML_THREADS": count,
        "FLOWERML_ENGINE": "local",
        "FLOWERML_WORKERS": "1",
        "FLOWERML_ADDRESS": "",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "ORT_DISABLE_TELEMETRY": "1",
        "TQDM_DISABLE": "1",
        # torch asks the driver's library for GPUs without starting CUDA, which a fork would not survive.
        "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
    }


class Host:
    """Answers the requests for a worker's object, each as bytes of `wire`, one after the other."""

    def __init__(self, threads: int, token: str) -> None:
        self._threads = threads
        self._copies = Copies(token)
        self._object: Any = None

    def reply(self, request: bytes, part: bytes | None = None) -> bytes:
        """Return the reply to a request; an error of the method is a reply too. `part` is a part of a shared file."""
        try:
            operation, arguments = wire.decode(request)
            if part is not None:
                arguments = (*arguments, part)
            return wire.encode(getattr(self, f"_{operation}")(*arguments))
        except Exception as error:  # it belongs to the caller in the driver, whatever it is
            return wire.encode_error(error)

    def close(self) -> None:
        """Remove what this worker has on the disk."""
        self._copies.remove()

    def _introduce(self) -> tuple[str, str, dict[str, str]]:
        """Return this machine's name, where the code lies, and what the bits of a result depend on."""
        return socket.gethostname(), location(), machine_facts()

    def _find(self, item: Shared) -> bool:
        there = self._copies.find(item)
        self._copies.hold()
        return there

    def _write(self, item: Shared, member: Member, offset: int, content: bytes) -> None:
        self._copies.write(item, member, offset, content)

    def _finish(self, item: Shared) -> None:
        self._copies.finish(item)

    def _close(self) -> None:
        self.close()

    def _make(self, factory: str, *arguments: Any) -> None:
        make = resolve(factory)
        if "torch" in sys.modules:
            import torch

            torch.set_num_threads(self._threads)
        self._object = make(*arguments)

    def _call(self, method: str, *arguments: Any) -> Any:
        return getattr(self._object, method)(*arguments)


def resolve(factory: str) -> Callable[..., Any]:
    """Return the callable that `package.module:name` names; raises FlowermlError."""
    module, colon, name = factory.partition(":")
    if not colon or not module or not name:
        raise FlowermlError(f"expected a factory as package.module:callable, found {factory!r}")
    value: Any = importlib.import_module(module)
    for part in name.split("."):
        value = getattr(value, part)
    if not callable(value):
        raise FlowermlError(f"expected a factory that can be called, found {factory!r}")
    made: Callable[..., Any] = value
    return made
