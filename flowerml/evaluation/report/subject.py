"""The subject of a report: which model and which data it is about."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from flowerml.classifier.classifier import Classifier


@dataclass(frozen=True)
class Subject:
    """The title of a report, and the facts and parameters that identify the model and the data.

    Passwords in URLs stay in `facts` and `parameters`; whoever displays these removes them.
    """

    title: str
    kind: str
    facts: Mapping[str, str]
    parameters: Mapping[str, Any]

    @classmethod
    def from_classifier(cls, classifier: Classifier, *, title: str, model: str, data: str, digest: str | None) -> Self:
        """Return the subject of a saved classifier evaluated on `data`, whose SHA-256 is `digest`."""
        trained = classifier.description["trained"]
        parameters = classifier.description["parameters"]
        facts = {"model": model, "tested on": data}
        if digest is not None:
            facts["SHA-256 of the test data"] = digest
        if "data_digest" in trained:
            facts["SHA-256 of all data it was trained with"] = str(trained["data_digest"])
        network = parameters.get("encode.backbone")
        if "train.network" in parameters or isinstance(network, list) or parameters.get("encode.trainable_blocks"):
            network = classifier.task.describe_network(classifier.description["encoder"], parameters)
        if network:
            facts["network"] = str(network)
        if "best_valid_accuracy" in trained:
            facts["validation accuracy"] = f"{trained['best_valid_accuracy']:.4f}"
        if "threads" in trained:
            facts["training threads"] = str(trained["threads"])
        return cls(title, classifier.kind, facts, parameters)
