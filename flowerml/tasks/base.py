"""What a kind of classification (a task) has to offer, in five small protocols.

A task is a module, such as `flowerml.tasks.image`, whose names are the members of `Task`. Everything outside `tasks/`
works on these protocols and never asks which task it has. The small protocols are generic in the types of a task's own
sections and arrays; `flowerml.tasks.registry` lets mypy check each module against them.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from torch import nn

    from flowerml.config import params
    from flowerml.core.errors import InputError
    from flowerml.data.encodings import Encoded
    from flowerml.data.examples import Example, Raw
    from flowerml.data.layout import Listing
    from flowerml.engine.fit import Training

Form = Literal["picture", "text"]
LogOdds = Callable[[Iterable[Any]], NDArray[np.float64]]
"""From prepared inputs, one after the other, to the log odds of a class for each, [N]; may be called at any size."""

InputT = TypeVar("InputT", contravariant=True)
DataT = TypeVar("DataT", contravariant=True)
ChecksT = TypeVar("ChecksT", contravariant=True)
EncodeT = TypeVar("EncodeT", contravariant=True)
LimitsT = TypeVar("LimitsT", contravariant=True)
TrainT = TypeVar("TrainT", contravariant=True)
PreparedT = TypeVar("PreparedT")
PreprocessingT = TypeVar("PreprocessingT", covariant=True)
UsedPreprocessingT = TypeVar("UsedPreprocessingT", contravariant=True)
EncoderT = TypeVar("EncoderT")
OwnPreprocessingT = TypeVar("OwnPreprocessingT")
TrainingDataT = TypeVar("TrainingDataT")


class Preprocessing(Protocol[InputT, PreparedT]):
    """The part of an encoder that runs at every prediction: from a raw input to the inputs of the saved graph.

    It needs neither torch nor anything that was fitted beyond what `state` holds.
    """

    MAX_BATCH: ClassVar[int]
    """The most inputs that go through the graph in one pass."""

    def transform(self, raw: InputT) -> PreparedT:
        """Prepare one raw input for `collate`; raises InputError. May be called from many threads."""

    def collate(self, prepared: list[PreparedT]) -> dict[str, NDArray[Any]]:
        """Return prepared inputs as one batch of the graph's inputs, by name, each [B, …]."""

    def random_inputs(self, count: int, *, seed: int) -> dict[str, NDArray[Any]]:
        """Return `count` random inputs to trace and check the graph with; another count may give other lengths."""

    def visualize(self, prepared: PreparedT) -> Any:
        """Return a prepared input in a form that a person can read."""

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Return the preprocessing of an encoder from what its `state()` holds."""


class Encoder(Protocol[PreprocessingT, EncodeT, LimitsT]):
    """All that turns raw inputs into encodings and does not learn by gradient: preprocessing, then frozen features.

    The frozen features are optional: a text is encoded by its preprocessing alone, a picture by a backbone behind it.
    Encodings are computed once, for all trials, and DVC caches them.
    """

    @classmethod
    def fit(cls, examples: "Iterable[Example]", section: EncodeT, limits: LimitsT) -> Self:
        """Return the encoder that the section describes, fitted to the training examples.

        Inputs beyond the `limits` of the data raise InputError, in training as at every prediction.
        """

    @property
    def preprocessing(self) -> PreprocessingT:
        """The part that runs at every prediction."""

    @property
    def columns(self) -> "Mapping[str, pa.DataType]":
        """The Arrow type of each array that `encode` yields."""

    def encode(self, examples: "Iterable[Example]", section: EncodeT) -> Iterator[dict[str, Any]]:
        """Yield the encodings to train on, one dict for each example, in order; memory is bounded."""

    def fingerprint(self, section: EncodeT, split: str) -> str:
        """Return a digest of all that the encodings of a split depend on besides the raw inputs.

        Under one fingerprint equal raw inputs have equal encodings, bit for bit, whatever else is encoded.
        """

    def graph(self, network: "nn.Module") -> "nn.Module":
        """Return one module from the graph's inputs to logits [B, C], through the frozen part and a trained network."""

    def state(self) -> dict[str, Any]:
        """Return all that predicting needs, as plain data."""

    def save(self, folder: Path) -> None:
        """Write all that training needs, atomically."""

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Return the encoder saved in a folder."""


class Explanation(Protocol):
    """What in an input spoke for a class, and what against it."""

    @property
    def label(self) -> str:
        """The explained class."""

    def to_json(self) -> dict[str, Any]:
        """Return {"kind", "label"} and what the task has to show ("heat_map" or "words"), as plain data."""


@dataclass(frozen=True)
class Inspection:
    """What is odd about one example, and what its near duplicates are found by.

    `notes` has the names of findings, each with what was seen, in a few words. Examples with one `digest` are equal;
    the `signature`s of others say how alike they are, to the task that made them.
    """

    digest: bytes
    signature: NDArray[np.generic]
    notes: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SectionTypes:
    """The types of a task's own sections in params.yaml."""

    data: "type[params.Data]"
    encode: "type[params.Section]"
    train: "type[params.Train]"


@dataclass(frozen=True)
class Snippets:
    """How to ask a registered version: a Python program, and the start of a shell pipe that writes a request body."""

    python: str
    request: str


