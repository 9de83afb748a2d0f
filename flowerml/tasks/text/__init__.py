"""The text task: files in folders or rows of a table, the course's cleaning, and networks on words.

The names offered here are those of `Task` in tasks/base.py. Nothing heavy is imported before it is used: `download`
and `extract` start in a blink, and a served model has no torch and no nltk.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from flowerml.tasks.text.checks import alike, facts, fault, vectors
from flowerml.tasks.text.encoder import Encoder
from flowerml.tasks.text.explanation import explain
from flowerml.tasks.text.payload import from_json, to_json
from flowerml.tasks.text.preview import preview
from flowerml.tasks.text.properties import properties
from flowerml.tasks.text.reading import SUFFIXES, TABLES, contents, decoded, listing, read

if TYPE_CHECKING:
    from torch import nn

    from flowerml.data.encodings import Encoded
    from flowerml.engine.fit import Training
    from flowerml.tasks.registry import SectionTypes
    from flowerml.tasks.text.networks import Texts
    from flowerml.tasks.text.sections import Data, Train

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

INPUT = "text"
RAW = str


def section_types() -> "SectionTypes":
    """The types of the sections of params.yaml."""
    from flowerml.tasks.registry import SectionTypes
    from flowerml.tasks.text import sections

    return SectionTypes(data=sections.Data, encode=sections.Encode, train=sections.Train)


def write_sample(archive: Path, section: "Data") -> None:
    """Compose the embedded data set."""
    from flowerml.tasks.text import sample

    sample.write(archive, per_class=section.sample_per_class, seed=section.seed)


def from_bytes(content: bytes) -> str:
    """The content of a file as a raw input; raises InputError."""
    return decoded(content)


def training_data(encoded: "Encoded", classes: tuple[str, ...], encoder: Encoder) -> "Texts":
    """The encodings made ready for any number of trials."""
    from flowerml.tasks.text.networks import Texts

    return Texts(encoded, classes, codes=encoder.codes)


def start(data: "Texts", section: "Train") -> "tuple[nn.Module, Training]":
    """A new network, and the iteration that trains it."""
    from flowerml.tasks.text import networks

    return networks.start(data, section)
