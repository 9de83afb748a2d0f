"""Colors, and the canvas that blades are splatted onto."""

import colorsys
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from flowerml.tasks.image.sample.garden import Range

Array = NDArray[Any]  # float32 wherever it is large

SIDE = 256  # pixels on the short side of a picture

# Ranges of hue, saturation and value. Species share colors, so that color alone does not identify a flower.
COLORS: dict[str, tuple[Range, Range, Range]] = {
    "white": ((0.10, 0.16), (0.00, 0.10), (0.82, 0.95)),
    "yellow": ((0.12, 0.16), (0.65, 0.92), (0.90, 1.00)),
    "orange": ((0.05, 0.10), (0.75, 0.95), (0.88, 1.00)),
    "red": ((-0.03, 0.02), (0.78, 0.95), (0.62, 0.90)),
    "pink": ((0.88, 0.97), (0.25, 0.62), (0.85, 1.00)),
    "purple": ((0.72, 0.83), (0.35, 0.68), (0.48, 0.82)),
    "blue": ((0.59, 0.68), (0.35, 0.72), (0.62, 0.98)),
    "green": ((0.20, 0.36), (0.35, 0.68), (0.34, 0.66)),
    "straw": ((0.11, 0.15), (0.70, 0.92), (0.70, 0.95)),
    "brown": ((0.03, 0.09), (0.50, 0.75), (0.18, 0.38)),
    "black": ((0.70, 0.90), (0.20, 0.50), (0.08, 0.18)),
}


def vector(*numbers: float) -> Array:
    """Return numbers as a float32 array."""
    return np.array(numbers, dtype=np.float32)


def pick(rng: Random, *names: str) -> Array:
    """Return a random color of one of the names, as red, green and blue in 0..255."""
    hue, saturation, value = (rng.uniform(*limits) for limits in COLORS[rng.choice(names)])
    return vector(*colorsys.hsv_to_rgb(hue % 1, saturation, value)) * 255


def mix(start: Array, end: Array, share: Array) -> Array:
    """Interpolate between two colors, [3] or [3, H, W], by a share in 0..1 for every pixel [H, W]."""
    start, end = (color.reshape(3, *(color.shape[1:] or (1, 1))) for color in (start, end))
    return start + (end - start) * share


def to_image(rgb: Array) -> Image.Image:
    """Return levels [3, H, W] in 0..255 as an image."""
    return Image.fromarray(np.clip(rgb, 0, 255).astype(np.uint8).transpose(1, 2, 0))


class Canvas:
    """The pixels that blades are splatted onto: red, green, blue and, in the fourth byte, how much sun arrives."""

    def __init__(self, background: Image.Image, *, sun: Array) -> None:
        self.sun = sun
        self.load(background)

    def load(self, half: Image.Image) -> None:
        """Start from an image half the canvas's size."""
        self.width, self.height = 2 * half.width, 2 * half.height
        image = half.resize((self.width, self.height), Image.Resampling.BILINEAR)
        self.pixels = np.array(image.convert("RGBA")).reshape(-1, 4)
        self.words = self.pixels.view(np.uint32)[:, 0]

    def image(self) -> Image.Image:
        """Return the picture so far, at half the canvas's size, with soft shadows."""
        canvas = Image.frombuffer("RGBX", (self.width, self.height), self.pixels, "raw", "RGBX", 0, 1)
        half = np.asarray(canvas.reduce(2))
        sunlight = Image.fromarray(half[..., 3]).filter(ImageFilter.BoxBlur(2))
        return to_image(half.transpose(2, 0, 1)[:3] * (np.asarray(sunlight) * np.float32(1 / 255)))

    def splat(self, x: Array, y: Array, rgb: Array, *, reach: float) -> None:
        """Set the pixels at x, y [N] to rgb [3, N], and shade those `reach` pixels farther from the sun."""
        column = np.clip(x, 0, self.width - 2).astype(np.int32)
        row = np.clip(y, 0, self.height - 2).astype(np.int32)
        at = row * self.width + column
        shaded = at[::2] + (int(self.sun[1] * reach) * self.width - int(self.sun[0] * reach))
        shaded = np.clip(shaded, 0, len(self.words) - 1)
        self.pixels[shaded, 3] = self.pixels[shaded, 3] * np.float32(0.83)
        rgba = np.full((len(at), 4), 255, dtype=np.uint8)
        rgba[:, :3] = np.minimum(rgb, 255).T
        word = rgba.view(np.uint32)[:, 0]
        for offset in (0, 1, self.width, self.width + 1):  # 2 x 2, as points lie more than a pixel apart
            self.words[at + offset] = word
