"""What the gate compares of a registered version: from its tags, its run, and its classifier on another test set."""

import json
import math
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flowerml.classifier.classifier import Classifier
from flowerml.core.errors import InputError, ModelError
from flowerml.data.examples import Examples, Raw
from flowerml.evaluation import comparison
from flowerml.registry.client import mlflow_errors, registered
from flowerml.registry.gate import Candidate
from flowerml.registry.locate import resolve_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pandas as pd
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

ANSWERS = "reports/predictions.csv"
SOURCE = "data_source"  # the tag of a version
UNREADABLE = ""  # predicted where the classifier cannot read an example: always a mistake


def candidate_of(client: "MlflowClient", record: "ModelVersion") -> Candidate:
    """Return what is recorded of a registered version; little is known of one registered by hand."""
    tags = record.tags
    return Candidate(
        version=str(record.version),
        accuracy=_number(tags.get("accuracy")),
        test_digest=tags.get("test_digest"),
        classes=_classes(tags.get("classes", "[]")),
        answers=_logged_answers(client, record.run_id),
        ece=_number(tags.get("ece")),
        size=int(size) if (size := _number(tags.get("classifier_bytes"))) is not None else None,
        source=_source(client, record),
    )


def read_answers(path: Path) -> "pd.DataFrame":
    """Return the predictions that `evaluate` wrote, as the gate takes them: id, actual and predicted, all as text."""
    import pandas as pd

    return pd.read_csv(path, usecols=["id", "actual", "predicted"], dtype=str, keep_default_na=False)


@dataclass(frozen=True, eq=False)
class LoggedTest:
    """The predictions that were logged with a version (`comparison.COLUMNS`), on the test set with this digest."""

    digest: str
    predictions: "pd.DataFrame"


def logged_test(model: str) -> LoggedTest | None:
    """Return the logged predictions of a registered version, models:/NAME/VERSION or @ALIAS; None where there are none.

    Raises ModelError where the registry is missing or not responding.
    """
    import pandas as pd

    record = registered(model)
    if record is None:
        return None
    digest = record.tags.get("test_digest")

    def read(path: Path) -> "pd.DataFrame":
        types = {"id": str, "actual": str, "predicted": str, "probability_of_actual": float}
        return pd.read_csv(path, usecols=list(comparison.COLUMNS), dtype=types, keep_default_na=False)

    with mlflow_errors(f"{model}: "):
        from mlflow import MlflowClient

        predictions = _logged(MlflowClient(), record.run_id, read) if digest else None
    return LoggedTest(digest, predictions) if predictions is not None else None


def scored(name: str, version: str, test: Examples) -> Candidate:
    """Return a registered version as its classifier, loaded from the registry, does on another test set.

    Examples that it cannot read count as mistakes. Raises ModelError where it cannot be loaded or reads none of them.
    """
    with resolve_model(f"models:/{name}/{version}") as folder:
        classifier = Classifier.load(folder)
        answers = _answers(classifier, test)
    if not len(answers) or (answers["predicted"] == UNREADABLE).all():
        raise ModelError(f"its classifier reads none of the {len(answers)} test examples")
    return Candidate(
        version=version,
        accuracy=float((answers["actual"] == answers["predicted"]).mean()),
        test_digest=test.digest("test"),
        classes=classifier.classes,
        answers=answers,
        ece=None,
        size=None,
    )


def _answers(classifier: Classifier, test: Examples) -> "pd.DataFrame":
    """Return id, actual and predicted of each test example, all as text."""
    import pandas as pd

    rows: list[tuple[str, str]] = []

    def raws() -> "Iterator[Raw]":
        for example in test.of("test"):
            if not isinstance(example.raw, classifier.task.RAW):
                raise ModelError(f"it is a classifier of kind {classifier.kind}, and the test examples are of another")
            rows.append((example.id, example.label))
            yield example.raw

    predicted = [
        UNREADABLE if isinstance(answer, InputError) else answer.top[0].label
        for answer in classifier.predict_each(raws(), top_k=1)
    ]
    table = pd.DataFrame(rows, columns=["id", "actual"], dtype=str)
    return table.assign(predicted=predicted)


def _source(client: "MlflowClient", record: "ModelVersion") -> str | None:
    """Return what a version was trained on, as params.yaml named it; None where nothing says so.

    Versions of older flowerml lack the tag; their run has the parameter.
    """
    from mlflow.exceptions import MlflowException

    if source := record.tags.get(SOURCE):
        return str(source)
    try:
        recorded = client.get_run(record.run_id).data.params.get("data.source") if record.run_id else None
    except MlflowException:  # the run was deleted
        recorded = None
    return recorded or _source_of_classifier(f"models:/{record.name}/{record.version}")


def _source_of_classifier(address: str) -> str | None:
    try:
        with resolve_model(address) as folder:
            source = Classifier.load(folder).description["parameters"]["data.source"]
    except (ModelError, KeyError, TypeError):
        return None
    return source if isinstance(source, str) else None


def _logged_answers(client: "MlflowClient", run_id: str | None) -> "pd.DataFrame | None":
    return _logged(client, run_id, read_answers)


def _logged(
    client: "MlflowClient", run_id: str | None, read: "Callable[[Path], pd.DataFrame]"
) -> "pd.DataFrame | None":
    """Return the predictions logged with a version; None where they are missing or unreadable."""
    from mlflow.exceptions import MlflowException

    if not run_id:
        return None
    with tempfile.TemporaryDirectory(prefix="flowerml-") as folder:
        try:
            return read(Path(client.download_artifacts(run_id, ANSWERS, folder)))
        except (MlflowException, OSError, ValueError):
            return None


def _classes(tag: str) -> tuple[str, ...]:
    try:
        classes = json.loads(tag)
    except ValueError:  # edited by hand
        return ()
    return tuple(map(str, classes)) if isinstance(classes, list) else ()


def _number(tag: str | None) -> float | None:
    try:
        number = float(tag) if tag else None
    except ValueError:  # edited by hand
        return None
    return number if number is not None and math.isfinite(number) else None
