"""The protocols that a kind of classification (a task) implements.

A task is a module, such as `flowerml.tasks.image`, whose names are the members of `Task`. Everything outside `tasks/`
uses these protocols and never asks which task it has. The small protocols are generic in the types of a task's own
sections and arrays; `flowerml.tasks.registry` lets mypy check each module against them.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from flowerml.tasks.records import (
    Backbone,
    Choice,
    Detector,
    Form,
    Inspection,
    Known,
    LogOdds,
    SectionTypes,
    Situation,
    Snippets,
    nothing_known,
)

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.axes import Axes
    from torch import Tensor, nn

    from flowerml.core.errors import InputError
    from flowerml.data.encodings import Encoded
    from flowerml.data.examples import Example, Raw
    from flowerml.data.layout import Listing
    from flowerml.engine.fit import Training
    from flowerml.engine.similar import Similar

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

    It needs no torch, and nothing fitted besides the encoder's `state()`.
    """

    @property
    def MAX_BATCH(self) -> int:
        """The maximal number of inputs in one pass through the graph."""

    @property
    def packages(self) -> tuple[str, ...]:
        """The packages that this preprocessing needs besides NumPy, ONNX Runtime and Pillow."""

    def transform(self, raw: InputT) -> PreparedT:
        """Prepare one raw input for `collate`; raises InputError. May be called from many threads."""

    def collate(self, prepared: list[PreparedT]) -> dict[str, NDArray[Any]]:
        """Return prepared inputs as one batch of the graph's inputs, by name, each [B, …]."""

    def random_inputs(self, count: int, *, seed: int) -> dict[str, NDArray[Any]]:
        """Return `count` random inputs for tracing and checking the graph; their lengths may depend on `count`."""

    def visualize(self, prepared: PreparedT) -> Any:
        """Return a prepared input in a form that a person can inspect."""

    @classmethod
    def from_state(cls, state: dict[str, Any], assets: Mapping[str, bytes]) -> Self:
        """Return the preprocessing of the encoder with this `state()` and these `assets()`; raises ModelError."""


class Encoder(Protocol[PreprocessingT, EncodeT, LimitsT]):
    """The part of a classifier that is not trained by gradient descent: preprocessing, then optional frozen features.

    A text is encoded by its preprocessing alone, a picture also by a frozen backbone. Encodings are computed once for
    all trials, and DVC caches them.
    """

    @classmethod
    def fit(cls, examples: "Iterable[Example]", section: EncodeT, limits: LimitsT) -> Self:
        """Return an encoder with the section's parameters, fitted to the training examples.

        Inputs beyond the `limits` raise InputError, in training and in prediction.
        """

    @property
    def preprocessing(self) -> PreprocessingT:
        """Return the part that runs at every prediction."""

    @property
    def columns(self) -> "Mapping[str, pa.DataType]":
        """Return the Arrow type of each array that `encode` yields."""

    def encode(
        self, examples: "Iterable[Example]", section: EncodeT, *, known: Known = nothing_known
    ) -> Iterator[dict[str, Any]]:
        """Yield the encodings to train on, one dict per example in order, with bounded memory.

        `known` returns, for the digest of an example, arrays of its encoding that need not be computed.
        """

    def adapted(self, section: EncodeT) -> Self:
        """Return the encoder, fitted or loaded, with the section's border between what is frozen and what is trained.

        Raises ModelError where its frozen part has no such border.
        """

    def row_bytes(self, examples: "Iterable[Example]", section: EncodeT) -> int:
        """Return how many bytes the encodings of an example take on average of these; 0 where they are not large."""

    def parts(self, section: EncodeT) -> Mapping[str, str]:
        """Return a digest for each array that costs much and depends on less than `fingerprint`: on all but the split
        and the training examples.
        """

    def fingerprint(self, section: EncodeT, split: str) -> str:
        """Return a digest of all that the encodings of a split depend on besides the raw inputs.

        With equal fingerprints, equal raw inputs have bit-identical encodings, whatever else is encoded with them.
        """

    def graph(self, network: "nn.Module", detector: "nn.Module | None" = None) -> "nn.Module":
        """Return a module from the graph's inputs to logits [B, C]: the frozen part, then the trained network.

        With a `detector`, which reads the same encodings as networks do, it returns (logits, strangeness [B],
        features [B, F]).
        """

    def read_by(self, *parts: "nn.Module | None") -> Self:
        """Return the encoder for a classifier of these networks: without what none of them reads."""

    def state(self) -> dict[str, Any]:
        """Return all that prediction needs besides `assets()`, as plain data."""

    def assets(self) -> Mapping[str, bytes]:
        """Return the files that the preprocessing needs beside the state, by name, such as a tokenizer's."""

    def save(self, folder: Path) -> None:
        """Save all that training needs, atomically."""

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Return the encoder saved in a folder."""


class Explanation(Protocol):
    """The evidence in an input for and against a class."""

    @property
    def label(self) -> str:
        """Return the explained class."""

    def to_json(self) -> dict[str, Any]:
        """Return plain data: "kind", "label" and the task's own part ("heat_map" or "words")."""


