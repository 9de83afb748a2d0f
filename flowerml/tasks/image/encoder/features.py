"""What runs the frozen backbone over many pictures."""

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

    def facts(self, *, batch_size: int) -> dict[str, Any]:
        """What its numbers depend on beside the network and the versions of packages, as plain data."""

    def over(self, views: Callable[[T], Iterable[Pixels]], items: Iterable[T], *, batch_size: int) -> Iterator[Pixels]:
        """For each item, in order, the features [V, D] of its V views [3, H, W]; `views` is called in threads."""


def engine(frozen: nn.Module, *, size: tuple[int, int]) -> Engine:
    """torch on a GPU; else ONNX Runtime, which on a CPU is faster and is the function that is served."""
    return InTorch(frozen, "cuda") if torch.cuda.is_available() else OnCores(frozen, size=size)


class OnCores:
    """ONNX Runtime on the CPU; on each core one picture at a time, from its bytes to its features.

    No core waits for another, and what a layer leaves for the next stays in the cache: that is faster than batches, in
    a fraction of their memory. And features depend on their picture alone: not on what else is encoded, nor on how
    many cores there are.
    """

    def __init__(self, frozen: nn.Module, *, size: tuple[int, int]) -> None:
        rng = np.random.default_rng(0)
        trace, check = ({"image": rng.standard_normal((n, 3, *size), dtype=np.float32)} for n in (1, 3))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "frozen.onnx")
            onnx.export(frozen, path, trace=trace, check=check, output="features")
            self._run = onnx.runner(path, threads=1)

    def facts(self, *, batch_size: int) -> dict[str, Any]:
        return {"engine": "ONNX Runtime on the CPU"}

    def over(self, views: Callable[[T], Iterable[Pixels]], items: Iterable[T], *, batch_size: int) -> Iterator[Pixels]:
        def features(item: T) -> Pixels:
            return np.concatenate([self._run({"image": view[np.newaxis]}) for view in views(item)])

        threads = torch.get_num_threads()
        return ordered_map(features, items, threads=threads, ahead=8 * threads)


class InTorch:
    """torch on a device; always whole batches, as which kernels are taken depends on how many pictures there are."""

    def __init__(self, frozen: nn.Module, device: str) -> None:
        self._frozen = frozen.to(device)
        self._device = torch.device(device)

    def facts(self, *, batch_size: int) -> dict[str, Any]:
        on_gpu = self._device.type == "cuda"
        name = torch.cuda.get_device_name(self._device) if on_gpu else "CPU"
        return {"engine": f"torch on {name}", "batch_size": batch_size, "cudnn": torch.backends.cudnn.version()}

    def over(self, views: Callable[[T], Iterable[Pixels]], items: Iterable[T], *, batch_size: int) -> Iterator[Pixels]:
        counts: deque[int] = deque()

        def pictures() -> Iterator[Pixels]:
            threads = torch.get_num_threads()
            for stack in ordered_map(lambda item: list(views(item)), items, threads=threads, ahead=2 * threads):
                counts.append(len(stack))
                yield from stack

        row: list[Pixels] = []
        passes = (self._pass(group, batch_size) for group in batches(pictures(), batch_size))
        for features in chain.from_iterable(passes):
            row.append(features)
            if len(row) == counts[0]:
                yield np.stack(row)
                row = []
                counts.popleft()

    @torch.inference_mode()
    def _pass(self, pictures: list[Pixels], batch_size: int) -> Pixels:
        filled = np.zeros((batch_size, *pictures[0].shape), np.float32)
        filled[: len(pictures)] = pictures
        return self._frozen(torch.from_numpy(filled).to(self._device)).cpu().numpy()[: len(pictures)]
