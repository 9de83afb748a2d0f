"""Where the stages of a pipeline leave what they make: the same places that dvc.yaml names."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Paths:
    """The files of one pipeline, relative to the project's folder."""

    pipeline: str

    @property
    def archive(self) -> Path:
        return Path("data", self.pipeline, "archive")

    @property
    def category_names(self) -> Path:
        return Path("data", self.pipeline, "category_names.json")

    @property
    def examples(self) -> Path:
        return Path("data", self.pipeline, "examples.parquet")

    @property
    def checks(self) -> Path:
        return Path("data", self.pipeline, "checks.json")

    @property
    def encoded(self) -> Path:
        return Path("data", self.pipeline, "encoded.arrow")

    @property
    def encoder(self) -> Path:
        return Path("data", self.pipeline, "encoder")

    @property
    def classifier(self) -> Path:
        return Path("models", self.pipeline, "classifier")

    @property
    def mlflow_model(self) -> Path:
        return Path("models", self.pipeline, "mlflow")

    @property
    def registration(self) -> Path:
        return Path("models", self.pipeline, "registration.json")

    @property
    def reports(self) -> Path:
        return Path("reports", self.pipeline)
