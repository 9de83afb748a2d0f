"""Small pictures that may travel with a classifier."""

import io

from PIL import Image

from flowerml.tasks.image.encoder.pictures import HIGHEST_PIXELS, decode

MAX_SHORT_SIDE, MAX_LONG_SIDE = 192, 384  # pixels
QUALITY = 85


def excerpt(raw: bytes) -> bytes:
    """Return a small upright copy of a picture, without its metadata (place, time, camera); raises InputError.

    It is a PNG where that is smaller, as for digits and diagrams, and a JPEG elsewhere.
    """
    picture = decode(raw, max_pixels=HIGHEST_PIXELS)  # it was read before, under the limit of the user
    ratio = min(1.0, MAX_SHORT_SIDE / min(picture.size), MAX_LONG_SIDE / max(picture.size))
    width, height = (max(1, round(side * ratio)) for side in picture.size)
    small = picture.resize((width, height), Image.Resampling.LANCZOS)
    return min(_encoded(small, "PNG"), _encoded(small, "JPEG", quality=QUALITY), key=len)


def _encoded(picture: Image.Image, kind: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, optimize=True, **options)
    return buffer.getvalue()
