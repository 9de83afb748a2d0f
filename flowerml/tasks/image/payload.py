"""The wire format of pictures: JSON that an endpoint receives."""

import base64
import binascii
import io
from typing import Any

import numpy as np
from PIL import Image

from flowerml.core.errors import InputError
from flowerml.tasks.image.encoder.containers import without_metadata
from flowerml.tasks.image.encoder.pictures import FORMATS

LARGE_PIXELS = 2**24  # such a picture takes 0.2 s where a small one takes 0.01 s; phones take 12 million
MAX_BYTES = 32 * 2**20  # of one picture; photographs from phones take up to 20 MB
EXPECTED = "expected a picture in base64, as a data URI or as a list of bytes"


def from_json(value: Any) -> bytes:
    """Return the bytes of a picture from a JSON value: base64, a data URI, bytes, or a list of numbers from 0 to 255.

    Nothing is ever opened: a URL or a path is not base64. Raises InputError: `not_base64`, `not_bytes` for a list of
    anything else, `image_too_large` above MAX_BYTES.

    >>> from_json("data:image/gif;base64,R0lGODlh")
    b'GIF89a'
    >>> from_json([71, 73, 70])
    b'GIF'
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
    """Return the bytes of a picture as base64."""
    return base64.b64encode(raw).decode()


def is_large(raw: bytes) -> bool:
    """Return whether a picture has more than LARGE_PIXELS, by its header; False where that cannot be read."""
    try:
        with Image.open(io.BytesIO(without_metadata(raw).content), formats=FORMATS) as picture:
            width, height = picture.size
    except Exception:  # a damaged file makes Pillow raise anything; whoever reads its pixels says what is wrong
        return False
    return width * height > LARGE_PIXELS


def _from_base64(text: str) -> bytes:
    _check_size(len(text) // 2)  # 4 characters hold 3 bytes; 2 a byte leave room for line ends
    if text[:5].lower() == "data:":
        header, _, text = text.partition(",")
        if not header.lower().endswith(";base64"):
            raise InputError(
                "not_base64", "expected a data URI in base64, data:image/…;base64,…; found another encoding"
            )
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise InputError(
            "not_base64", f"{EXPECTED}; this text is not valid base64, and URLs and paths are not opened"
        ) from None


def _from_numbers(values: Any) -> bytes:
    _check_size(np.size(values) if isinstance(values, np.ndarray) else len(values))
    numbers = np.atleast_1d(values).tolist() if isinstance(values, np.ndarray) else values
    try:
        # MLflow turns all numbers under `inputs` and `instances` into strings.
        return bytes(map(int, numbers) if set(map(type, numbers)) == {str} else numbers)
    except (TypeError, ValueError):
        raise InputError("not_bytes", f"{EXPECTED}; a list may only hold whole numbers from 0 to 255") from None


def _check_size(size: int) -> None:
    if size > MAX_BYTES:
        raise InputError("image_too_large", f"expected at most {MAX_BYTES:,} bytes, found more; send a smaller picture")
