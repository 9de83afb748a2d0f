"""The image task: pictures in folders, a frozen backbone, and a feed-forward head.

Its names are the members of `Task` in tasks/base.py. Heavy packages are imported where they are used, so that
`download` and `extract` start at once and a served model needs no torch.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowerml.tasks.base import Detector, SectionTypes
from flowerml.tasks.image.checks import classify_error, digest, inspect, near_duplicates, vectors
from flowerml.tasks.image.encoder import Encoder, Preprocessing
from flowerml.tasks.image.explanation import explain
from flowerml.tasks.image.payload import from_json, to_json
from flowerml.tasks.image.presentation import (
    EXAMPLE_ARGUMENT,
    FORM,
    NOUN,
    POLES,
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

if TYPE_CHECKING:
    from torch import nn

    from flowerml.data.encodings import Encoded
    from flowerml.data.examples import Raw
    from flowerml.engine.feed_forward import FeatureBatches
    from flowerml.engine.fit import Training
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
    "SUFFIXES",
    "TABLES",
    "Encoder",
    "Preprocessing",
    "build_network",
    "classify_error",
    "contents",
    "continues",
    "describe_network",
    "digest",
    "draw",
    "explain",
    "fit_detector",
    "from_bytes",
    "from_json",
    "inspect",
    "limitations",
    "listing",
    "near_duplicates",
    "preview",
    "properties",
    "read",
    "recognizes",
    "samples",
    "section_types",
    "snippets",
    "title",
    "to_json",
    "training_data",
    "unlike",
    "vectors",
    "write_sample",
]

INPUT = "image"
NETWORKS = Path(__file__).with_name("networks")
RAW: "type[Raw]" = bytes
TABLES: tuple[str, ...] = ()


def section_types() -> SectionTypes:
    """Return the types of the task's own sections in params.yaml."""
    from flowerml.tasks.image import sections

    return SectionTypes(data=sections.Data, encode=sections.Encode, train=sections.Train)


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


def training_data(encoded: "Encoded", classes: tuple[str, ...], encoder: Encoder) -> "FeatureBatches":
    """Return the encodings in memory, ready for any number of trials."""
    from flowerml.tasks.image.networks import feature_batches

    return feature_batches(encoded, classes)


def build_network(data: "FeatureBatches", section: "Train") -> "tuple[nn.Module, Training]":
    """Return a new head, and the iteration that trains it."""
    from flowerml.tasks.image import networks

    return networks.build_network(data, section)


def fit_detector(data: "FeatureBatches", network: "nn.Module") -> Detector:
    """Return the detector of pictures unlike the training pictures, fitted on the features of these."""
    from flowerml.tasks.image import networks

    return networks.fit_detector(data)
