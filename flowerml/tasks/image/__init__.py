"""The image task: pictures in folders, a frozen backbone, and a feed-forward head.

The names offered here are those of `Task` in tasks/base.py. Nothing heavy is imported before it is used: `download`
and `extract` start in a blink, and a served model has no torch.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from flowerml.tasks.image.checks import alike, facts, fault, vectors
from flowerml.tasks.image.encoder import Encoder
from flowerml.tasks.image.explanation import explain
from flowerml.tasks.image.payload import from_json, to_json
from flowerml.tasks.image.preview import preview
from flowerml.tasks.image.properties import properties
from flowerml.tasks.image.reading import SUFFIXES, contents, listing, read

if TYPE_CHECKING:
    from torch import nn

    from flowerml.data.encodings import Encoded
    from flowerml.engine.fit import Training
    from flowerml.tasks.image.networks import FeatureBatches
    from flowerml.tasks.image.sections import Data, Train
    from flowerml.tasks.registry import SectionTypes

__all__ = [
    "INPUT",
    "RAW",
    "SUFFIXES",
    "TABLES",
    "Encoder",
    "alike",
    "contents",
    "explain",
    "facts",
    "fault",
    "from_bytes",
    "from_json",
    "listing",
    "preview",
    "properties",
    "read",
    "section_types",
    "start",
    "to_json",
    "training_data",
    "vectors",
    "write_sample",
]

INPUT = "image"
RAW = bytes
TABLES = ()


def section_types() -> "SectionTypes":
    """The types of the sections of params.yaml."""
    from flowerml.tasks.image import sections
    from flowerml.tasks.registry import SectionTypes

    return SectionTypes(data=sections.Data, encode=sections.Encode, train=sections.Train)


def write_sample(archive: Path, section: "Data") -> None:
    """Draw the embedded data set."""
    from flowerml.tasks.image import sample

    sample.write(archive, per_class=section.sample_per_class, seed=section.seed)


def from_bytes(content: bytes) -> bytes:
    """The content of a file as a raw input."""
    return content


def training_data(encoded: "Encoded", classes: tuple[str, ...], encoder: Encoder) -> "FeatureBatches":
    """The encodings made ready for any number of trials."""
    from flowerml.tasks.image.networks import FeatureBatches

    return FeatureBatches(encoded, classes)


def start(data: "FeatureBatches", section: "Train") -> "tuple[nn.Module, Training]":
    """A new head, and the iteration that trains it."""
    from flowerml.tasks.image import networks

    return networks.start(data, section)
