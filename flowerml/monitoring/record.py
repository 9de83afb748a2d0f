"""The record of one answered input: what the prediction log holds of it, and never the input itself."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flowerml.classifier.prediction import Prediction
from flowerml.core.errors import InputError

Properties = Mapping[str, float | str]


@dataclass(frozen=True, kw_only=True)
class Record:
    """An answer with numbers of its input.

    `time` is in seconds since 1970, `digest` the SHA-256 of the raw input in hex. `top` are (label, probability), best
    first. `properties` are those that the task measures, `features` the classifier's own, by `Classifier.features`.
    An input that could not be read has the code of its `error`, and neither classes nor features.
    """

    time: float
    request: str
    model: str
    version: str | None
    digest: str
    top: tuple[tuple[str, float], ...] = ()
    known: bool = False
    out_of_distribution: float | None = None
    properties: Properties = field(default_factory=dict)
    features: tuple[float, ...] = ()
    error: str | None = None

    @classmethod
    def of(
        cls,
        raw: bytes | str | None,
        answer: Prediction | InputError,
        *,
        time: float,
        request: str,
        model: Mapping[str, str | None],
        properties: Properties | None = None,
    ) -> "Record":
        """Return the record of an answer; `model` is {"name", "version"}, and `raw` None where no input was read."""
        known: dict[str, Any] = {}
        if isinstance(answer, InputError):
            known = {"error": answer.code}
        else:
            known = {
                "top": tuple((candidate.label, candidate.probability) for candidate in answer.top),
                "known": answer.known,
                "out_of_distribution": answer.out_of_distribution,
                "features": answer.features,
            }
        return cls(
            time=time,
            request=request,
            model=str(model["name"]),
            version=model["version"],
            digest=digest(raw),
            properties=properties or {},
            **known,
        )


def digest(raw: bytes | str | None) -> str:
    """Return the SHA-256 of a raw input in hex, of a text's UTF-8; empty where there is none.

    >>> digest("rose")[:12]
    '618d663af0f1'
    """
    if raw is None:
        return ""
    return hashlib.sha256(content_of(raw)).hexdigest()


def content_of(raw: bytes | str) -> bytes:
    """Return a raw input as bytes; a text as UTF-8, in which a lone surrogate is kept."""
    return raw if isinstance(raw, bytes) else raw.encode("utf-8", "surrogatepass")
