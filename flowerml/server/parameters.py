"""The parameters of a prediction: those of the query, of a form and of a JSON body, read alike and strictly."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from flowerml.classifier.classifier import TOP_K
from flowerml.core.display import did_you_mean
from flowerml.server.errors import HttpError, shown

NAMES = ("top_k", "explain")
MODEL = "model"
"""A parameter of the query alone: the name of the model, where the path has none."""
MAX_QUERY = 4096
WORDS = {"": True, "1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


@dataclass(frozen=True)
class Parameters:
    """What a request asks for besides its inputs.

    `top_k` may be any whole number here: the classifier says what it takes.
    """

    top_k: int = TOP_K
    explain: bool = False

    @classmethod
    def from_query(cls, query: bytes) -> "Parameters":
        """Return the parameters of a query; raises HttpError 400.

        >>> Parameters.from_query(b"top_k=2&explain=true")
        Parameters(top_k=2, explain=True)
        """
        if not query:
            return DEFAULTS
        return DEFAULTS.with_texts((name, value) for name, value in query_fields(query) if name != MODEL)

    def with_texts(self, fields: Iterable[tuple[str, str]]) -> "Parameters":
        """Return these with the fields of a query or a form; raises HttpError 400."""
        values: dict[str, Any] = {}
        for name, value in fields:
            check_names([name], NAMES)
            if name in values:
                raise HttpError(400, "bad_parameter", f"the parameter {shown(name)} is given twice")
            values[name] = _whole(value) if name == "top_k" else _truth(value)
        return self._with(values)

    def with_json(self, values: Any) -> "Parameters":
        """Return these with the members of a JSON object; raises HttpError 400."""
        if not isinstance(values, dict):
            raise HttpError(400, "bad_parameter", f"expected an object in 'parameters', found {json_type(values)}")
        check_names(values, NAMES)
        for name, value in values.items():
            if type(value) is not (int if name == "top_k" else bool):
                wanted = "a whole number" if name == "top_k" else "true or false"
                code = "bad_top_k" if name == "top_k" else "bad_parameter"
                raise HttpError(400, code, f"{name} must be {wanted}, not {json_type(value)}")
        return self._with(values)

    def _with(self, values: Mapping[str, Any]) -> "Parameters":
        return Parameters(values.get("top_k", self.top_k), values.get("explain", self.explain))


DEFAULTS = Parameters()


def query_fields(query: bytes) -> list[tuple[str, str]]:
    """Return the fields of a query in order; raises HttpError 400 for one that is too long or not UTF-8."""
    try:
        if len(query) > MAX_QUERY:
            raise ValueError
        return parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=20)
    except ValueError:
        raise HttpError(400, "bad_query", f"the query cannot be read; expected {' and '.join(NAMES)}") from None


def check_names(names: Iterable[str], known: tuple[str, ...], *, what: str = "parameter") -> None:
    """Raise HttpError 400 for a name that is not known, with the nearest that is."""
    for name in names:
        if name not in known:
            # difflib's time grows with the square of a name's length.
            question = did_you_mean(name[:40], known)
            raise HttpError(
                400,
                f"unknown_{what}",
                f"unknown {what} {shown(name)}; {question or 'expected ' + ', '.join(known)}",
            )


def json_type(value: Any) -> str:
    """Return what JSON calls a value.

    >>> json_type(None), json_type([1])
    ('null', 'a list')
    """
    if value is None:
        return "null"
    names = {bool: "true or false", int: "a number", float: "a number", str: "a text", list: "a list"}
    return names.get(type(value), "an object")


def _whole(value: str) -> int:
    digits = value.removeprefix("-")
    if digits.isascii() and digits.isdigit() and len(digits) <= 9:
        return int(value)
    raise HttpError(400, "bad_top_k", f"top_k must be a whole number, not {shown(value)}")


def _truth(value: str) -> bool:
    truth = WORDS.get(value.lower())
    if truth is None:
        raise HttpError(400, "bad_parameter", f"explain must be true or false, not {shown(value)}")
    return truth
