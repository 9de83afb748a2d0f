"""A classifier: encoder, network and class names in one saved folder, and the only thing that predicts.

The folder holds classifier.json, weights.safetensors (to train further) and network.onnx (to predict). Loading
runs no code and downloads nothing; predicting needs ONNX Runtime, NumPy and what the encoder reads with.
"""

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from flowerml.classifier.calibration import Calibration
from flowerml.core import files
from flowerml.core.errors import InputError, ModelError
from flowerml.engine import onnx
from flowerml.engine.parallel import batches, ordered_map_in
from flowerml.tasks.base import Encoder, Explanation, Preprocessing, Task
from flowerml.tasks.registry import TASKS

if TYPE_CHECKING:
    from torch import nn

FORMAT = 1
WARN_BYTES = 10**9
BATCH_SIZE = 32
TOP_K = 5
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

R = TypeVar("R")
Probabilities = NDArray[np.float64]
Logits = NDArray[np.float64]


@dataclass(frozen=True)
class ClassProbability:
    """One class that an input may belong to."""

    label: str
    name: str
    probability: float


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of an input, best first, and whether the best is probable enough to be believed."""

    top: tuple[ClassProbability, ...]
    known: bool

    def to_json(self) -> dict[str, Any]:
        """{"top": [{"label", "name", "probability"}, …], "known": true}"""
        return {"top": [asdict(candidate) for candidate in self.top], "known": self.known}


class Classifier:
    """Predicts the classes of raw inputs. May be used from many threads at once.

    Whoever asks, as many inputs are worked on at a time as there are cores, each by one core alone: so no core waits
    for another, memory is bounded (a picture of 89 megapixels takes 270 MB and more while it is read), and an answer
    does not depend on how many cores there are.

    Probabilities, and the log odds behind an explanation, are those of the calibrated logits: see `Calibration`.
    """

    def __init__(self, folder: Path, description: dict[str, Any], *, threads: int = 1) -> None:
        self.folder = folder
        self.description = description
        self.kind: str = description["task"]
        self.classes: tuple[str, ...] = tuple(description["classes"])
        self.names: dict[str, str] = description["names"]
        self.task: Task = TASKS[self.kind]
        self.preprocessing: Preprocessing[Any, Any] = self.task.Preprocessing.from_state(description["encoder"])
        self.calibration = Calibration(**description.get("calibration", {}))
        self._run_graph = onnx.runner(folder / "network.onnx", threads=threads)
        self._pool = ThreadPoolExecutor(CORES, thread_name_prefix="classifier")

    @classmethod
    def load(cls, folder: str | Path, *, threads: int = 1) -> Self:
        """The classifier saved in a folder. Raises ModelError where there is none.

        `threads` of one pass; 0 takes all cores, for the fastest answer of a large network on an idle machine.
        """
        folder = Path(folder)
        try:
            description = files.read_json(folder / "classifier.json")
        except (OSError, ValueError):
            raise ModelError(f"{folder}: not a saved classifier; expected a folder with classifier.json") from None
        found = description.get("format") if isinstance(description, dict) else None
        if found != FORMAT:
            raise ModelError(f"{folder}: saved in format {found}; this version reads {FORMAT}")
        if not (folder / "network.onnx").is_file():
            raise ModelError(f"{folder}: not a whole classifier; network.onnx is missing")
        return cls(folder, description, threads=threads)

    @classmethod
    def save(
        cls,
        folder: Path,
        *,
        kind: str,
        encoder: Encoder[Any, Any, Any],
        network: "nn.Module",
        classes: tuple[str, ...],
        names: Mapping[str, str],
        parameters: Mapping[str, Any],
        trained: Mapping[str, Any],
        calibrate: Callable[[Self], Calibration] | None = None,
    ) -> Self:
        """Write a classifier, atomically, and load it.

        `parameters` and `trained` are plain data that travel along. `calibrate` is given the classifier as it would be
        served, with plain probabilities. Raises ModelError where the saved graph does not compute what the network in
        torch does.
        """
        from safetensors.torch import save_model

        graph = encoder.graph(network).eval().cpu()
        description = {
            **{"format": FORMAT, "task": kind, "classes": list(classes)},
            **{"names": {label: names.get(label, label) for label in classes}, "encoder": encoder.state()},
            **{"parameters": dict(parameters), "trained": dict(trained)},
        }
        with files.replacing(folder) as temporary:
            temporary.mkdir()
            save_model(graph, str(temporary / "weights.safetensors"))
            preprocessing = encoder.preprocessing
            one, three = preprocessing.random_inputs(1, seed=0), preprocessing.random_inputs(3, seed=1)
            onnx.export(graph, temporary / "network.onnx", trace=one, check=three, output="logits")
            files.write_json(temporary / "classifier.json", description)
            if calibrate is not None:
                description["calibration"] = asdict(calibrate(cls.load(temporary)))
                files.write_json(temporary / "classifier.json", description)
        _warn_of_size(folder)
        return cls.load(folder)

    def predict(self, inputs: Iterable[Any], *, top_k: int = TOP_K) -> list[Prediction]:
        """The `top_k` most probable classes of each input (all, where there are fewer); raises InputError.

        An input is what the task reads: of pictures a path, bytes or a Pillow image.
        """
        found = list(self.predict_each(inputs, top_k=top_k))
        for one in found:
            if isinstance(one, InputError):
                raise one
        return [one for one in found if isinstance(one, Prediction)]

    def predict_each(
        self, inputs: Iterable[Any], *, top_k: int = TOP_K, batch_size: int = BATCH_SIZE
    ) -> Iterator[Prediction | InputError]:
        """As `predict`, one at a time, with an InputError in the place of what cannot be read.

        At most `batch_size` go through the network in one pass, fewer where that is faster. Memory does not grow with
        the number of inputs. Raises InputError `bad_top_k` for a top_k below 1.
        """
        if isinstance(inputs, str | bytes | Path):
            raise TypeError("expected a list of inputs, found a single one; write predict([…])")
        if isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 1:
            found = repr(top_k) if isinstance(top_k, int | float) and abs(top_k) < 10**9 else type(top_k).__name__
            raise InputError("bad_top_k", f"top_k must be a whole number from 1 to {len(self.classes)}, not {found}")
        for row in self.probabilities_each(inputs, batch_size=batch_size):
            yield row if isinstance(row, InputError) else self._prediction(row, top_k)

    def probabilities(self, inputs: Iterable[Any], *, batch_size: int = BATCH_SIZE) -> Probabilities:
        """The probability of each class, [N, C] in the order of `classes`; raises InputError."""
        rows = []
        for row in self.probabilities_each(inputs, batch_size=batch_size):
            if isinstance(row, InputError):
                raise row
            rows.append(row)
        return np.stack(rows) if rows else np.zeros((0, len(self.classes)))

    def probabilities_each(self, inputs: Iterable[Any], *, batch_size: int) -> Iterator[Probabilities | InputError]:
        """For each input, in order, its probabilities [C], or why it cannot be read."""
        groups = batches(inputs, min(batch_size, self.preprocessing.MAX_BATCH))
        return chain.from_iterable(self._each(self._answered, groups))

    def explain(self, raw: Any, *, label: str | None = None) -> Explanation:
        """What in an input spoke for a class, and what against it; of the most probable one, where none is named.

        For pictures a heat map, for texts the words with their weights: see `explanation.py` of each task for how.
        It asks the network some fifty (a picture) to 385 times (a long text). Raises InputError: `unknown_label`, and
        as `predict` does.
        """
        if label is None:
            label = self.predict([raw], top_k=1)[0].top[0].label
        elif label not in self.classes:
            raise InputError("unknown_label", f"expected one of the {len(self.classes)} classes, found another label")
        index = self.classes.index(label)

        def log_odds(prepared: Iterable[Any]) -> NDArray[np.float64]:
            groups = batches(prepared, self.preprocessing.MAX_BATCH)
            logits = np.concatenate(list(self._each(self._logits, groups)))
            return _log_odds(logits / self.calibration.temperature, index)

        return self.task.explain(raw, self.preprocessing, log_odds, label=label)

    def _each(self, function: Callable[[list[Any]], R], groups: Iterable[list[Any]]) -> Iterator[R]:
        """In turn with what other threads ask for: of no request are more than a few groups worked on at a time."""
        return ordered_map_in(self._pool, function, groups, ahead=2 * CORES)

    def _answered(self, group: list[Any]) -> list[Probabilities | InputError]:
        prepared = [self._prepare(raw) for raw in group]
        readable = [one for one in prepared if not isinstance(one, InputError)]
        rows = iter(self.calibration.probabilities(self._logits(readable)) if readable else ())
        return [one if isinstance(one, InputError) else next(rows) for one in prepared]

    def _prepare(self, raw: Any) -> Any:
        try:
            return self.preprocessing.transform(raw)
        except InputError as error:
            return error.without_traceback()

    def _logits(self, prepared: list[Any]) -> Logits:
        return self._run_graph(self.preprocessing.collate(prepared)).astype(np.float64)

    def _prediction(self, probabilities: Probabilities, top_k: int) -> Prediction:
        order = np.argsort(-probabilities, kind="stable")[:top_k]
        labels = [self.classes[index] for index in order]
        top = tuple(
            ClassProbability(label, self.names[label], float(probabilities[index]))
            for label, index in zip(labels, order, strict=True)
        )
        return Prediction(top, self.calibration.is_known(probabilities))


def _log_odds(logits: Logits, index: int) -> NDArray[np.float64]:
    """log p / (1 - p) of one class, [N]. Where p is all but 1, it still tells a little from a lot."""
    others = np.delete(logits, index, axis=1)
    most = others.max(axis=1)
    return logits[:, index] - most - np.log(np.exp(others - most[:, None]).sum(axis=1))


def _warn_of_size(folder: Path) -> None:
    size = sum(file.stat().st_size for file in folder.iterdir())
    if size > WARN_BYTES:
        print(
            f"warning: {folder} takes {size / 1e9:.1f} GB; every registered version will. A smaller backbone or "
            "smaller hidden_units makes it smaller.",
            file=sys.stderr,
        )
