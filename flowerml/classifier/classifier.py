"""A classifier: preprocessing, network and class names in one saved folder, and the only thing that predicts.

The folder has classifier.json, weights.safetensors (to train further), network.onnx (to predict) and, with a pretrained
encoder of texts, its tokenizer.json. Loading runs no
code and downloads nothing. Predicting needs ONNX Runtime, NumPy and what the preprocessing reads with, and no torch:
an environment takes 100 MB instead of 5.5 GB and starts in half a second.
"""

import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from flowerml.classifier import saved
from flowerml.classifier.calibration import Calibration
from flowerml.classifier.prediction import ClassProbability, Prediction, Probabilities, Scored
from flowerml.config.paths import DESCRIPTION
from flowerml.core import files
from flowerml.core.display import printable
from flowerml.core.errors import InputError, ModelError
from flowerml.core.forking import PerProcess
from flowerml.engine import onnx
from flowerml.engine.parallel import batches, ordered_map_in, thread_count
from flowerml.tasks.base import Encoder, Explanation, Preprocessing, Task
from flowerml.tasks.registry import TASKS

if TYPE_CHECKING:
    from torch import nn

WARN_BYTES = 10**9  # every registered version takes as much
BATCH_SIZE = 32
TOP_K = 5

NOT_PROBABLE = "no class is probable enough"

R = TypeVar("R")
Logits = NDArray[np.float64]


