"""The answers to a version's input example, stored with it: whoever loads the version checks that it still gives them.

A later flowerml, or another ONNX Runtime, might read a version's files and answer otherwise than those that made it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from flowerml.core import files, schema
from flowerml.core.errors import InputError, ModelError
from flowerml.core.regular import read_regular
from flowerml.serving.answer import Scores, parse_error
from flowerml.serving.answering import Answering

if TYPE_CHECKING:
    from flowerml.classifier.classifier import Classifier

FILE = "answers.json"
ARTIFACT = f"artifacts/{FILE}"  # where MLflow puts it in a model's folder
MAX_BYTES = 64 * 2**20  # an example may be a photograph
MAX_EXAMPLES = 100
TOLERANCE = 1e-3  # of a probability: other processors round otherwise
STRANGE_TOLERANCE = 1e-2  # of the score of being out of distribution

SCHEMA = schema.record(
    {
        "inputs": schema.items(schema.plain, 1, MAX_EXAMPLES),
        "answers": schema.items(schema.mapping(schema.plain), 1, MAX_EXAMPLES),
    }
)


@dataclass(frozen=True)
class StoredExample:
    """Inputs, as JSON values, and the answer to each: its scores of all classes, or the code of its error."""

    inputs: Sequence[Any]
    answers: Sequence[Scores | str]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return the stored example in a file; raises ModelError where it is damaged."""
        try:
            content = schema.parse(read_regular(path, limit=MAX_BYTES))
            SCHEMA(content, "")
            answers = [_parse(answer) for answer in content["answers"]]
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise ModelError(f"{FILE} cannot be read ({reason}); register the version again") from None
        if len(answers) != len(content["inputs"]):
            raise ModelError(f"{FILE} has {len(content['inputs'])} inputs and {len(answers)} answers")
        return cls(tuple(content["inputs"]), tuple(answers))

    def disagreement(self, classifier: "Classifier") -> str | None:
        """Return in a few words how a classifier answers the inputs otherwise; None where it gives the same answers."""
        for stored, answer in zip(self.answers, map(_parse, answers(classifier, self.inputs)), strict=True):
            if reason := _difference(stored, answer):
                return reason
        return None


def stored_example(folder: Path) -> StoredExample | None:
    """Return what is stored in the folder of a logged model; None where it was logged without. Raises ModelError."""
    path = folder / ARTIFACT
    return StoredExample.read(path) if path.exists() else None


def write(path: Path, classifier: "Classifier", inputs: Sequence[Any]) -> None:
    """Write the answers of a classifier to inputs, which are JSON values, beside them."""
    files.write_json(path, {"inputs": list(inputs), "answers": answers(classifier, inputs)})


def answers(classifier: "Classifier", inputs: Sequence[Any]) -> list[dict[str, Any]]:
    """Return the answers of a classifier to JSON values, each with all classes."""
    nameless: dict[str, str | None] = {"name": "", "version": None}
    return Answering(classifier, nameless).answers(inputs, len(classifier.classes), explain=False)


def _parse(answer: Any) -> Scores | str:
    error = parse_error(answer)
    return error.code if isinstance(error, InputError) else Scores.from_json(answer)


def _difference(stored: Scores | str, answer: Scores | str) -> str | None:
    if isinstance(stored, str) or isinstance(answer, str):
        return None if stored == answer else f"expected {_outcome(stored)}, found {_outcome(answer)}"
    if stored.probabilities.keys() != answer.probabilities.keys():
        return "it knows other classes"
    for label, probability in stored.probabilities.items():
        if abs(probability - answer.probabilities[label]) > TOLERANCE:
            return f"expected a probability of {probability:.4f}, found {answer.probabilities[label]:.4f}"
    expected, found = stored.out_of_distribution, answer.out_of_distribution
    if expected is None or found is None:
        return None if expected is found else "only one of both tells whether an input is out of distribution"
    if abs(expected - found) > STRANGE_TOLERANCE:
        return f"expected it to be out of distribution by {expected:.3f}, found {found:.3f}"
    return None


def _outcome(answer: Scores | str) -> str:
    return f"the error {answer}" if isinstance(answer, str) else "probabilities"
