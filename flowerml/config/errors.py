"""pydantic's errors as lines about params.yaml: the parameter, what was expected, what was found, and a suggestion.

pydantic's own messages name neither the file nor the dotted name, and suggest no spelling.
"""

import json
from collections.abc import Iterable, Iterator

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from flowerml.core.display import closest, did_you_mean


def explain(kind: type[BaseModel], problems: list[ErrorDetails], name: str) -> Iterator[str]:
    """Yield one line for each problem. A misspelt name is reported once, not also as missing."""
    intended = {(*p["loc"][:-1], _close(p["loc"][-1], _siblings(kind, p))) for p in problems if _unknown(p)}
    for problem in problems:
        if not (problem["type"] == "missing" and problem["loc"] in intended):
            yield _line(kind, problem, name)


def _line(kind: type[BaseModel], problem: ErrorDetails, name: str) -> str:
    where = ".".join([name, *(str(part) for part in problem["loc"] if part not in ("range", "choices"))])
    if _unknown(problem):
        return f"{where}: unknown name{_hint(kind, problem)}"
    if problem["type"] == "missing":
        return f"{where}: missing; give it a value"
    if problem["type"] == "value_error":
        return f"{where}: {problem['msg'].removeprefix('Value error, ')}"
    message = lower_first(problem["msg"]).replace("input should be", "expected")
    return f"{where}: {message}, found {json.dumps(problem['input'], default=str)}"


def _hint(kind: type[BaseModel], problem: ErrorDetails) -> str:
    """Return the end of a message about an unknown name, which may be one of another section."""
    *parents, name = map(str, problem["loc"])
    elsewhere = [known for known in _dotted(kind) if known.rpartition(".")[2] == name]
    here_first = sorted(elsewhere, key=lambda known: known.split(".")[: len(parents)] != parents)
    return f"; did you mean {here_first[0]!r}?" if here_first else suggest(name, _siblings(kind, problem))


def _dotted(kind: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yield the names of all parameters of a section and of its parts."""
    for name, field in kind.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _dotted(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def _unknown(problem: ErrorDetails) -> bool:
    return problem["type"] == "extra_forbidden"


def _siblings(kind: type[BaseModel], problem: ErrorDetails) -> list[str]:
    """Return the known names of the section that a problem is in."""
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
    """Return the end of a message about an unknown name: the closest known name, or else all of them."""
    expected = f"known are {', '.join(map(str, known))}"
    return f"; {did_you_mean(name, known) or expected}"


def _close(name: object, known: Iterable[object]) -> str | None:
    return next(iter(closest(name, known)), None)


def lower_first(message: str) -> str:
    """Return the message with its first letter in lower case, to follow a colon."""
    return message[:1].lower() + message[1:]
