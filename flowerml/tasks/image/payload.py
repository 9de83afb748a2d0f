"""How pictures travel to an endpoint as JSON."""

import base64
import binascii
from typing import Any

import numpy as np

from flowerml.core.errors import InputError

MAX_BYTES = 32 * 2**20  # of one picture; photographs of telephones have up to 20 MB
EXPECTED = "expected a picture in base64, as a data URI or as a list of bytes"


def from_json(value: Any) -> bytes:
    """What an endpoint was sent as the bytes of a picture.

    Base64, a data URI of it, bytes, or a list of them (numbers from 0 to 255). Nothing is ever opened: an address or a
    path is no base64. Raises InputError: `not_base64`, `not_bytes` for a list of other things, `image_too_large`
    above MAX_BYTES.
    """
    if isinstance(value, bytes | bytearray):
        raw = bytes(value)
    elif isinstance(value, str):
        raw = _from_base64(value)
    elif isinstance(value, list | tuple | np.ndarray):
        raw = _from_numbers(value)
    else:
        raise InputError("not_base64", f"{EXPECTED}, found {'null' if value is None else type(value).__name__}")
    _check_size(len(raw))
    return raw


def to_json(raw: bytes) -> str:
    """The bytes of a picture as an endpoint takes them."""
    return base64.b64encode(raw).decode()


def _from_base64(text: str) -> bytes:
    _check_size(len(text) // 2)  # base64 takes 4 characters for 3 bytes, and may be cut into lines
    if text[:5].lower() == "data:":
        header, _, text = text.partition(",")
        if not header.lower().endswith(";base64"):
            raise InputError("not_base64", "expected a data URI of base64, data:image/…;base64,…, found another one")
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise InputError(
            "not_base64", f"{EXPECTED}; this text is not valid base64. Addresses and paths are not opened"
        ) from None


def _from_numbers(values: Any) -> bytes:
    _check_size(np.size(values) if isinstance(values, np.ndarray) else len(values))
    numbers = np.atleast_1d(values).tolist() if isinstance(values, np.ndarray) else values
    try:
        # MLflow makes texts of all numbers under `inputs` and `instances`.
        return bytes(map(int, numbers) if set(map(type, numbers)) == {str} else numbers)
    except (TypeError, ValueError):
        raise InputError("not_bytes", f"{EXPECTED}; a list holds whole numbers from 0 to 255, nothing else") from None


def _check_size(size: int) -> None:
    if size > MAX_BYTES:
        raise InputError("image_too_large", f"expected at most {MAX_BYTES:,} bytes, found more; send a smaller picture")
