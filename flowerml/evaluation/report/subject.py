"""What a report is of."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flowerml.classifier.classifier import Classifier


@dataclass(frozen=True)
class Subject:
    """The heading of a report, and what stands there for the reader to know which model and which data it is of.

    Passwords of addresses are left out of `facts` and `parameters` by whoever shows them.
    """

    title: str
    kind: str
    facts: Mapping[str, str]
    parameters: Mapping[str, Any]


def of_classifier(classifier: "Classifier", *, title: str, model: str, data: str, digest: str | None) -> Subject:
    """What is known of a saved classifier, tested on `data` whose SHA-256 is `digest`."""
    trained = classifier.description["trained"]
    parameters = classifier.description["parameters"]
    facts = {"model": model, "tested on": data}
    if digest is not None:
        facts["SHA-256 of the test data"] = digest
    if "data_digest" in trained:
        facts["SHA-256 of all data it was trained with"] = str(trained["data_digest"])
    network = parameters.get("train.network") or parameters.get("encode.backbone")
    if network:
        facts["network"] = str(network)
    for name, shown in (("best_valid_accuracy", "accuracy on validation"), ("threads", "threads in training")):
        if name in trained:
            value = trained[name]
            facts[shown] = f"{value:.4f}" if isinstance(value, float) else str(value)
    return Subject(title, classifier.kind, facts, parameters)
