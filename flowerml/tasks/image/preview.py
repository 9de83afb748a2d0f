"""Small pictures for the report, and larger ones to judge a label by."""

import io

from PIL import Image

from flowerml.tasks.image.encoder.pictures import HIGHEST_PIXELS, decode

MAX_SHORT_SIDE, MAX_LONG_SIDE = 160, 360  # pixels
LARGE_SIDES = 720, 1280
QUALITY = 80


def preview(raw: bytes, *, large: bool = False) -> bytes:
    """Return a small upright JPEG of a picture, or a `large` one; raises InputError."""
    short_side, long_side = LARGE_SIDES if large else (MAX_SHORT_SIDE, MAX_LONG_SIDE)
    picture = decode(raw, max_pixels=HIGHEST_PIXELS)  # it was read before, under the limit of the user
    ratio = min(1.0, short_side / min(picture.size), long_side / max(picture.size))
    width, height = (max(1, round(side * ratio)) for side in picture.size)
    buffer = io.BytesIO()
    picture.resize((width, height), Image.Resampling.LANCZOS).save(buffer, "JPEG", quality=QUALITY, optimize=True)
    return buffer.getvalue()
