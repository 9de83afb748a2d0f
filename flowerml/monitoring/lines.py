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

MAX_LINE = 2**16  # bytes; a usual line has 400 to 800
MAX_CLASSES = 5  # of those that the request asked for
DIGITS = 6  # significant ones

_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode
_DIGEST = re.compile(r"[0-9a-f]{64}|")
_LATEST = 1e11  # seconds since 1970, in the year 5138
_finite = schema.number(-1e300, 1e300)
_share = schema.number(0, 1)
_name = schema.text(1000)
_REQUIRED = {"time": schema.number(0, _LATEST), "model": _name}
_OPTIONAL = {
    "request": schema.string(1000),
    "version": schema.nullable(_name),
    "known": schema.flag,
    "out_of_distribution": schema.nullable(_share),
    "features": schema.items(_finite, 0, 1000),
    "error": schema.nullable(_name),
}


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
    _check(value, "")
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


def _candidate(value: Any, name: str) -> None:
    """Check that a value is [label, probability]."""
    if not isinstance(value, list) or len(value) != 2:
        raise ModelError(f"{name}: expected a label and a probability")
    _name(value[0], name)
    _share(value[1], name)


def _properties(value: Any, name: str) -> None:
    if not isinstance(value, dict) or len(value) > 1000:
        raise ModelError(f"{name}: expected an object of at most 1,000 properties")
    for key, item in value.items():
        _name(key, name)
        if not isinstance(item, str):
            _finite(item, name)
        elif len(item) > 1000:
            raise ModelError(f"{name}: expected a text of at most 1,000 characters")


def _digest(value: Any, name: str) -> None:
    if not isinstance(value, str) or not _DIGEST.fullmatch(value):
        raise ModelError(f"{name}: expected a SHA-256 of 64 hexadecimal digits")


_check = schema.record(
    _REQUIRED,
    {**_OPTIONAL, "digest": _digest, "top": schema.items(_candidate, 0, 1000), "properties": _properties},
)
