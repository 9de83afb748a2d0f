"""What a model said of one input, in the one form in which a classifier here and a served one say it."""

import base64
import math
from dataclasses import dataclass
from typing import Any, Self

from flowerml.classifier.calibration import parse_known
from flowerml.classifier.classifier import ClassProbability
from flowerml.core.errors import ModelError

CERTAINTY = 0.35  # of the way from guessing: in drawn and composed data, answers below it are as often wrong as right


@dataclass(frozen=True)
class Answer:
    """The best classes, best first; which model said so; and what spoke for `explained` (a label), where it tells.

    `known`: whether the model itself holds the best for probable enough; None where it is of an earlier version.
    """

    top: tuple[ClassProbability, ...]
    model: str
    version: str | None
    known: bool | None = None
    explained: str | None = None
    heat_map: bytes | None = None
    words: tuple[tuple[str, float], ...] | None = None

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """An answer as served models give it; raises ModelError where it is none."""
        try:
            top = tuple(_candidate(one) for one in value["top"])
            model, version = value["model"]["name"], value["model"]["version"]
            explanation = value.get("explanation") or {}
            words = explanation.get("words")
            if not top:
                raise ValueError("no classes")
            return cls(
                top=top,
                model=str(model),
                version=None if version is None else str(version),
                known=parse_known(value),
                explained=str(explanation["label"]) if explanation else None,
                heat_map=_png(explanation["heat_map"]) if "heat_map" in explanation else None,
                words=tuple((str(word["text"]), _finite(word["weight"])) for word in words) if words else None,
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ModelError(f"this is not an answer of a flowerml model ({type(error).__name__})") from None

    @property
    def is_whole(self) -> bool:
        """Whether all classes are in `top`, and not only the best."""
        return sum(candidate.probability for candidate in self.top) > 0.999

    def poles(self) -> tuple[ClassProbability, ClassProbability] | None:
        """Of a model of two classes both, in the order of their labels (`neg` before `pos`); None for any other."""
        if len(self.top) != 2 or not self.is_whole:
            return None
        first, second = sorted(self.top, key=lambda candidate: candidate.label)
        return first, second

    def is_unsure(self, threshold: float | None) -> bool:
        """Whether the best class is less probable than `threshold`.

        None: whether the model says that it does not know it. Where it says nothing of that: less than 0.35 of the way
        from an even guess (1 / number of classes) to certainty. How many classes there are is known only where all are
        in `top`; where more are, an even guess counts as 0.
        """
        if threshold is None and self.known is not None:
            return not self.known
        guess = 1 / len(self.top) if self.is_whole and len(self.top) > 1 else 0.0
        return self.top[0].probability < (guess + CERTAINTY * (1 - guess) if threshold is None else threshold)


def _candidate(value: Any) -> ClassProbability:
    probability = _finite(value["probability"])
    if not 0 <= probability <= 1:
        raise ValueError("not a probability")
    return ClassProbability(str(value["label"]), str(value["name"]), probability)


def _finite(value: Any) -> float:
    if not math.isfinite(number := float(value)):
        raise ValueError("not a number")
    return number


def _png(value: str) -> bytes:
    return base64.b64decode(value, validate=True)
