"""How texts travel to an endpoint as JSON."""

from typing import Any

from flowerml.core.errors import InputError


def from_json(value: Any) -> str:
    """What an endpoint was sent as a text; raises InputError."""
    if not isinstance(value, str):
        raise InputError("not_a_text", f"expected a text, found {'null' if value is None else type(value).__name__}")
    return value


def to_json(raw: str) -> str:
    """A text as an endpoint takes it."""
    return raw
