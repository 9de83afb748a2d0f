"""Checks of plain data that a stranger may have written: types, ranges and sizes, declared next to what reads them.

Not pydantic: a served model has only NumPy, ONNX Runtime and Pillow.
"""

import json
import math
from collections.abc import Callable, Collection, Mapping
from typing import Any, NoReturn

from flowerml.core.display import preview_list, printable
from flowerml.core.errors import ModelError

Check = Callable[[Any, str], None]
"""Raise ModelError unless a value (of this dotted name) is as declared."""

MAX_TEXT = 10_000  # characters
MAX_DEPTH = 6
MAX_SHOWN = 60  # characters of a value in a message


def whole(low: int, high: int) -> Check:
    """Return the check of a whole number from `low` to `high`.

    >>> whole(1, 9)(12, "crop")
    Traceback (most recent call last):
    flowerml.core.errors.ModelError: crop: expected a whole number from 1 to 9, found 12
    """

    def check(value: Any, name: str) -> None:
        if type(value) is not int or not low <= value <= high:
            _refuse(name, f"a whole number from {low} to {high}", value)

    return check


def number(low: float, high: float) -> Check:
    """Return the check of a finite number from `low` to `high`."""

    def check(value: Any, name: str) -> None:
        if type(value) not in (int, float) or not low <= value <= high:
            _refuse(name, f"a number from {low:g} to {high:g}", value)

    return check


def text(limit: int = MAX_TEXT) -> Check:
    """Return the check of a text of 1 to `limit` characters."""

    def check(value: Any, name: str) -> None:
        if not isinstance(value, str) or not 0 < len(value) <= limit:
            _refuse(name, f"a text of 1 to {limit:,} characters", value)

    return check


def string(limit: int = MAX_TEXT) -> Check:
    """Return the check of a text of at most `limit` characters, which may be empty."""

    def check(value: Any, name: str) -> None:
        if value != "":
            text(limit)(value, name)

    return check


def flag(value: Any, name: str) -> None:
    """Check that a value is true or false."""
    if not isinstance(value, bool):
        _refuse(name, "true or false", value)


def choice(values: Collection[str]) -> Check:
    """Return the check of one of these texts."""

    def check(value: Any, name: str) -> None:
        if not isinstance(value, str) or value not in values:
            _refuse(name, f"one of {preview_list(list(values), 20)}", value)

    return check


def either(expected: str, *inner: Check) -> Check:
    """Return the check of what at least one of these accepts; `expected` says what that is."""

    def check(value: Any, name: str) -> None:
        for accepts in inner:
            try:
                return accepts(value, name)
            except ModelError:
                continue
        _refuse(name, expected, value)

    return check


def nullable(inner: Check) -> Check:
    """Return the check of null, or of what `inner` accepts."""

    def check(value: Any, name: str) -> None:
        if value is not None:
            inner(value, name)

    return check


def items(inner: Check, low: int, high: int, *, unique: bool = False) -> Check:
    """Return the check of a list of `low` to `high` values that `inner` accepts; of different ones if `unique`."""

    def check(value: Any, name: str) -> None:
        if not isinstance(value, list) or not low <= len(value) <= high:
            _refuse(
                name, f"a list of {low:,} values" if low == high else f"a list of {low:,} to {high:,} values", value
            )
        for item in value:
            inner(item, name)
        if unique and len(set(value)) < len(value):
            raise ModelError(f"{name}: expected different values, found one of them twice")

    return check


def record(required: Mapping[str, Check], optional: Mapping[str, Check] | None = None) -> Check:
    """Return the check of an object with these keys. Further keys are accepted: a later version may write them."""

    def check(value: Any, name: str) -> None:
        if not isinstance(value, dict):
            _refuse(name, "an object", value)
        for key in required:
            if key not in value:
                raise ModelError(f"{_within(name, key)} is missing")
        for key, inner in {**required, **(optional or {})}.items():
            if key in value:
                inner(value[key], _within(name, key))

    return check


def mapping(inner: Check) -> Check:
    """Return the check of an object with any keys, whose values `inner` accepts."""

    def check(value: Any, name: str) -> None:
        if not isinstance(value, dict):
            _refuse(name, "an object", value)
        for key, item in value.items():
            inner(item, _within(name, key))

    return check


def plain(value: Any, name: str, *, depth: int = MAX_DEPTH) -> None:
    """Check any JSON value: finite numbers, and at most MAX_DEPTH objects and lists within each other."""
    if depth < 0:
        raise ModelError(f"{name}: expected at most {MAX_DEPTH} objects and lists within each other")
    if isinstance(value, float) and not math.isfinite(value):
        _refuse(name, "a finite number", value)
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        plain(item, name, depth=depth - 1)


def parse(content: bytes) -> Any:
    """Return the value of UTF-8 JSON; raises ValueError.

    Stricter than `json.loads`: NaN, infinity, a key that is there twice and lone surrogates, which nothing can print,
    are refused, and so is what is nested too deeply.
    """
    text = content.decode("utf-8")
    try:
        value = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_unique_keys)
        if "\\u" in text:  # the only way to write a lone surrogate
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return value


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError("a key is there twice")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a finite number")


def _within(name: str, key: str) -> str:
    return printable(f"{name}.{key}" if name else key, 2 * MAX_SHOWN)


def _refuse(name: str, expected: str, value: Any) -> NoReturn:
    if isinstance(value, dict | list):
        shown = f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value):,}"
    else:
        shown = printable(json.dumps(value, ensure_ascii=False) if not isinstance(value, int) else _digits(value), 60)
    raise ModelError(f"{name or 'the file'}: expected {expected}, found {shown}")


def _digits(value: int) -> str:
    return str(value).lower() if abs(value) < 10**20 else "a larger number"