class Reader(Protocol[DataT]):
    """Reading a source: which files or rows are examples, and their contents."""

    RAW: "type[Raw]"
    """What an example is kept as: bytes or str."""
    SUFFIXES: frozenset[str]
    """The endings of files that hold one input, in lower case."""
    TABLES: tuple[str, ...]
    """The endings of files that hold many inputs and their labels."""

    def write_sample(self, archive: Path, section: DataT) -> None:
        """Write the embedded data set as an archive, atomically; a link in its place is not followed."""

    def listing(self, source: Path, section: DataT, *, labelled: bool) -> "Listing":
        """Return which examples a source holds, before any is read; raises DataError.

        Without `labelled` the classes are given elsewhere, and the files may be in any folders.
        """

    def contents(self, source: Path, section: DataT, wanted: Collection[str]) -> Iterator[tuple[str, bytes]]:
        """Yield (id, content) of the wanted examples, in the order of the source."""

    def read(self, raw: bytes, section: DataT) -> "Raw":
        """Return contents as the example table keeps them; raises InputError where they are unreadable or too large."""

    def recognizes(self, content: bytes) -> bool:
        """Return whether a content without a name may be an input of this task, judged by its bytes."""


class Inspector(Protocol[DataT, ChecksT]):
    """Looking for what is wrong with data: see `flowerml.checks`."""

    def inspect(self, name: str, raw: Any, section: DataT) -> Inspection:
        """Return what is odd about the example of this name. May be called from many threads."""

    def classify_error(self, name: str, content: bytes, error: "InputError") -> str:
        """Return the finding name for an unreadable example."""

    def near_duplicates(self, signatures: NDArray[np.generic], section: ChecksT) -> NDArray[np.int64]:
        """Return the pairs [M, 2] of signatures [N, …] whose examples are nearly the same, lower row first."""

    def vectors(self, encoded: "Encoded") -> Any:
        """Return each row's encoding as one matrix [N, D] of rows of length 1, dense or sparse."""

    def properties(self, raw: Any) -> Mapping[str, float | str]:
        """Return what may make a raw input harder than others, under the same names for each. Raises InputError."""


class Codec(Protocol[InputT]):
    """The wire format: raw inputs as files and as JSON."""

    INPUT: str
    """The column of a served model, and the key of the graph's input."""

    def from_bytes(self, content: bytes) -> "Raw":
        """Return the content of a file as a raw input; raises InputError."""

    def from_json(self, value: Any) -> "Raw":
        """Return what an endpoint was sent as a raw input; raises InputError."""

    def to_json(self, raw: InputT) -> str:
        """Return a raw input as an endpoint takes it."""


class Presenter(Protocol[InputT, UsedPreprocessingT]):
    """Showing inputs and answers to a person: in the report, on the page, in plots and in the model card."""

    NOUN: str
    """What one input is called: "picture", "text"; its plural has an s."""
    FORM: Form
    """What an input looks like to a person: a picture to look at, or text to read."""
    POLES: bool
    """Whether two classes are shown as the ends of one scale, as moods are, and not as two bars."""
    EXAMPLE_ARGUMENT: str
    """An input on a command line, quoted for a shell."""

    def title(self, classes: Sequence[str] | None) -> str:
        """Return what an input is called on the page; `classes` is None where a server does not tell them."""

    def samples(self, classes: Sequence[str] | None) -> "list[Raw]":
        """Return inputs to try that no model was trained on; none where none suits these classes."""

    def preview(self, raw: Any) -> bytes | str:
        """Return a raw input as small as a report shows it: a JPEG, or a line of text; raises InputError."""

    def explain(self, raw: InputT, preprocessing: UsedPreprocessingT, log_odds: LogOdds, *, label: str) -> Explanation:
        """Return what in a raw input spoke for the class whose log odds `log_odds` gives; raises InputError."""

    def draw(
        self,
        axes: "Axes",
        raw: InputT,
        preprocessing: UsedPreprocessingT,
        explain: Callable[[], Explanation],
        *,
        name: str,
    ) -> None:
        """Draw an input into matplotlib's axes; `explain` says what spoke for its best class, which is called `name`."""

    def snippets(self, address: str) -> Snippets:
        """Return how to ask the registered version at an address such as models:/NAME/VERSION."""

    def describe_network(self, encoder: Mapping[str, Any], parameters: Mapping[str, Any]) -> str:
        """Return what a classifier is made of, in a few words; `encoder` is the state, `parameters` by dotted names."""

    def limitations(self, parameters: Mapping[str, Any]) -> list[str]:
        """Return what a classifier with these parameters does not do, each a sentence of the model card."""


class Trainable(Protocol[TrainT, EncoderT, OwnPreprocessingT, TrainingDataT]):
    """Training: sections of params.yaml, encoder, and networks on encodings."""

    Encoder: type[EncoderT]
    Preprocessing: type[OwnPreprocessingT]
    NETWORKS: Path
    """The source code of the networks; a checkpoint does not outlive a change of it."""

    def section_types(self) -> SectionTypes:
        """Return the types of the task's own sections in params.yaml."""

    def training_data(self, encoded: "Encoded", classes: tuple[str, ...], encoder: EncoderT) -> TrainingDataT:
        """Return the encodings in memory, ready for any number of trials."""

    def build_network(self, data: TrainingDataT, section: TrainT) -> "tuple[nn.Module, Training]":
        """Return a new network, and the iteration that trains it: `Training` in engine/fit.py says what it promises."""


class Task(
    Reader[Any],
    Inspector[Any, Any],
    Codec[Any],
    Presenter[Any, Any],
    Trainable[Any, Any, Any, Any],
    Protocol,
):
    """All of it, as the rest of the package takes it. Each task has its own section types, hence the `Any`s here."""
