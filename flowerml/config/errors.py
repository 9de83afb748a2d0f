"""Errors of pydantic as lines about params.yaml: where, what was expected, what was found, and what may be meant.

pydantic's own messages name neither the file nor the parameter by its dotted name, and suggest no spelling.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import BaseModel

from flowerml.core.display import closest, did_you_mean


def explain(kind: type[BaseModel], problems: list[Any], name: str) -> Iterator[str]:
    """Yield one line for each problem; a name that is missing because it is misspelt is reported once."""
    meant = {(*p["loc"][:-1], _close(p["loc"][-1], _siblings(kind, p))) for p in problems if _unknown(p)}
    for problem in problems:
        if not (problem["type"] == "missing" and problem["loc"] in meant):
            yield _line(kind, problem, name)


def _line(kind: type[BaseModel], problem: Any, name: str) -> str:
    where = ".".join([name, *(str(part) for part in problem["loc"] if part not in ("range", "choices"))])
    if _unknown(problem):
        return f"{where}: unknown name{suggest(problem['loc'][-1], _siblings(kind, problem))}"
    if problem["type"] == "missing":
        return f"{where}: missing; give it a value"
    if problem["type"] == "value_error":
        return f"{where}: {problem['msg'].removeprefix('Value error, ')}"
    message = lower_first(problem["msg"]).replace("input should be", "expected")
    return f"{where}: {message}, found {json.dumps(problem['input'], default=str)}"


def _unknown(problem: Any) -> bool:
    return bool(problem["type"] == "extra_forbidden")


def _siblings(kind: type[BaseModel], problem: Any) -> list[str]:
    """Return the names that are known beside the one a problem is about."""
    if "range" in problem["loc"]:
        return ["low", "high", "log"]
    return _fields(kind, [str(part) for part in problem["loc"][:-1]])


def _fields(kind: type[BaseModel], location: list[str]) -> list[str]:
    for part in location:
        inner = kind.model_fields[part].annotation if part in kind.model_fields else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return []
        kind = inner
    return list(kind.model_fields)


def suggest(name: object, known: Iterable[object]) -> str:
    expected = f"known are {', '.join(map(str, known))}"
    return f"; {did_you_mean(name, known) or expected}"


def _close(name: object, known: Iterable[object]) -> str | None:
    return next(iter(closest(name, known)), None)


def lower_first(message: str) -> str:
    return message[:1].lower() + message[1:]
