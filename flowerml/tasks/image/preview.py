"""Small pictures for the report."""

import io

from PIL import Image

from flowerml.tasks.image.encoder.pictures import HIGHEST_PIXELS, decode

MAX_SHORT_SIDE, MAX_LONG_SIDE = 160, 360  # pixels
QUALITY = 80


def preview(raw: bytes) -> bytes:
    """Return a small upright JPEG of a picture; raises InputError."""
    picture = decode(raw, max_pixels=HIGHEST_PIXELS)  # it was read before, under the limit of the user
    ratio = min(1.0, MAX_SHORT_SIDE / min(picture.size), MAX_LONG_SIDE / max(picture.size))
    width, height = (max(1, round(side * ratio)) for side in picture.size)
    buffer = io.BytesIO()
    picture.resize((width, height), Image.Resampling.LANCZOS).save(buffer, "JPEG", quality=QUALITY, optimize=True)
    return buffer.getvalue()
