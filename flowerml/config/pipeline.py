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
    """One entry of `pipelines:` with its checked sections; `data`, `encode` and `train` have the task's own types."""

    name: str
    kind: str
    data: Data
    encode: Section
    train: Train
    evaluate: Evaluate
    export: Export
    root: Path = Path()
    """The folder that holds its files."""

    @property
    def paths(self) -> Paths:
        return Paths(self.name, self.root)

    def sections(self) -> dict[str, dict[str, Any]]:
        """Return the sections as plain data, as in params.yaml, without secrets in the source's address."""
        sections = {name: getattr(self, name).model_dump() for name in SECTIONS}
        sections["data"]["source"] = without_secrets(self.data.source)
        return sections

    def parameters(self) -> dict[str, Any]:
        """Return every parameter by its dotted name within the pipeline: {"train.learning_rate": 0.001, …}.

        Addresses come without secrets, since MLflow and saved classifiers keep the parameters.
        """
        values = flatten({name: getattr(self, name).model_dump() for name in SECTIONS})
        return {name: without_secrets(value) if isinstance(value, str) else value for name, value in values.items()}
