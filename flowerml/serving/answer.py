"""The wire format of a served model: its requests and its answers, written and read here and nowhere else.

A request is MLflow's `dataframe_split` with one column. The reply holds an answer for each row, always with the same
keys, so that a table or Spark can hold them:

    {"top": [{"label", "name", "probability"}, …], "known": true, "out_of_distribution": 0.2, "reason": "",
     "error": {"code": null, "message": null}, "model": {"name": "flowers", "version": "3"},
     "explanation": {"label": null, "heat_map": null, "words": []}}

A row that cannot be read has a code and a message in `error`, an empty `top`, and is not `known`. `reason` says why an
answer is not known. `explanation` is filled on request: `heat_map` (a PNG in base64) for a picture, `words`
[{"text", "weight"}, …] for a text. No object is null, only their members: MLflow 3.17 fails for an object that is null
where Spark expects one, and makes 'nan' of a null string beside them, hence the empty reason.

Earlier models left out what was empty; their answers are read as well.
"""

import base64
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

from flowerml.classifier.prediction import ClassProbability, Prediction
from flowerml.core.errors import InputError, ModelError
from flowerml.tasks.base import Explanation

CERTAINTY = 0.35  # of the way from guessing: in drawn and composed data, answers below it are as often wrong as right
COMPLETE = 0.999  # the sum of the probabilities of all classes; those of the best few alone stay below


@dataclass(frozen=True, kw_only=True)
class Scores:
    """The most probable classes, best first, and whether the model is confident of the first ("known").

    `known` is None where the model was exported before there was a threshold, and `out_of_distribution` (0 to 1: how
    unlike the training examples the input is; 0.5 is the threshold) where it has no detector. `reason` says why `known`
    is False.

    >>> scores = Scores.from_json({"top": [{"label": "1", "name": "rose", "probability": 0.9}], "known": True})
    >>> scores.probabilities, scores.names, scores.known
    ({'1': 0.9}, {'1': 'rose'}, True)
    """

    top: tuple[ClassProbability, ...]
    known: bool | None = None
    out_of_distribution: float | None = None
    reason: str | None = None

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Return the answer to one row as served models give it; raises ModelError where it is none."""
        try:
            return cls(**cls._fields(value))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ModelError(f"this is not an answer of a flowerml model ({type(error).__name__})") from None

    @classmethod
    def _fields(cls, value: Any) -> dict[str, Any]:
        top = tuple(_class_probability(candidate) for candidate in value["top"])
        if not top:
            raise ValueError("expected at least one class")
        strange, reason = value.get("out_of_distribution"), value.get("reason")
        return {
            "top": top,
            "known": _known(value),
            "out_of_distribution": None if strange is None else _share(strange),
            "reason": str(reason) if reason else None,
        }

    @cached_property
    def probabilities(self) -> dict[str, float]:
        """The probability of each class, by label."""
        return {candidate.label: candidate.probability for candidate in self.top}

    @cached_property
    def names(self) -> dict[str, str]:
        """The name of each class, by label."""
        return {candidate.label: candidate.name for candidate in self.top}


@dataclass(frozen=True, kw_only=True)
class Answer(Scores):
    """Scores with the model that gave them and, on request, the evidence for the class `explained_label`."""

    model: str
    version: str | None
    explained_label: str | None = None
    heat_map: bytes | None = None
    """A PNG."""
    words: tuple[tuple[str, float], ...] | None = None
    """The whole text in parts, each with its weight; positive weights speak for the class."""

    @classmethod
    def _fields(cls, value: Any) -> dict[str, Any]:
        model, version = value["model"]["name"], value["model"]["version"]
        explanation = value.get("explanation") or {}
        label, heat_map, words = (explanation.get(key) for key in ("label", "heat_map", "words"))
        return {
            **super()._fields(value),
            "model": str(model),
            "version": None if version is None else str(version),
            "explained_label": None if label is None else str(label),
            "heat_map": None if heat_map is None else _png(heat_map),
            "words": tuple((str(word["text"]), _finite(word["weight"])) for word in words) if words else None,
        }

    @property
    def is_complete(self) -> bool:
        """Return whether `top` holds all classes, and not only the best."""
        return sum(candidate.probability for candidate in self.top) > COMPLETE

    def poles(self) -> tuple[ClassProbability, ClassProbability] | None:
        """Return both classes of a model of two, in the order of their labels (`neg` before `pos`); else None."""
        if len(self.top) != 2 or not self.is_complete:
            return None
        first, second = sorted(self.top, key=lambda candidate: candidate.label)
        return first, second

    def is_unsure(self, threshold: float | None) -> bool:
        """Return whether the best class is less probable than `threshold`; with None, what the model itself says.

        An older model says nothing: it is unsure below 0.35 of the way from an even guess (1 / number of classes) to
        certainty. Where `top` holds only the best classes their number is not known, and an even guess counts as 0.
        """
        if threshold is None and self.known is not None:
            return not self.known
        guess = 1 / len(self.top) if self.is_complete and len(self.top) > 1 else 0.0
        return self.top[0].probability < (guess + CERTAINTY * (1 - guess) if threshold is None else threshold)


def request_json(column: str, rows: Sequence[Any], params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body of a request for these rows, each as the task's `to_json` gives it."""
    frame = {"columns": [column], "data": [[row] for row in rows]}
    return {"dataframe_split": frame, **({"params": dict(params)} if params else {})}


