"""Engines that run the frozen backbone over many pictures."""

import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import nn

from flowerml.engine import onnx
from flowerml.engine.parallel import batches, ordered_map
from flowerml.tasks.image.encoder.pictures import Pixels

T = TypeVar("T")


class Engine(Protocol):
    """A frozen backbone that is ready to run."""

    def environment(self, *, batch_size: int) -> dict[str, Any]:
        """Return what the features depend on besides the network and the versions of packages, as plain data."""

    def extract(
        self, views: Callable[[T], Iterable[Pixels]], items: Iterable[T], *, batch_size: int
    ) -> Iterator[Pixels]:
        """Yield the features [V, D] of each item's V views [3, H, W], in order; `views` is called in threads."""


def select_engine(frozen: nn.Module, *, size: tuple[int, int]) -> Engine:
    """Return torch where there is a GPU; else ONNX Runtime, which is faster on a CPU and also serves predictions."""
    return TorchEngine(frozen, "cuda") if torch.cuda.is_available() else OnnxEngine(frozen, size=size)


class OnnxEngine:
    """ONNX Runtime on the CPU: each core takes one picture at a time, from its bytes to its features.

    No core waits for another, and activations stay in the cache: faster than batches, in a fraction of the memory
    (benchmarks/encode.py). Features depend on their picture alone, not on the others nor on the number of cores.
    """

    def __init__(self, frozen: nn.Module, *, size: tuple[int, int]) -> None:
        rng = np.random.default_rng(0)
        trace, check = ({"image": rng.standard_normal((n, 3, *size), dtype=np.float32)} for n in (1, 3))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "frozen.onnx")
            onnx.export(frozen, path, trace=trace, check=check, output="features")
            self._run = onnx.runner(path, threads=1)

    def environment(self, *, batch_size: int) -> dict[str, Any]:
        return {"engine": "ONNX Runtime on the CPU"}

    def extract(
        self, views: Callable[[T], Iterable[Pixels]], items: Iterable[T], *, batch_size: int
    ) -> Iterator[Pixels]:
        def features(item: T) -> Pixels:
            return np.concatenate([self._run({"image": view[np.newaxis]}) for view in views(item)])

        threads = torch.get_num_threads()
        return ordered_map(features, items, threads=threads, ahead=8 * threads)


class TorchEngine:
    """torch on a device, in batches of one size: cuDNN picks its kernels by it, and kernels differ in the last bits."""

    def __init__(self, frozen: nn.Module, device: str) -> None:
        self._frozen = frozen.to(device)
        self._device = torch.device(device)

    def environment(self, *, batch_size: int) -> dict[str, Any]:
        on_gpu = self._device.type == "cuda"
        name = torch.cuda.get_device_name(self._device) if on_gpu else "CPU"
        return {"engine": f"torch on {name}", "batch_size": batch_size, "cudnn": torch.backends.cudnn.version()}

    def extract(
        self, views: Callable[[T], Iterable[Pixels]], items: Iterable[T], *, batch_size: int
    ) -> Iterator[Pixels]:
        counts: deque[int] = deque()

        def pictures() -> Iterator[Pixels]:
            threads = torch.get_num_threads()
            for stack in ordered_map(lambda item: list(views(item)), items, threads=threads, ahead=2 * threads):
                counts.append(len(stack))
                yield from stack

        rows: list[Pixels] = []
        passes = (self._forward(batch, batch_size) for batch in batches(pictures(), batch_size))
        for row in chain.from_iterable(passes):
            rows.append(row)
            if len(rows) == counts[0]:
                yield np.stack(rows)
                rows = []
                counts.popleft()

    @torch.inference_mode()
    def _forward(self, pictures: list[Pixels], batch_size: int) -> Pixels:
        padded = np.zeros((batch_size, *pictures[0].shape), np.float32)
        padded[: len(pictures)] = pictures
        return self._frozen(torch.from_numpy(padded).to(self._device)).cpu().numpy()[: len(pictures)]
