"""A picture as small as a report shows it."""

import io

from PIL import Image

from flowerml.tasks.image.encoder.pictures import decode

SHORT, LONG = 160, 360  # pixels a side has at most
QUALITY = 80


def preview(raw: bytes) -> bytes:
    """A small JPEG of a picture, upright; raises InputError."""
    picture = decode(raw)
    ratio = min(1.0, SHORT / min(picture.size), LONG / max(picture.size))
    width, height = (max(1, round(side * ratio)) for side in picture.size)
    buffer = io.BytesIO()
    picture.resize((width, height), Image.Resampling.LANCZOS).save(buffer, "JPEG", quality=QUALITY, optimize=True)
    return buffer.getvalue()