def answer_json(
    prediction: Prediction, model: Mapping[str, str | None], explanation: Explanation | None = None
) -> dict[str, Any]:
    """Return the answer to one row; `model` is {"name", "version"}."""
    evidence = {} if explanation is None else explanation.to_json()
    return {
        # Not `asdict`, which copies deeply: 15 µs more, where a text takes 500 in all.
        "top": [
            {"label": candidate.label, "name": candidate.name, "probability": candidate.probability}
            for candidate in prediction.top
        ],
        "known": prediction.known,
        "out_of_distribution": prediction.out_of_distribution,
        "reason": prediction.reason or "",
        "error": {"code": None, "message": None},
        "model": dict(model),
        "explanation": {
            "label": evidence.get("label"),
            "heat_map": evidence.get("heat_map"),
            "words": evidence.get("words", []),
        },
    }


def error_json(error: InputError, model: Mapping[str, str | None]) -> dict[str, Any]:
    """Return the answer to a row that cannot be read.

    >>> error_json(InputError("empty_text", "the text is empty"), {"name": "reviews", "version": "1"})["error"]
    {'code': 'empty_text', 'message': 'the text is empty'}
    """
    nothing = Prediction((), known=False)
    return answer_json(nothing, model) | {"error": {"code": error.code, "message": error.message}}


def parse_reply(content: bytes, count: int) -> list[dict[str, Any]]:
    """Return the answers to `count` rows, each to be read further; raises ModelError where these are none."""
    try:
        answers = json.loads(content)["predictions"]
    except (ValueError, KeyError, TypeError, RecursionError):
        answers = None
    if (
        not isinstance(answers, list)
        or len(answers) != count
        or not all(isinstance(answer, dict) for answer in answers)
    ):
        raise ModelError(f"this is not a reply of a flowerml model to {count} {'row' if count == 1 else 'rows'}")
    return answers


def parse_error(answer: Mapping[str, Any]) -> InputError | None:
    """Return the error in an answer, None where there is none; raises ModelError for a malformed one."""
    if (error := answer.get("error")) is None:  # of an earlier model
        return None
    try:
        code, message = error["code"], error["message"]
    except (KeyError, TypeError):
        raise ModelError("this is not an error of a flowerml model") from None
    return None if code is None else InputError(str(code), str(message))


def _class_probability(value: Any) -> ClassProbability:
    return ClassProbability(str(value["label"]), str(value["name"]), _share(value["probability"]))


def _known(answer: Mapping[str, Any]) -> bool | None:
    known = answer.get("known")
    if not (known is None or isinstance(known, bool)):
        raise ValueError(f"expected `known` to be true or false, found {type(known).__name__}")
    return known


def _share(value: Any) -> float:
    if not 0 <= (share := _finite(value)) <= 1:
        raise ValueError("expected a number from 0 to 1")
    return share


def _finite(value: Any) -> float:
    if not math.isfinite(number := float(value)):
        raise ValueError("expected a finite number")
    return number


def _png(value: str) -> bytes:
    return base64.b64decode(value, validate=True)