class Reader(Protocol[DataT]):
    """Reading a source: its examples and their contents."""

    RAW: "type[Raw]"
    """The type of a raw input: bytes or str."""
    SUFFIXES: frozenset[str]
    """The endings of files with one input, in lower case."""
    TABLES: tuple[str, ...]
    """The endings of files with many labelled inputs."""
    NOT_READ: Mapping[str, str]
    """Endings of files that hold such inputs and are not read: why, and what to do."""

    def write_sample(self, archive: Path, section: DataT) -> None:
        """Write the embedded data set as an archive, atomically; a link in its place is not followed."""

    def listing(self, source: Path, section: DataT, *, labelled: bool) -> "Listing":
        """Return the examples that a source holds, without reading them; raises DataError.

        If not `labelled`, classes come from elsewhere and files may be in any folder.
        """

    def contents(self, source: Path, section: DataT, wanted: Collection[str]) -> Iterator[tuple[str, bytes]]:
        """Yield (id, content) of the wanted examples, in the order of the source."""

    def read(self, raw: bytes, section: DataT) -> "Raw":
        """Return a content as the example table stores it; raises InputError if it is unreadable or too large."""

    def recognizes(self, content: bytes) -> bool:
        """Return whether a content may be an input of this task, judged by its bytes alone."""


class Inspector(Protocol[DataT, ChecksT]):
    """Checking data for problems: see `flowerml.checks`."""

    def digest(self, content: bytes, section: DataT) -> bytes | None:
        """Return the `digest` of `inspect` from an example's content; None for an empty or unreadable one.

        Where contents are compared byte by byte, the rows of `listing` may have sizes, which saves reading most.
        """

    def inspect(self, name: str, raw: Any, section: DataT) -> Inspection:
        """Return the findings about the example of this name. May be called from many threads."""

    def classify_error(self, name: str, content: bytes, error: "InputError") -> str:
        """Return the finding name for an unreadable example."""

    def near_duplicates(self, signatures: NDArray[np.generic], section: ChecksT) -> "Similar":
        """Return the groups of near duplicates, as rows of the signatures [N, …].

        All pairs are compared up to `similar.EXACT_ROWS` rows; beyond it the cost grows as the rows do.
        """

    def vectors(self, encoded: "Encoded") -> Any:
        """Return the encodings as vectors of length 1: `.shape` is [N, D], `[rows]` a matrix of some, dense or sparse.

        `rows` are a slice or row numbers.
        """

    def properties(self, raw: Any) -> Mapping[str, float | str]:
        """Return properties that may make an input hard, by the same names for all inputs; raises InputError."""


class Codec(Protocol[InputT]):
    """The wire format of raw inputs: file contents and JSON."""

    INPUT: str
    """The column of a served model and the key of its request bodies."""

    def from_bytes(self, content: bytes) -> "Raw":
        """Return the content of a file as a raw input; raises InputError."""

    def from_json(self, value: Any) -> "Raw":
        """Return a JSON value sent to an endpoint as a raw input; raises InputError."""

    def to_json(self, raw: InputT) -> str:
        """Return a raw input as an endpoint expects it."""

    def is_large(self, raw: InputT) -> bool:
        """Return whether an answer to a raw input takes many times as long as most, without reading it whole."""


