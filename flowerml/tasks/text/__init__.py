"""The text task: files in folders or rows of a table, the course's cleaning, and networks on words.

Its names are the members of `Task` in tasks/base.py. Heavy packages are imported where they are used: `download` and
`extract` start fast, and a served model has no torch.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from flowerml.core.errors import ParamsError
from flowerml.tasks.records import Backbone, Choice, Detector, SectionTypes, Situation
from flowerml.tasks.text.checks import classify_error, digest, inspect, near_duplicates, vectors
from flowerml.tasks.text.encoder import Encoder, Preprocessing
from flowerml.tasks.text.excerpt import excerpt
from flowerml.tasks.text.explanation import explain
from flowerml.tasks.text.payload import from_json, is_large, to_json
from flowerml.tasks.text.presentation import (
    EXAMPLE_ARGUMENT,
    FORM,
    NOUN,
    POLES,
    SAMPLE_DATA,
    describe_network,
    draw,
    limitations,
    samples,
    snippets,
    title,
    unlike,
)
from flowerml.tasks.text.preview import preview
from flowerml.tasks.text.properties import properties
from flowerml.tasks.text.reading import NOT_READ, SUFFIXES, TABLES, contents, decode, listing, read, recognizes

if TYPE_CHECKING:
    from torch import Tensor, nn

    from flowerml.data.encodings import Encoded
    from flowerml.data.examples import Raw
    from flowerml.engine.fit import Training
    from flowerml.tasks.text.networks import Texts
    from flowerml.tasks.text.sections import Data, Train

__all__ = [
    "EXAMPLE_ARGUMENT",
    "FORM",
    "INPUT",
    "NETWORKS",
    "NOT_READ",
    "NOUN",
    "POLES",
    "RAW",
    "SAMPLE_DATA",
    "SUFFIXES",
    "TABLES",
    "Encoder",
    "Preprocessing",
    "backbones",
    "build_network",
    "classify_error",
    "combined",
    "contents",
    "continues",
    "describe_network",
    "digest",
    "draw",
    "excerpt",
    "explain",
    "fit_detector",
    "from_bytes",
    "from_json",
    "inspect",
    "is_large",
    "limitations",
    "listing",
    "near_duplicates",
    "predict_valid",
    "preset",
    "preset_hint",
    "preview",
    "properties",
    "read",
    "recognizes",
    "samples",
    "section_types",
    "snippets",
    "suggested_threads",
    "title",
    "to_json",
    "training_data",
    "unlike",
    "valid_targets",
    "vectors",
    "with_valid",
    "write_sample",
]

INPUT = "text"
NETWORKS = Path(__file__).with_name("networks")
RAW: "type[Raw]" = str


def section_types() -> SectionTypes:
    """Return the types of the task's own sections in params.yaml."""
    from flowerml.tasks.text import sections

    return SectionTypes(data=sections.Data, encode=sections.Encode, train=sections.Train)


def write_sample(archive: Path, section: "Data") -> None:
    """Compose the embedded data set and write it as an archive."""
    from flowerml.tasks.text import sample

    sample.write(archive, per_class=section.sample_per_class, seed=section.seed)


def from_bytes(content: bytes) -> str:
    """Return the content of a file as a raw input. Raises InputError."""
    return decode(content)


def continues(encoder: Mapping[str, Any], parameters: Mapping[str, Any]) -> bool:
    """Return whether a network can be trained further: not n-grams and linear heads, which are fitted in one step."""
    network = parameters.get("train.network", "lstm")
    if network == "head":
        return bool(parameters.get("train.hidden_units"))
    return network == "lstm" or (network == "blend" and "backbone" not in encoder)


def training_data(encoded: "Encoded", classes: tuple[str, ...], encoder: Encoder) -> "Texts":
    """Return the encodings in memory, ready for any number of trials."""
    from flowerml.tasks.text.networks import Texts

    return Texts(encoded, classes, codes=encoder.preprocessing.codes)


def build_network(data: "Texts", section: "Train") -> "tuple[nn.Module, Training]":
    """Return a new network, and the iteration that trains it."""
    from flowerml.tasks.text import networks

    return networks.build_network(data, section)


def with_valid(data: "Texts", section: "Train") -> "Texts":
    """Return the texts of a refit; raises ParamsError for a blend with an LSTM, which is weighed on valid."""
    networks = {section.network, *cast(list[Any], section.searched().get("network", []))}
    if "blend" in networks and data.features is None:
        raise ParamsError(
            "train.refit: a blend with an LSTM is weighed on valid, which a refit trains on; "
            "set it to false, or train.network to ngrams or lstm, also in train.search.space"
        )
    return data.with_valid()


def predict_valid(data: "Texts", network: "nn.Module") -> "Tensor":
    """Raise ParamsError: this is for ensembles, and texts have blends instead."""
    raise ParamsError("train.ensemble: expected 1; networks for texts are combined by train.network: blend")


def valid_targets(data: "Texts") -> "Tensor":
    """Return the class indices of the validation texts, [N]."""
    import torch

    return torch.from_numpy(data.targets["valid"])


def combined(networks: "Sequence[nn.Module]", weights: Sequence[float]) -> "nn.Module":
    """Raise ParamsError, as `predict_valid` does."""
    raise ParamsError("train.ensemble: expected 1; networks for texts are combined by train.network: blend")


def backbones(*, published: bool) -> Iterator[Backbone]:
    """Yield none: the pretrained encoders of texts are those of the Hugging Face Hub, and not listed."""
    return iter(())


def preset(name: str, situation: Situation) -> list[Choice]:
    """Raise ParamsError: texts have no presets."""
    raise ParamsError(
        "--preset: expected pictures, found texts; their default takes seconds, and --backbone hf/OWNER/NAME is what "
        "makes them better"
    )


def preset_hint(parameters: Mapping[str, Any]) -> None:
    """Return None."""


def suggested_threads(data: "Texts", section: "Train") -> None:
    """Return None: all cores."""


def fit_detector(data: "Texts", network: "nn.Module", before: Detector | None = None) -> Detector:
    """Return the detector of texts unlike the training texts, fitted on these; it depends on no network."""
    from flowerml.tasks.text.networks.typicality import fit_text_detector

    reads = cast(tuple[str, ...], network.reads)
    features = data.features["train"] if data.features is not None and "features" in reads else None
    return fit_text_detector(data.words["train"], features)
