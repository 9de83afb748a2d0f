"""Engines that run a frozen encoder over many texts."""

import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from flowerml.engine import onnx
from flowerml.engine.parallel import batches, ordered_map
from flowerml.tasks.text.encoder.backbone.pooled import Pooled
from flowerml.tasks.text.encoder.tokens import NO_TOKEN

STEP = 32  # tokens; on a GPU, texts are padded to a multiple of it
BATCH = 32  # texts in one pass on a GPU
READ_AHEAD = 2048  # texts that are sorted by length together, on a GPU

R = TypeVar("R")
T = TypeVar("T")
Ids = NDArray[np.int32]
Features = NDArray[np.float32]
Read = Callable[[T], tuple[R, Ids | None]]


class Engine(Protocol):
    """A frozen encoder that is ready to run."""

    def environment(self) -> dict[str, Any]:
        """Return what the features depend on besides the network and the versions of packages, as plain data."""

    def extract(self, read: Read[T, R], items: Iterable[T]) -> Iterator[tuple[R, Features | None]]:
        """Yield (result, features [D]) of each item, in order; `read` returns (result, ids [T]), called in threads.

        Where the ids are None the features are not computed, and None.
        """


def select_engine(frozen: Pooled) -> Engine:
    """Return torch where there is a GPU; else ONNX Runtime, twice as fast on a CPU, which also serves predictions."""
    return TorchEngine(frozen, "cuda") if torch.cuda.is_available() else OnnxEngine(frozen)


class OnnxEngine:
    """ONNX Runtime on the CPU: each core takes one text at a time, from its characters to its features.

    Features depend on their text alone, not on the others, as no text is padded, nor on the number of cores.
    """

    def __init__(self, frozen: Pooled) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "frozen.onnx")
            onnx.export(frozen, path, trace=_batch(1, 5), check=_batch(3, 9), output="features")
            self._run = onnx.runner(path, threads=1)

    def environment(self) -> dict[str, Any]:
        return {"engine": "ONNX Runtime on the CPU"}

    def extract(self, read: Read[T, R], items: Iterable[T]) -> Iterator[tuple[R, Features | None]]:
        def features(item: T) -> tuple[R, Features | None]:
            result, ids = read(item)
            if ids is None:
                return result, None
            tokens = ids.astype(np.int64)[np.newaxis]
            return result, self._run({"tokens": tokens, "token_lengths": np.array([len(ids)])})[0]

        threads = torch.get_num_threads()
        return ordered_map(features, items, threads=threads, ahead=8 * threads)


class TorchEngine:
    """torch on a device, in batches of few shapes: BATCH texts, each padded to the next multiple of STEP tokens.

    Kernels are picked by shape, and differ in the last bits. So a text is always padded to the same length, and a batch
    that is not full is filled up.
    """

    def __init__(self, frozen: Pooled, device: str) -> None:
        self._frozen = frozen.to(device)
        self._device = torch.device(device)

    def environment(self) -> dict[str, Any]:
        name = torch.cuda.get_device_name(self._device) if self._device.type == "cuda" else "CPU"
        return {"engine": f"torch on {name}", "batch": BATCH, "step": STEP, "cudnn": torch.backends.cudnn.version()}

    def extract(self, read: Read[T, R], items: Iterable[T]) -> Iterator[tuple[R, Features | None]]:
        threads = torch.get_num_threads()
        for group in batches(ordered_map(read, items, threads=threads, ahead=8 * threads), READ_AHEAD):
            wanted = {number: ids for number, (_, ids) in enumerate(group) if ids is not None}
            sizes = {number: -(-len(ids) // STEP) * STEP for number, ids in wanted.items()}
            rows: dict[int, Features] = {}
            for size in sorted(set(sizes.values())):
                for numbers in batches((number for number in wanted if sizes[number] == size), BATCH):
                    rows |= zip(numbers, self._forward([wanted[number] for number in numbers], size), strict=True)
            yield from ((result, rows.get(number)) for number, (result, _) in enumerate(group))

    @torch.inference_mode()
    def _forward(self, texts: list[Ids], size: int) -> Features:
        tokens = np.full((BATCH, size), NO_TOKEN, np.int64)
        lengths = np.ones(BATCH, np.int64)
        for row, ids in enumerate(texts):
            tokens[row, : len(ids)], lengths[row] = ids, len(ids)
        arguments = (torch.from_numpy(array).to(self._device) for array in (tokens, lengths))
        return self._frozen(*arguments).cpu().numpy()[: len(texts)]


def _batch(count: int, longest: int) -> dict[str, NDArray[np.int64]]:
    """Return texts of different lengths, of the first few tokens, which every encoder has."""
    tokens = np.random.default_rng(count).integers(0, 5, (count, longest))
    return {"tokens": tokens, "token_lengths": np.arange(longest, longest - count, -1)}
