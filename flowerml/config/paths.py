"""Where the stages of a pipeline leave what they make: the same places that dvc.yaml names."""

from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).parents[1]  # the folder of flowerml itself
DESCRIPTION = "classifier.json"  # what a folder holds that is a saved classifier
DOWNLOADS = Path("data", "downloads")  # HOST/PATH of every file that was fetched, or put there by hand


@dataclass(frozen=True)
class Paths:
    """The files of one pipeline, below `root`: the project's folder, where none is given."""

    pipeline: str
    root: Path = Path()

    @property
    def archive(self) -> Path:
        return Path(self.root, "data", self.pipeline, "archive")

    @property
    def category_names(self) -> Path:
        return Path(self.root, "data", self.pipeline, "category_names.json")

    @property
    def split_table(self) -> Path:
        return Path(self.root, "data", self.pipeline, "split_table.csv")

    @property
    def examples(self) -> Path:
        return Path(self.root, "data", self.pipeline, "examples.parquet")

    @property
    def checks(self) -> Path:
        return Path(self.root, "data", self.pipeline, "checks.json")

    @property
    def encoded_checks(self) -> Path:
        return Path(self.root, "data", self.pipeline, "encoded_checks.json")

    @property
    def data_page(self) -> Path:
        return Path(self.root, "reports", self.pipeline, "data.html")

    @property
    def encoded(self) -> Path:
        return Path(self.root, "data", self.pipeline, "encoded.arrow")

    @property
    def encoder(self) -> Path:
        return Path(self.root, "data", self.pipeline, "encoder")

    @property
    def checkpoint(self) -> Path:
        """How far the search has come; no output of a stage, which would be deleted when it starts again."""
        return Path(self.root, "data", self.pipeline, "checkpoint")

    @property
    def lock(self) -> Path:
        return Path(self.root, "data", self.pipeline, ".lock")

    @property
    def classifier(self) -> Path:
        return Path(self.root, "models", self.pipeline, "classifier")

    @property
    def mlflow_model(self) -> Path:
        return Path(self.root, "models", self.pipeline, "mlflow")

    @property
    def registration(self) -> Path:
        return Path(self.root, "models", self.pipeline, "registration.json")

    @property
    def reports(self) -> Path:
        return Path(self.root, "reports", self.pipeline)
