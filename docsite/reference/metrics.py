"""docs/reference/metrics.md: what metrics.json, MLflow and `/metrics` hold, named by the code that computes them."""

import os

import numpy as np

from docsite.reference.tables import COMMENT, code, join, table
from flowerml.evaluation.metrics import BootstrapMetrics
from flowerml.evaluation.report.wording import meaning, title

CLASSES = ["the first class", "the second class"]


def page() -> str:
    """Return the page."""
    rows = [[code(name), title(name), _meaning(name)] for name in names()]
    return join(
        COMMENT,
        "# Metrics",
        "## Of an evaluation",
        "`reports/NAME/metrics.json` and the MLflow run of a version hold these, measured on the test split. "
        "`intervals.json` has the 95 % limits of each, by a bootstrap of `evaluate.resamples` draws.",
        table(["metric", "in the report", "meaning"], rows),
        "With `train.repeats` above 1, `accuracy_mean`, `accuracy_std` and `repeats` are those of all trainings.",
        "## Of a server",
        "`GET /metrics` of `flowerml serve`, for Prometheus:",
        table(["metric", "kind", "labels", "meaning"], _served()),
    )


def names() -> list[str]:
    """Return the metrics of an evaluation, those of two and of many classes."""
    found: dict[str, None] = {}
    for classes in (2, 6):
        probabilities = np.eye(classes) * 0.5 + 0.5 / classes
        known = np.ones(classes, dtype=bool)
        targets = np.arange(classes)
        metrics = BootstrapMetrics(probabilities, targets, top_k=5, uncalibrated=probabilities, known=known)
        found |= dict.fromkeys(metrics.of_sample())
    return list(found)


def _meaning(name: str) -> str:
    text = meaning(name, classes=CLASSES, calibration=None)
    if name.startswith("top_"):
        return f"{text} The number is `evaluate.top_k`."
    if name == "roc_auc":
        return f"{text} For two classes."
    if name == "loss":
        return text.replace("an even guess has", "an even guess between two classes has")
    return text


def _served() -> list[list[str]]:
    """Return name, kind, labels and meaning of each metric that a server declares."""
    from prometheus_client.metrics import MetricWrapperBase

    from flowerml.server.metrics import FOLDER_VARIABLE, Metrics

    assert FOLDER_VARIABLE not in os.environ, "a server's workers share their metrics there"
    declared = [metric for metric in vars(Metrics()).values() if isinstance(metric, MetricWrapperBase)]
    rows = []
    for metric in declared:
        (family,) = metric.describe()
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = ", ".join(map(code, metric._labelnames))  # prometheus_client has no public name for them
        rows.append([code(name), family.type, labels, f"{family.documentation}."])
    return rows