class Presenter(Protocol[InputT, UsedPreprocessingT]):
    """Presenting inputs and answers to a person: in the report, on the page, in plots and in the model card."""

    NOUN: str
    """The noun for an input, such as "picture" or "text"; its plural ends in s."""
    FORM: Form
    """How a person sees an input: as a picture or as text."""
    POLES: bool
    """Whether two classes are shown as the ends of one scale, as negative and positive, and not as two bars."""
    EXAMPLE_ARGUMENT: str
    """An example input on a command line, quoted for a shell."""

    SAMPLE_DATA: str
    """What the embedded data set consists of, in the plural."""

    def title(self, classes: Sequence[str] | None) -> str:
        """Return the title of an input on the page; `classes` is None if the server does not report them."""

    def samples(self, classes: Sequence[str] | None) -> "list[Raw]":
        """Return inputs to try that no model was trained on; empty if none suits these classes."""

    def preview(self, raw: Any, *, large: bool = False) -> bytes | str:
        """Return a small preview for a report, a JPEG or a line of text; raises InputError.

        A `large` one is to judge a label by: a picture that fills a window, or the text.
        """

    def excerpt(self, raw: Any) -> "Raw":
        """Return a small copy of a raw input, a raw input itself, for a classifier's folder; raises InputError."""

    def explain(self, raw: InputT, preprocessing: UsedPreprocessingT, log_odds: LogOdds, *, label: str) -> Explanation:
        """Return the evidence for the class `label`, whose log odds `log_odds` returns; raises InputError."""

    def draw(
        self,
        axes: "Axes",
        raw: InputT,
        preprocessing: UsedPreprocessingT,
        explain: Callable[[], Explanation],
        *,
        name: str,
    ) -> None:
        """Draw an input into matplotlib's axes, with the evidence from `explain` for its best class, called `name`."""

    def unlike(self, strangeness: float) -> str:
        """Return why an input of this strangeness is unlike the training examples, in a few words."""

    def snippets(self, address: str) -> Snippets:
        """Return how to query the registered version at an address such as models:/NAME/VERSION."""

    def describe_network(self, encoder: Mapping[str, Any], parameters: Mapping[str, Any]) -> str:
        """Return a short description of a classifier, from its encoder's state and its parameters by dotted names."""

    def limitations(self, parameters: Mapping[str, Any]) -> list[str]:
        """Return the limitations of a classifier with these parameters, as sentences of the model card."""


class Trainable(Protocol[TrainT, EncoderT, OwnPreprocessingT, TrainingDataT]):
    """Training: sections of params.yaml, encoder and networks."""

    Encoder: type[EncoderT]
    Preprocessing: type[OwnPreprocessingT]
    NETWORKS: Path
    """The path of the networks' source code; changing the code invalidates checkpoints."""

    def section_types(self) -> SectionTypes:
        """Return the types of the task's own sections in params.yaml."""

    def continues(self, encoder: Mapping[str, Any], parameters: Mapping[str, Any]) -> bool:
        """Return whether a saved classifier's network can be trained further, and is not fitted anew each time.

        `encoder` is the saved state, `parameters` have dotted names.
        """

    def training_data(self, encoded: "Encoded", classes: tuple[str, ...], encoder: EncoderT) -> TrainingDataT:
        """Return the encodings in memory, for any number of trials."""

    def build_network(self, data: TrainingDataT, section: TrainT) -> "tuple[nn.Module, Training]":
        """Return a new network and its `Training`, the iteration that trains it."""

    def with_valid(self, data: TrainingDataT, section: TrainT) -> TrainingDataT:
        """Return the data of a refit: the validation examples are training examples, and none is left in valid.

        Raises ParamsError where a network that the section may train cannot do without.
        """

    def predict_valid(self, data: TrainingDataT, network: "nn.Module") -> "Tensor":
        """Return a trained network's logits of the validation examples, in their order, [N, C]."""

    def valid_targets(self, data: TrainingDataT) -> "Tensor":
        """Return the class indices of the validation examples, [N]."""

    def combined(self, networks: "Sequence[nn.Module]", weights: Sequence[float]) -> "nn.Module":
        """Return a network that answers with the weighted mean of the probabilities of others; weights sum to 1."""

    def preset(self, name: str, situation: Situation) -> list[Choice]:
        """Return the parameters of a preset (fast, balanced or best), each with its reason.

        Raises ParamsError where the task has none, and for what the preset and the user's parameters cannot both have.
        """

    def preset_hint(self, parameters: Mapping[str, Any]) -> str | None:
        """Return what a preset would do beyond a training with these parameters, by dotted names; None for nothing."""

    def backbones(self, *, published: bool) -> Iterator[Backbone]:
        """Yield the pretrained networks that are here, and, if `published`, those that would be downloaded."""

    def suggested_threads(self, data: TrainingDataT, section: TrainT) -> int | None:
        """Return the number of threads that suits a training where the section names none; None for all cores."""

    def fit_detector(
        self, data: TrainingDataT, network: "nn.Module", before: Detector | None = None
    ) -> Detector | None:
        """Return the detector of inputs unlike the training examples, fitted on them; None where there is none.

        Of a network that was trained on the validation examples, too, `before` is the detector of the one before that:
        the scale of strangeness is then the same.

        It needs no frozen part that the network does not need.
        """


class Task(
    Reader[Any],
    Inspector[Any, Any],
    Codec[Any],
    Presenter[Any, Any],
    Trainable[Any, Any, Any, Any],
    Protocol,
):
    """All five protocols, as the rest of the package uses a task. `Any` since each task has its own section types."""
