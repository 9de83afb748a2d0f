"""The JSON form of a text at the endpoint."""

from typing import Any

from flowerml.core.errors import InputError

LARGE_CHARACTERS = 2**17  # such a text takes 20 ms and more where a short one takes 0.5


def from_json(value: Any) -> str:
    """Return the text in a JSON value. Raises InputError `not_a_text` if it is not a string."""
    if not isinstance(value, str):
        raise InputError("not_a_text", f"expected a text, found {'null' if value is None else type(value).__name__}")
    return value


def to_json(raw: str) -> str:
    """Return the text as the endpoint expects it."""
    return raw


def is_large(raw: str) -> bool:
    """Return whether a text has more than LARGE_CHARACTERS."""
    return len(raw) > LARGE_CHARACTERS
