"""The JSON form of a text at the endpoint."""

from typing import Any

from flowerml.core.errors import InputError


def from_json(value: Any) -> str:
    """Return the text in a JSON value. Raises InputError `not_a_text` if it is not a string."""
    if not isinstance(value, str):
        raise InputError("not_a_text", f"expected a text, found {'null' if value is None else type(value).__name__}")
    return value


def to_json(raw: str) -> str:
    """Return the text as the endpoint expects it."""
    return raw
