"""What a task is, the tasks there are, and a pipeline read from params.yaml."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, cast

import numpy as np
from numpy.typing import NDArray

from flowerml.config.paths import Paths
from flowerml.core.errors import InputError, ParamsError
from flowerml.core.urls import without_secrets
from flowerml.data.layout import Listing
from flowerml.tasks import image, text

if TYPE_CHECKING:
    import pyarrow as pa
    from torch import nn

    from flowerml.config import params
    from flowerml.data.encodings import Encoded
    from flowerml.data.examples import Example, Raw
    from flowerml.engine.fit import Training
    from flowerml.tasks.facts import Facts


class Encoder(Protocol):
    """All that turns a raw input into arrays and does not learn by gradient."""

    TOGETHER: ClassVar[int]
    """How many inputs at most go through the graph in one pass."""

    @classmethod
    def fit(cls, examples: "Iterable[Example]", section: Any, limits: Any) -> Self:
        """The encoder that the section describes, fitted to the training examples.

        `limits` are those of the data: of inputs beyond them it makes InputErrors.
        """

    @property
    def columns(self) -> "Mapping[str, pa.DataType]":
        """The Arrow type of each thing that `encode` gives."""

    def encode(self, examples: "Iterable[Example]", section: Any) -> Iterator[dict[str, Any]]:
        """The encodings to train on, one for each example, in order; memory is bounded."""

    def fingerprint(self, section: Any, split: str) -> str:
        """Names all that the encodings of a split depend on beside the raw inputs.

        Under one fingerprint equal raw inputs have equal encodings, bit for bit, whatever else is encoded.
        """

    def prepare(self, raw: Any) -> Any:
        """One raw input made ready for `collate`; raises InputError. May be called from many threads."""

    def collate(self, prepared: list[Any]) -> dict[str, NDArray[Any]]:
        """Prepared inputs as one batch of the graph's inputs."""

    def graph(self, network: "nn.Module") -> "nn.Module":
        """The way from the graph's inputs to logits [B, C], through a trained network."""

    def random_inputs(self, count: int, *, seed: int) -> dict[str, NDArray[Any]]:
        """Inputs of the graph to trace and check it with; another count may give other lengths."""

    def show(self, prepared: Any) -> Any:
        """A prepared input in a form that a person can read."""

    def state(self) -> dict[str, Any]:
        """All that predicting needs, as plain data."""

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """The encoder that `state()` described, for predicting."""

    def save(self, folder: Path) -> None:
        """Write all that training needs, atomically."""

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The encoder saved in a folder."""


class Explanation(Protocol):
    """What in an input spoke for a class, and what against it."""

    @property
    def label(self) -> str:
        """The class."""

    def to_json(self) -> dict[str, Any]:
        """{"kind", "label"} and what a task has to show, as plain data."""


LogOdds = Callable[[Iterable[Any]], NDArray[np.float64]]
"""From prepared inputs, one after the other, to the log odds of a class for each, [N]; may be called at any size."""


@dataclass(frozen=True)
class SectionTypes:
    """The types of a task's own sections in params.yaml."""

    data: "type[params.Data]"
    encode: "type[params.Section]"
    train: "type[params.Train]"


