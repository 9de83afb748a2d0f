"""Properties of a picture that may make it harder to classify."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from flowerml.tasks.image.encoder.pictures import load

LONG_SIDE = 128  # of the small copy on which light, color and sharpness are measured
SQUARE_TOLERANCE = 0.05  # share of the long side by which the short one may fall behind

Array = NDArray[np.float64]


def properties(raw: bytes) -> dict[str, float | str]:
    """Return size and shape of a picture; brightness, contrast, saturation and sharpness from 0 to 1.

    Raises InputError.

    >>> import io
    >>> buffer = io.BytesIO()
    >>> Image.new("RGB", (60, 40), "white").save(buffer, "PNG")
    >>> properties(buffer.getvalue())["shape"]
    'wide'
    """
    small, (width, height) = _small_copy(raw)
    luma = np.asarray(small.convert("L"), np.float64) / 255
    saturation = np.asarray(small.convert("HSV"), np.float64)[:, :, 1] / 255
    return {
        "short side, pixels": float(min(width, height)),
        "shape": _shape(width, height),
        "brightness": float(luma.mean()),
        "contrast": float(luma.std()),
        "saturation": float(saturation.mean()),
        "sharpness": float(np.abs(_laplacian(luma)).mean()),
    }


def _small_copy(raw: bytes) -> tuple[Image.Image, tuple[int, int]]:
    """Return the upright picture with its long side at LONG_SIDE, and width and height of the original."""
    # Decodes a JPEG at a fraction of its size, in a fraction of the time.
    loaded = load(raw, draft=("RGB", (2 * LONG_SIDE, 2 * LONG_SIDE)))
    picture = loaded.upright()
    ratio = LONG_SIDE / max(picture.size)
    width, height = (max(3, round(side * ratio)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.BOX), loaded.upright_size


def _laplacian(luma: Array) -> Array:
    """Return the difference of each pixel and the mean of its four neighbors."""
    neighbors = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:]
    return luma[1:-1, 1:-1] - neighbors / 4


def _shape(width: int, height: int) -> str:
    if abs(width - height) <= SQUARE_TOLERANCE * max(width, height):
        return "square"
    return "wide" if width > height else "tall"
