"""From the bytes of any picture to the array a backbone reads, with Pillow and NumPy alone.

One function for every door: encoding, evaluation and the endpoint all see the same pixels.
"""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from flowerml.errors import InputError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")  # Pillow reads the MPO of phones as JPEG
MAX_PIXELS = 89_478_485  # where Pillow begins to warn of decompression bombs
INTERPOLATIONS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}

Pixels = NDArray[np.float32]


@dataclass(frozen=True)
class Transform:
    """Short side, centre crop, mean and std: what a network's weights were trained to see."""

    resize: int
    crop: int
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __call__(self, picture: Image.Image) -> Pixels:
        """RGB picture -> [3, crop, crop] float32, as torchvision's Resize, CenterCrop, ToTensor and Normalize."""
        return self.normalise(self.frame(picture))

    def frame(self, picture: Image.Image) -> Image.Image:
        """The picture with its short side at `resize`, and of that the middle, crop x crop."""
        width, height = picture.size
        short = min(width, height)
        size = (self.resize * width // short, self.resize * height // short)
        resized = picture if size == picture.size else picture.resize(size, INTERPOLATIONS[self.interpolation])
        left, top = round((size[0] - self.crop) / 2), round((size[1] - self.crop) / 2)
        return resized.crop((left, top, left + self.crop, top + self.crop))

    def normalise(self, picture: Image.Image) -> Pixels:
        """RGB picture -> [3, H, W], (pixel / 255 - mean) / std."""
        pixels = np.asarray(picture, dtype=np.float32).transpose(2, 0, 1) / np.float32(255)
        return np.ascontiguousarray((pixels - _channel(self.mean)) / _channel(self.std))

    def show(self, pixels: Pixels) -> Image.Image:
        """[3, H, W] back to a picture: the notebook's imshow, to check preprocessing by eye."""
        values = (pixels * _channel(self.std) + _channel(self.mean)).clip(0, 1) * 255
        return Image.fromarray(values.round().astype(np.uint8).transpose(1, 2, 0))


def decode(raw: "bytes | str | Path | Image.Image") -> Image.Image:
    """Bytes, a path or a Pillow image as an upright RGB picture; of an animation the first frame.

    Transparent parts become white, 16-bit grey is scaled to 8. Raises InputError: `unreadable_image` for what
    Pillow cannot read whole, `image_too_large` above MAX_PIXELS, `unknown_input` for another type.
    """
    if not isinstance(raw, bytes | str | Path | Image.Image):
        raise InputError("unknown_input", f"expected bytes, a path or a Pillow image, found {type(raw).__name__}")
    try:
        if isinstance(raw, Image.Image):  # perhaps opened, but not yet read
            _check_size(raw)
            return upright_rgb(raw)
        with Image.open(io.BytesIO(raw) if isinstance(raw, bytes) else raw, formats=FORMATS) as picture:
            _check_size(picture)
            return upright_rgb(picture)
    except FileNotFoundError:
        raise InputError("no_such_file", f"{raw!s}: no such file") from None
    except UnidentifiedImageError:
        raise InputError("unreadable_image", f"not a picture of a known kind ({', '.join(FORMATS)})") from None
    except Image.DecompressionBombError as error:
        raise InputError("image_too_large", f"at most {MAX_PIXELS:,} pixels are read: {_short(error)}") from None
    except InputError:
        raise
    except Exception as error:  # Pillow's decoders raise whatever a damaged file leads them into
        raise InputError("unreadable_image", f"damaged or cut short: {_short(error)}") from None


def upright_rgb(picture: Image.Image) -> Image.Image:
    """The picture turned as its EXIF orientation says, as RGB."""
    picture = ImageOps.exif_transpose(picture)
    if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
        return _to_eight_bits(picture).convert("RGB")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(white, picture).convert("RGB")
    return picture.convert("RGB")


def _to_eight_bits(picture: Image.Image) -> Image.Image:
    # Pillow's own conversion of these modes clips at 255 instead of scaling.
    values = np.asarray(picture).astype(np.float64)
    top = 65535 if values.max(initial=0) > 255 else 255
    return Image.fromarray((values / top * 255).clip(0, 255).round().astype(np.uint8))


def _check_size(picture: Image.Image) -> None:
    width, height = picture.size
    if width * height > MAX_PIXELS:
        raise InputError("image_too_large", f"{width} x {height} pixels; at most {MAX_PIXELS:,} in all are read")
    # The resized picture must stay within bounds too: a strip of 1 x 60,000 would grow to 224 x 13 million.
    if max(width, height) > 200 * min(width, height):
        raise InputError("image_too_large", f"{width} x {height} pixels; sides may differ by 200 times at most")


def _channel(values: tuple[float, float, float]) -> Pixels:
    return np.array(values, dtype=np.float32)[:, None, None]


def _short(error: Exception) -> str:
    first = str(error).splitlines()[0] if str(error) else type(error).__name__
    return first if len(first) <= 120 else type(error).__name__