class Classifier:
    """A saved classifier, which predicts the classes of raw inputs. Safe to use from many threads.

    Attributes: `folder`, `kind` (of its task), `classes` (labels, in the order of probabilities), `names` (label ->
    name), `description` (the contents of classifier.json), `calibration`, `threads` and `features` (the names of those
    of a prediction; none where it was saved by an earlier version). Probabilities, and the log odds behind an
    explanation, are calibrated: see `Calibration`.

    All callers together work on as many inputs at a time as it has threads, each input on one core. So memory is
    bounded (a picture of 89 megapixels takes at least 270 MB while it is read), no core waits for another, and an
    answer does not depend on the number of threads: inputs are grouped in the same way, and ONNX Runtime has no threads
    of its own.

        classifier = Classifier.load("models/flowers/classifier")
        classifier.predict(["rose.jpg"])[0].top[0].name
    """

    def __init__(
        self, folder: Path, description: dict[str, Any], *, accelerated: bool = False, threads: int | None = None
    ) -> None:
        self.threads = thread_count(threads)
        self.folder = folder
        self.description = description
        self.kind: str = description["task"]
        self.classes: tuple[str, ...] = tuple(description["classes"])
        self.names: dict[str, str] = description["names"]
        self.task: Task = TASKS[self.kind]
        self.preprocessing: Preprocessing[Any, Any] = self.task.Preprocessing.from_state(
            description["encoder"], saved.read_assets(folder, description)
        )
        self.calibration = Calibration.from_state(description.get("calibration", {}))
        self._graph = onnx.Graph(folder / saved.GRAPH, threads=1, accelerated=accelerated)
        saved.check_digest(description, saved.GRAPH, self._graph.digest)
        self.features: tuple[str, ...] = tuple(description.get("features", ()))
        self._graph.check(
            self.preprocessing.random_inputs(1, seed=0), width=len(self.classes), features=len(self.features)
        )
        # A GPU is filled by many inputs at once; a CPU is fastest with few.
        self._largest_batch = BATCH_SIZE if self._graph.on_gpu else self.preprocessing.MAX_BATCH
        # A fork does not copy its threads; a child process makes its own when it predicts.
        count = self.threads
        # Not `self` in the lambda: in that cycle a classifier would stay until the garbage collector runs.
        self._pool = PerProcess(lambda: ThreadPoolExecutor(count, thread_name_prefix="classifier"))

    @classmethod
    def load(cls, folder: str | Path, *, accelerated: bool = False, threads: int | None = None) -> Self:
        """Return the classifier saved in a folder. Raises ModelError where there is none.

        `accelerated` runs it on a GPU, where ONNX Runtime has CUDA; but for rounding the answers are those of a CPU.
        `threads` is the number of inputs it works on at a time, each on one core; with None that of FLOWERML_THREADS,
        else all cores. Raises FlowermlError where it is not from 1 to 1024. If the folder is replaced meanwhile, the
        classifier is wholly of one version.
        """
        path = Path(folder)
        return files.read_version(path, lambda: cls._load(path, accelerated=accelerated, threads=threads))

    @classmethod
    def _load(cls, folder: Path, *, accelerated: bool, threads: int | None) -> Self:
        description = saved.read_description(folder)
        try:
            classifier = cls(folder, description, accelerated=accelerated, threads=threads)
        except ModelError as error:
            raise ModelError(f"{folder}: {error}; copy the whole folder again, from a source you trust") from None
        except OSError as error:
            raise ModelError(
                f"{folder}: {saved.GRAPH} cannot be read ({error.strerror}); copy the whole folder again"
            ) from None
        if "digests" not in description:
            print(
                f"warning: {printable(str(folder))} was saved by an earlier version, without digests: "
                "damaged files may go unnoticed",
                file=sys.stderr,
            )
        return classifier

    @classmethod
    def save(
        cls,
        folder: Path,
        *,
        kind: str,
        encoder: Encoder[Any, Any, Any],
        network: "nn.Module",
        detector: "nn.Module | None" = None,
        classes: tuple[str, ...],
        names: Mapping[str, str],
        parameters: Mapping[str, Any],
        trained: Mapping[str, Any],
        calibrate: Callable[[Self], Calibration] | None = None,
        extras: Callable[[Self], Mapping[str, bytes]] | None = None,
    ) -> Self:
        """Save a classifier atomically, and load it.

        `parameters` and `trained` are plain data saved with it. `calibrate` receives the saved classifier with
        uncalibrated probabilities; then `extras` the calibrated one, and returns files of `saved.EXTRAS`. Raises
        ModelError where the saved graph and the network in torch disagree.
        """
        from safetensors.torch import save_model

        encoder = encoder.read_by(network, detector)
        graph = encoder.graph(network, detector).eval().cpu()
        description: dict[str, Any] = {
            "format": saved.FORMAT,
            "task": kind,
            "classes": list(classes),
            "names": {label: names.get(label, label) for label in classes},
            "encoder": encoder.state(),
            "parameters": dict(parameters),
            "trained": dict(trained),
        }
        if detector is not None:
            description["features"] = list(cast(tuple[str, ...], detector.features))
        with files.replacing(folder) as temporary:
            temporary.mkdir()
            save_model(graph, str(temporary / saved.WEIGHTS))
            preprocessing = encoder.preprocessing
            onnx.export(
                graph,
                temporary / saved.GRAPH,
                trace=preprocessing.random_inputs(1, seed=0),
                check=preprocessing.random_inputs(3, seed=1),
                output="logits",
                others=() if detector is None else ("out_of_distribution", "features"),
            )
            assets = saved.write_assets(temporary, encoder.assets())
            description |= {"assets": assets} if assets else {}
            digested = (saved.GRAPH, saved.WEIGHTS, *assets)
            description["digests"] = {name: saved.digest(temporary / name) for name in digested}
            files.write_json(temporary / DESCRIPTION, description)
            if calibrate is not None:
                classifier = cls.load(temporary, accelerated=True)
                classifier.calibration = calibrate(classifier)
                description["calibration"] = asdict(classifier.calibration)
                description["digests"] |= saved.write_extras(temporary, extras(classifier) if extras else {})
                files.write_json(temporary / DESCRIPTION, description)
            saved.keep_versions(temporary, folder)
        _warn_if_large(folder)
        return cls.load(folder)

    def predict(self, inputs: Iterable[Any], *, top_k: int = TOP_K) -> list[Prediction]:
        """Return the `top_k` most probable classes of each input (or all, if there are fewer); raises InputError.

        A picture is a path, bytes or a Pillow image; a text is a str.
        """
        answers = list(self.predict_each(inputs, top_k=top_k))
        for answer in answers:
            if isinstance(answer, InputError):
                raise answer
        return [answer for answer in answers if isinstance(answer, Prediction)]

    def predict_each(
        self, inputs: Iterable[Any], *, top_k: int = TOP_K, batch_size: int = BATCH_SIZE
    ) -> Iterator[Prediction | InputError]:
        """Yield the answer to each input as `predict` returns it, or an InputError where it cannot be read.

        At most `batch_size` inputs go through the network in one pass, fewer where that is faster. Memory is bounded.
        An InputError among the inputs is its own answer, and keeps its place: the others go through the network with
        the same neighbours, on which the last bits of a probability may depend.
        Raises InputError `bad_top_k` for a top_k below 1.
        """
        if isinstance(inputs, str | bytes | Path):
            raise TypeError("expected a list of inputs, found a single input; write predict([…])")
        self.check_top_k(top_k)
        for row in self.scored_each(inputs, batch_size=batch_size):
            yield row if isinstance(row, InputError) else self._prediction(row, top_k)

    def answer_one(self, raw: Any, *, top_k: int = TOP_K) -> Prediction | InputError:
        """Return the answer to one input, or an InputError where it cannot be read.

        It has the bits of `predict_each([raw])`, and is computed in the caller's thread: a server with threads of its
        own decides how many inputs are worked on at a time. Raises InputError `bad_top_k`.
        """
        self.check_top_k(top_k)
        (row,) = self._read_and_score([raw])
        return row if isinstance(row, InputError) else self._prediction(row, top_k)

    def check_top_k(self, top_k: Any) -> None:
        """Raise InputError `bad_top_k` for anything but a whole number from 1 on."""
        if isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 1:
            value = repr(top_k) if isinstance(top_k, int | float) and abs(top_k) < 10**9 else type(top_k).__name__
            raise InputError("bad_top_k", f"top_k must be a whole number from 1 to {len(self.classes)}, not {value}")

    def probabilities(self, inputs: Iterable[Any], *, batch_size: int = BATCH_SIZE) -> Probabilities:
        """Return the probability of each class, [N, C] in the order of `classes`; raises InputError."""
        return self.scored(inputs, batch_size=batch_size)[0]

    def scored(
        self, inputs: Iterable[Any], *, batch_size: int = BATCH_SIZE
    ) -> tuple[Probabilities, NDArray[np.float64] | None]:
        """Return the probabilities [N, C] of inputs and, where there is a detector, their strangeness [N].

        Raises InputError.
        """
        rows: list[Scored] = []
        for row in self.scored_each(inputs, batch_size=batch_size):
            if isinstance(row, InputError):
                raise row
            rows.append(row)
        probabilities = np.stack([row.probabilities for row in rows]) if rows else np.zeros((0, len(self.classes)))
        strangeness = [row.strangeness for row in rows if row.strangeness is not None]
        return probabilities, np.array(strangeness) if self.detects else None

    @property
    def on_gpu(self) -> bool:
        """Return whether the network runs on a GPU."""
        return self._graph.on_gpu

    @property
    def detects(self) -> bool:
        """Return whether the graph tells how strange an input is."""
        return self._graph.outputs > 1

    def scored_each(self, inputs: Iterable[Any], *, batch_size: int) -> Iterator[Scored | InputError]:
        """Yield the scores of each input, in order, or why it cannot be read."""
        groups = batches(inputs, self.pass_size(batch_size))
        return chain.from_iterable(self._each(self._read_and_score, groups))

    def pass_size(self, batch_size: int) -> int:
        """Return the number of inputs in one pass through the network, of at most `batch_size`."""
        return min(batch_size, self._largest_batch)

    def explain(self, raw: Any, *, label: str | None = None, check: Callable[[], None] | None = None) -> Explanation:
        """Return what in an input speaks for a class and what against it; by default for the most probable class.

        A picture gets a heat map, a text its words with weights: see `explanation.py` of each task for the method.
        This runs the network about fifty times (a picture) to 385 times (a long text; with a pretrained encoder 65
        times). `check` is called between these passes, in the caller's thread, and may raise to end the work: no
        further pass begins. Raises InputError `unknown_label`, and those of `predict`.
        """
        check = check or _no_check
        check()
        if label is None:
            label = self.predict([raw], top_k=1)[0].top[0].label
        elif label not in self.classes:
            raise InputError("unknown_label", f"expected one of the {len(self.classes)} classes, found another label")
        index = self.classes.index(label)

        def log_odds(prepared: Iterable[Any]) -> NDArray[np.float64]:
            groups = batches(_checked(prepared, check), self._largest_batch)
            results = []
            with closing(self._each(self._outputs, groups)) as passes:
                for outputs in passes:
                    results.append(outputs[0])
                    check()
            logits = np.concatenate(results)
            return _log_odds(logits / self.calibration.temperature, index)

        return self.task.explain(raw, self.preprocessing, log_odds, label=label)

    def _each(self, function: Callable[[list[Any]], R], groups: Iterable[list[Any]]) -> Generator[R, None, None]:
        """Apply a function to groups in the shared pool, a few ahead, so that threads take turns; yield its results."""
        return ordered_map_in(self._pool(), function, groups, ahead=2 * self.threads)

    def _read_and_score(self, group: list[Any]) -> list[Scored | InputError]:
        prepared = [self._prepare(raw) for raw in group]
        readable = [item for item in prepared if not isinstance(item, InputError)]
        rows = iter(self._score(readable) if readable else ())
        return [item if isinstance(item, InputError) else next(rows) for item in prepared]

    def _score(self, prepared: list[Any]) -> list[Scored | InputError]:
        """Return the scores of each prepared input; where the network fails for one, the others answer."""
        try:
            logits, strangeness, features = self._outputs(prepared)
            rows = self.calibration.probabilities(logits)
            return [
                Scored(row, None if strangeness is None else float(strangeness[number]), tuple(features[number]))
                for number, row in enumerate(rows)
            ]
        except InputError as error:
            if len(prepared) == 1:
                return [error.without_traceback()]
        return [row for item in prepared for row in self._score([item])]

    def _prepare(self, raw: Any) -> Any:
        if isinstance(raw, InputError):
            return raw
        try:
            return self.preprocessing.transform(raw)
        except InputError as error:
            return error.without_traceback()

    def _outputs(self, prepared: list[Any]) -> tuple[Logits, NDArray[np.float64] | None, list[list[float]]]:
        """Return the logits [N, C] of prepared inputs, their strangeness [N] where there is a detector, and features.

        Raises InputError where the network fails for one of them.
        """
        count = len(prepared)
        shapes = ((count, len(self.classes)), (count,), (count, len(self.features)))
        try:
            outputs = self._graph.run(self.preprocessing.collate(prepared))
        except ModelError as error:
            raise InputError("network_failed", f"the network fails for this input: {error}") from None
        for output, shape in zip(outputs, shapes, strict=False):
            if output.shape != shape:
                raise InputError("network_failed", f"the network returns {list(output.shape)} numbers for this input")
            if not np.isfinite(output).all():
                raise InputError("not_finite", "the network's answer is not a finite number for this input")
        logits, *strangeness = (output.astype(np.float64) for output in outputs[:2])
        features = outputs[2].tolist() if self.features else [[]] * count
        return logits, strangeness[0] if strangeness else None, features

    def _prediction(self, scored: Scored, top_k: int) -> Prediction:
        probabilities, strangeness = scored.probabilities, scored.strangeness
        order = np.argsort(-probabilities, kind="stable")[:top_k]
        labels = [self.classes[index] for index in order]
        top = tuple(
            ClassProbability(label, self.names[label], float(probabilities[index]))
            for label, index in zip(labels, order, strict=True)
        )
        known = self.calibration.is_known(probabilities, strangeness)
        return Prediction(
            top,
            known=known,
            out_of_distribution=self.calibration.out_of_distribution(strangeness),
            reason=None if known else self._reason(strangeness),
            features=scored.features,
        )

    def _reason(self, strangeness: float | None) -> str:
        """Return why an answer is not known; that the input is strange explains improbable classes, too."""
        if strangeness is None or not self.calibration.is_strange(strangeness):
            return NOT_PROBABLE
        return self.task.unlike(strangeness)


def _no_check() -> None:
    """Do nothing: the work goes on to its end."""


def _checked(items: Iterable[R], check: Callable[[], None]) -> Iterator[R]:
    """Yield items, and call `check` before each."""
    for item in items:
        check()
        yield item


def _log_odds(logits: Logits, index: int) -> NDArray[np.float64]:
    """Return log p / (1 - p) [N] of one class, computed from logits [N, C], as 1 - p is 0 where p rounds to 1."""
    rest = np.delete(logits, index, axis=1)
    highest = rest.max(axis=1)
    return logits[:, index] - highest - np.log(np.exp(rest - highest[:, None]).sum(axis=1))


def _warn_if_large(folder: Path) -> None:
    size = sum(file.stat().st_size for file in folder.iterdir())
    if size > WARN_BYTES:
        print(
            f"warning: {printable(str(folder))} takes {size / 1e9:.1f} GB, as will every registered version",
            file=sys.stderr,
        )