class Task(Protocol):
    """The names a task module offers; everything else is shared, and no stage asks which task it has."""

    INPUT: str
    """The column of a served model, and the key of the graph's input."""
    RAW: "type[Raw]"
    """What an example is kept as: bytes or str."""
    SUFFIXES: Collection[str]
    """How the names of files with one input end, in lower case."""
    TABLES: Collection[str]
    """How the names of files with many inputs and their labels end."""
    Encoder: type[Encoder]

    def section_types(self) -> SectionTypes:
        """The types of the sections of params.yaml."""

    def write_sample(self, archive: Path, section: Any) -> None:
        """Write the embedded data set as an archive, atomically; a link in its place is not followed."""

    def listing(self, source: Path, section: Any, *, labelled: bool) -> Listing:
        """Which examples a source holds, before any is read; raises DataError.

        Not `labelled`: the classes stand elsewhere, and the files may be in any folders.
        """

    def contents(self, source: Path, section: Any, wanted: Collection[str]) -> Iterator[tuple[str, bytes]]:
        """The wanted examples' ids and contents, in the order of the source."""

    def read(self, raw: bytes, section: Any) -> "Raw":
        """Contents as the example table keeps them; raises InputError where they cannot be read, or are too large."""

    def from_bytes(self, content: bytes) -> "Raw":
        """The content of a file as a raw input; raises InputError."""

    def from_json(self, value: Any) -> "Raw":
        """What an endpoint was sent as a raw input; raises InputError."""

    def to_json(self, raw: Any) -> Any:
        """A raw input as an endpoint takes it."""

    def explain(self, raw: Any, encoder: Any, log_odds: LogOdds, *, label: str) -> Explanation:
        """What in a raw input spoke for the class whose log odds `log_odds` gives; raises InputError."""

    def properties(self, raw: Any) -> Mapping[str, float | str]:
        """What may make a raw input harder than others, by its name; the same names for each. Raises InputError."""

    def preview(self, raw: Any) -> bytes | str:
        """A raw input as small as a report shows it: a JPEG, or a line of text; raises InputError."""

    def facts(self, name: str, raw: Any, section: Any) -> "Facts":
        """What is odd about the example of this name, and what its likes are found by; `section` is that of the data.

        May be called from many threads.
        """

    def fault(self, name: str, content: bytes, error: InputError) -> str:
        """The name of the finding that an example is which could not be read."""

    def alike(self, signatures: "NDArray[np.generic]", section: Any) -> NDArray[np.int64]:
        """Which of these signatures of facts, [N, …], are of examples that are nearly the same, [M, 2]."""

    def vectors(self, encoded: "Encoded") -> Any:
        """The encodings of each row, in its order, as one matrix [N, D] of rows of length 1, dense or sparse."""

    def training_data(self, encoded: "Encoded", classes: tuple[str, ...], encoder: Any) -> Any:
        """The encodings made ready for any number of trials."""

    def start(self, data: Any, section: Any) -> "tuple[nn.Module, Training]":
        """A new network, and the iteration that trains it: see `flowerml.engine.fit.Training` for what it promises."""


TASKS: dict[str, Task] = {"image": cast(Task, image), "text": cast(Task, text)}


@dataclass(frozen=True)
class Pipeline:
    """One entry of `pipelines:` with its sections."""

    name: str
    kind: str
    data: Any
    encode: Any
    train: Any
    evaluate: "params.Evaluate"
    export: "params.Export"
    root: Path = Path()
    """The folder that its files are below."""

    @property
    def task(self) -> Task:
        return TASKS[self.kind]

    @property
    def paths(self) -> Paths:
        return Paths(self.name, self.root)

    def parameters(self) -> dict[str, Any]:
        """Every parameter by its dotted name, without the pipeline's: {"train.learning_rate": 0.001, …}.

        They are recorded, and travel with classifiers: addresses among them come without their secrets.
        """
        from flowerml.config.params import dotted

        sections = ("data", "encode", "train", "evaluate", "export")
        values = dotted({name: getattr(self, name).model_dump() for name in sections})
        return {name: without_secrets(value) if isinstance(value, str) else value for name, value in values.items()}


def pipeline(name: str, path: Path | None = None) -> Pipeline:
    """The pipeline `name` of params.yaml, all of its sections checked; raises ParamsError."""
    from flowerml.config import params

    path = path or params.PARAMS_FILE
    values = params.read(path)
    kinds = values["pipelines"]
    if name not in kinds:
        raise ParamsError(f"{path}: no pipeline {name!r} under pipelines:; there are {', '.join(map(str, kinds))}")
    kind = kinds[name]
    if not isinstance(kind, str) or kind not in TASKS:
        raise ParamsError(f"{path}: pipelines.{name}: expected one of {', '.join(TASKS)}, found {kind!r}")
    return checked(name, kind, values.get(name), path=path)


def checked(name: str, kind: str, values: Any, *, path: Path, root: Path = Path()) -> Pipeline:
    """The pipeline with these sections, once they are checked; raises ParamsError, which names them as of `path`."""
    from flowerml.config import params

    own = TASKS[kind].section_types()
    shared: dict[str, type[params.Section]] = {"evaluate": params.Evaluate, "export": params.Export}
    types = {"data": own.data, "encode": own.encode, "train": own.train, **shared}
    sections: dict[str, Any] = params.sections(types, values, name=name, path=path)
    return Pipeline(name, kind, **sections, root=root)
