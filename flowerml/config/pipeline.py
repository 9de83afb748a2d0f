"""A pipeline: one entry of `pipelines:` in params.yaml, with its sections."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowerml.config.dotted import flatten
from flowerml.config.params import Data, Evaluate, Export, Section, Train
from flowerml.config.paths import Paths
from flowerml.core.urls import without_secrets

SECTIONS = ("data", "encode", "train", "evaluate", "export")


@dataclass(frozen=True)
class Pipeline:
    """One entry of `pipelines:` with its checked sections; `data`, `encode` and `train` are of its kind's own types."""

    name: str
    kind: str
    data: Data
    encode: Section
    train: Train
    evaluate: Evaluate
    export: Export
    root: Path = Path()
    """The folder that its files are below."""

    @property
    def paths(self) -> Paths:
        return Paths(self.name, self.root)

    def sections(self) -> dict[str, dict[str, Any]]:
        """Return the sections as plain data, as params.yaml has them, with the source's address free of secrets."""
        sections = {name: getattr(self, name).model_dump() for name in SECTIONS}
        sections["data"]["source"] = without_secrets(self.data.source)
        return sections

    def parameters(self) -> dict[str, Any]:
        """Return every parameter by its dotted name, without the pipeline's: {"train.learning_rate": 0.001, …}.

        They are recorded and travel with classifiers, so addresses among them come without their secrets.
        """
        values = flatten({name: getattr(self, name).model_dump() for name in SECTIONS})
        return {name: without_secrets(value) if isinstance(value, str) else value for name, value in values.items()}
