"""A record as one line of JSON, written and read here and nowhere else.

    {"time": 1764400000.123, "request": "5f…", "model": "flowers", "version": "3", "digest": "9c…", "known": true,
     "top": [["1", 0.93], …], "out_of_distribution": 0.2, "properties": {"brightness": 0.41, …}, "features": [0.7, …]}

What is empty is left out, so that an input that could not be read has few keys and its "error". A reader skips keys
that it does not know: a later version may write them.
"""

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from flowerml.core import schema
from flowerml.core.errors import ModelError
from flowerml.monitoring.record import Properties, Record

BEGIN = b'{"time":'
MAX_LINE = 2**16  # bytes; a usual line has 400 to 800
MAX_NAME = 1000  # characters
MAX_ITEMS = 1000
MAX_CLASSES = 5  # of those that the request asked for
DIGITS = 6  # significant ones

_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode
_DIGEST = re.compile(r"[0-9a-f]{64}|")
_TIME = re.compile(re.escape(BEGIN) + rb"([0-9]{1,11}(?:\.[0-9]{1,9})?),")
_LATEST = 1e11  # seconds since 1970, in the year 5138
_LARGEST = 1e300
_name = schema.text(MAX_NAME)
_REQUIRED = {"time", "model"}


def to_line(record: Record) -> bytes:
    """Return a record as a line of UTF-8 JSON with its line end; numbers have DIGITS significant digits.

    Properties and features that are not finite are left out, the latter all together. Raises ValueError for a record
    that would take more than MAX_LINE bytes.

    >>> to_line(Record(time=1.5, request="a", model="flowers", version="3", digest="", error="empty_text"))
    b'{"time":1.5,"request":"a","model":"flowers","version":"3","known":false,"error":"empty_text"}\\n'
    """
    strangeness = record.out_of_distribution
    value = {
        "time": round(record.time, 3),
        "request": record.request,
        "model": record.model,
        "version": record.version,
        "digest": record.digest,
        "known": record.known,
        "top": [[label, rounded(probability)] for label, probability in record.top[:MAX_CLASSES]],
        "out_of_distribution": rounded(strangeness)
        if (strangeness := record.out_of_distribution) is not None
        else None,
        "properties": _finite_properties(record.properties),
        "features": [rounded(number) for number in record.features] if all(map(math.isfinite, record.features)) else [],
        "error": record.error,
    }
    kept = {key: item for key, item in value.items() if item not in (None, "", [], {})}
    line = _json(kept).encode("utf-8", "replace")
    if len(line) >= MAX_LINE:
        raise ValueError(f"expected a record of at most {MAX_LINE:,} bytes, found {len(line):,}")
    return line + b"\n"


def from_line(line: bytes) -> Record:
    """Return the record of a line; raises ModelError where it is none, whatever a stranger may have written."""
    if len(line) > MAX_LINE:
        raise ModelError(f"the line: expected at most {MAX_LINE:,} bytes")
    try:
        value = schema.parse(line)
    except ValueError as error:
        raise ModelError(f"the line: expected JSON ({type(error).__name__})") from None
    _check(value)
    return Record(
        time=float(value["time"]),
        request=value.get("request", ""),
        model=value["model"],
        version=value.get("version"),
        digest=value.get("digest", ""),
        top=tuple((label, float(probability)) for label, probability in value.get("top", ())),
        known=value.get("known", False),
        out_of_distribution=value.get("out_of_distribution"),
        properties={
            name: item if isinstance(item, str) else float(item) for name, item in value.get("properties", {}).items()
        },
        features=tuple(float(number) for number in value.get("features", ())),
        error=value.get("error"),
    )


def time_of(line: bytes) -> float | None:
    """Return the time of a line by its first bytes, without reading the rest; None where they do not tell.

    >>> time_of(b'{"time":1.5,"request":"a')
    1.5
    """
    match = _TIME.match(line)
    return None if match is None else float(match[1])


def rounded(number: float) -> float:
    """Return a number with DIGITS significant digits, as the log holds it.

    >>> rounded(0.123456789)
    0.123457
    """
    return float(f"{number:.{DIGITS}g}")


def _finite_properties(properties: Properties) -> Mapping[str, float | str]:
    return {
        name: item if isinstance(item, str) else rounded(item)
        for name, item in properties.items()
        if isinstance(item, str) or math.isfinite(item)
    }


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and -_LARGEST <= value <= _LARGEST


def _is_name(value: Any) -> bool:
    return type(value) is str and 0 < len(value) <= MAX_NAME


# Checks of whole lists: a check of each number by its own name takes several times as long, and logs have many.
def _features(value: Any, name: str) -> None:
    if type(value) is not list or len(value) > MAX_ITEMS or not all(map(_is_number, value)):
        raise ModelError(f"{name}: expected a list of at most {MAX_ITEMS:,} numbers")


def _top(value: Any, name: str) -> None:
    if (
        type(value) is not list
        or len(value) > MAX_ITEMS
        or not all(type(pair) is list and len(pair) == 2 for pair in value)
        or not all(_is_name(label) and _is_number(share) and 0 <= share <= 1 for label, share in value)
    ):
        raise ModelError(f"{name}: expected a list of at most {MAX_ITEMS:,} labels with their probabilities")


def _properties(value: Any, name: str) -> None:
    if (
        type(value) is not dict
        or len(value) > MAX_ITEMS
        or not all(map(_is_name, value))
        or not all(_is_number(item) or _is_name(item) for item in value.values())
    ):
        raise ModelError(f"{name}: expected an object of at most {MAX_ITEMS:,} numbers and words")


def _digest(value: Any, name: str) -> None:
    if type(value) is not str or not _DIGEST.fullmatch(value):
        raise ModelError(f"{name}: expected a SHA-256 of 64 hexadecimal digits")


_CHECKS: Mapping[str, schema.Check] = {
    "time": schema.number(0, _LATEST),
    "model": _name,
    "request": schema.string(MAX_NAME),
    "version": schema.nullable(_name),
    "digest": _digest,
    "known": schema.flag,
    "top": _top,
    "out_of_distribution": schema.nullable(schema.number(0, 1)),
    "properties": _properties,
    "features": _features,
    "error": schema.nullable(_name),
}


def _check(value: Any) -> None:
    """Raise ModelError unless a value is a record; `schema.record` takes three times as long."""
    if type(value) is not dict or not value.keys() >= _REQUIRED:
        raise ModelError("the line: expected an object with a time and a model")
    for key in _CHECKS.keys() & value.keys():
        _CHECKS[key](value[key], key)
