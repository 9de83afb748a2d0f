"""The paths of a pipeline's files: the same as in dvc.yaml."""

from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).parents[1]  # the folder of flowerml itself
DESCRIPTION = "classifier.json"  # in the folder of every saved classifier
DOWNLOADS = Path("data", "downloads")  # downloaded files as HOST/PATH; a person may put them there, too


@dataclass(frozen=True)
class Paths:
    """The files of one pipeline below `root`, by default the working directory.

    >>> Paths("flowers").examples.as_posix()
    'data/flowers/examples.parquet'
    """

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
        """The checkpoint of the search. Not an output of a stage: DVC deletes outputs when the stage starts."""
        return Path(self.root, "data", self.pipeline, "checkpoint")

    @property
    def lock(self) -> Path:
        return Path(self.root, "data", self.pipeline, ".lock")

    @property
    def classifier(self) -> Path:
        return Path(self.root, "models", self.pipeline, "classifier")

    @property
    def repeats(self) -> Path:
        """The classifiers of the same training with other seeds."""
        return Path(self.root, "models", self.pipeline, "repeats")

    @property
    def mlflow_model(self) -> Path:
        return Path(self.root, "models", self.pipeline, "mlflow")

    @property
    def registration(self) -> Path:
        return Path(self.root, "models", self.pipeline, "registration.json")

    @property
    def exported(self) -> Path:
        """The record of an export for DVC: see `flowerml.pipeline.exported`."""
        return Path(self.root, "reports", "exported", f"{self.pipeline}.json")

    @property
    def reports(self) -> Path:
        return Path(self.root, "reports", self.pipeline)
