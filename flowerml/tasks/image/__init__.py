"""The image task: pictures in folders, a pretrained backbone, and a feed-forward head.

Its names are the members of `Task` in tasks/base.py. Heavy packages are imported where they are used, so that
`download` and `extract` start at once and a served model needs no torch.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowerml.tasks.image.checks import classify_error, digest, inspect, near_duplicates, vectors
from flowerml.tasks.image.encoder import Encoder, Preprocessing
from flowerml.tasks.image.excerpt import excerpt
from flowerml.tasks.image.explanation import explain
from flowerml.tasks.image.payload import from_json, is_large, to_json
from flowerml.tasks.image.presentation import (
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
from flowerml.tasks.image.preview import preview
from flowerml.tasks.image.properties import properties
from flowerml.tasks.image.reading import NOT_READ, SUFFIXES, contents, listing, read, recognizes
from flowerml.tasks.records import Backbone, Choice, Detector, SectionTypes, Situation

if TYPE_CHECKING:
    from torch import Tensor, nn

    from flowerml.data.encodings import Encoded
    from flowerml.data.examples import Raw
    from flowerml.engine.fit import Training
    from flowerml.tasks.image.networks import TrainingData
    from flowerml.tasks.image.sections import Data, Train

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

INPUT = "image"
NETWORKS = Path(__file__).with_name("networks")
RAW: "type[Raw]" = bytes
TABLES: tuple[str, ...] = ()


def section_types() -> SectionTypes:
    """Return the types of the task's own sections in params.yaml."""
    from flowerml.tasks.image import sections

    return SectionTypes(sections.Data, sections.Encode, sections.Train, sections.problems)


def write_sample(archive: Path, section: "Data") -> None:
    """Draw the embedded data set and write it as an archive."""
    from flowerml.tasks.image import sample

    sample.write(archive, per_class=section.sample_per_class, seed=section.seed)


def from_bytes(content: bytes) -> bytes:
    """Return the content of a file as a raw input."""
    return content


def continues(encoder: Mapping[str, Any], parameters: Mapping[str, Any]) -> bool:
    """Return whether a network can be trained further: every head can."""
    return True


def training_data(encoded: "Encoded", classes: tuple[str, ...], encoder: Encoder) -> "TrainingData":
    """Return the encodings for any number of trials: features in memory, pictures and activations on the disk."""
    from flowerml.tasks.image import networks

    return networks.training_data(encoded, classes, encoder)


def build_network(data: "TrainingData", section: "Train") -> "tuple[nn.Module, Training]":
    """Return a new network, and the iteration that trains it: a head, or a backbone's last blocks with one."""
    from flowerml.tasks.image import networks

    return networks.build_network(data, section)


def with_valid(data: "TrainingData", section: "Train") -> "TrainingData":
    """Return the data of a refit: every network can be trained without validation pictures."""
    from flowerml.tasks.image import networks

    return networks.with_valid(data)


def predict_valid(data: "TrainingData", network: "nn.Module") -> "Tensor":
    """Return the logits of the validation pictures, [N, C]."""
    from flowerml.tasks.image import networks

    return networks.predict_valid(data, network)


def valid_targets(data: "TrainingData") -> "Tensor":
    """Return the class index of each validation picture, [N]."""
    from flowerml.tasks.image import networks

    return networks.valid_targets(data)


def combined(networks: "Sequence[nn.Module]", weights: Sequence[float]) -> "nn.Module":
    """Return a network that answers with the weighted mean of the probabilities of others."""
    from flowerml.tasks.image.networks import Ensemble

    return Ensemble(networks, weights)


def backbones(*, published: bool) -> Iterator[Backbone]:
    """Yield the pretrained networks that are here, and, if `published`, those that would be downloaded."""
    from flowerml.tasks.image import available

    return available.backbones(published=published)


def preset(name: str, situation: Situation) -> list[Choice]:
    """Return the parameters of a preset with their reasons; raises ParamsError."""
    from flowerml.tasks.image import presets

    return presets.preset(name, situation)


def preset_hint(parameters: Mapping[str, Any]) -> str | None:
    """Return what a preset would do beyond a head on frozen features."""
    from flowerml.tasks.image import presets

    return None if parameters.get("encode.trainable_blocks", 0) else presets.HINT


def suggested_threads(data: "TrainingData", section: "Train") -> int | None:
    """Return one thread for a head, and None for fine-tuning, which all cores share."""
    from flowerml.tasks.image import networks

    return networks.suggested_threads(data, section)


def fit_detector(data: "TrainingData", network: "nn.Module", before: Detector | None = None) -> Detector:
    """Return the detector of pictures unlike the training pictures, fitted on the features of these."""
    from flowerml.tasks.image import networks

    return networks.fit_detector(data, network, before)
