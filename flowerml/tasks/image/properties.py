"""What may make a picture harder than others, in numbers."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from flowerml.tasks.image.encoder.pictures import MAX_PIXELS, decode, upright_rgb

SIDE = 128  # the long one of the small picture that light, colour and blur are measured on
SQUARE = 0.05  # share by which sides may differ

Array = NDArray[np.float64]


def properties(raw: bytes) -> dict[str, float | str]:
    """Size and shape of a picture, and how bright, colourful, rich in contrast and sharp it is, from 0 to 1.

    Raises InputError.
    """
    small, (width, height) = _small(raw)
    luma = np.asarray(small.convert("L"), np.float64) / 255
    saturation = np.asarray(small.convert("HSV"), np.float64)[:, :, 1] / 255
    return {
        "short side, pixels": float(min(width, height)),
        "shape": _shape(width, height),
        "brightness": float(luma.mean()),
        "contrast": float(luma.std()),
        "saturation": float(saturation.mean()),
        "sharpness": float(np.abs(_edges(luma)).mean()),
    }


def _small(raw: bytes) -> tuple[Image.Image, tuple[int, int]]:
    """The picture with its long side at SIDE, and width and height of the whole."""
    picture, sides = _drafted(raw) or (decode(raw), None)
    sides = sides or picture.size
    ratio = SIDE / max(picture.size)
    width, height = (max(3, round(side * ratio)) for side in picture.size)
    upright = sides if (sides[0] > sides[1]) == (picture.width > picture.height) else sides[::-1]
    return picture.resize((width, height), Image.Resampling.BOX), upright


def _drafted(raw: bytes) -> tuple[Image.Image, tuple[int, int]] | None:
    """A JPEG at a fraction of its size, which takes a fraction of the time; None where it is no such picture."""
    try:
        with Image.open(io.BytesIO(raw), formats=("JPEG",)) as picture:
            sides = picture.size
            if picture.mode not in ("L", "RGB"):
                return None
            picture.draft(picture.mode, (2 * SIDE, 2 * SIDE))
            if picture.width * picture.height > MAX_PIXELS:
                return None
            return upright_rgb(picture), sides
    except Exception:  # Pillow's decoders raise whatever a damaged file leads them into, and `decode` says what it is
        return None


def _edges(luma: Array) -> Array:
    """How far each pixel is from the mean of its four neighbours."""
    around = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:]
    return luma[1:-1, 1:-1] - around / 4


def _shape(width: int, height: int) -> str:
    if abs(width - height) <= SQUARE * max(width, height):
        return "square"
    return "wide" if width > height else "tall"
