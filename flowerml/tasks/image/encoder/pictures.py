"""From the bytes of any picture to the array a backbone reads, with Pillow and NumPy alone.

One function for every door: encoding, evaluation and the endpoint all see the same pixels.
"""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from flowerml.core.errors import InputError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")  # Pillow reads the MPO of phones as JPEG
MAX_PIXELS = 89_478_485  # where Pillow begins to warn of decompression bombs
INTERPOLATIONS = {filter.name.lower(): filter for filter in Image.Resampling}
FITS = ("center", "squash", "border")

Pixels = NDArray[np.float32]


@dataclass(frozen=True)
class Transform:
    """Resize, centre crop, mean and std: what a network's weights were trained to see.

    `fit` says how a picture of another shape is brought to it, in timm's words: `center` gives the short side its
    length and loses the ends of the long one, `squash` stretches, `border` gives the long side its length and adds
    bands of the mean colour. `resize` and `crop` are heights, and widths where no other is given.
    """

    resize: int
    crop: int
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    fit: str = "center"
    resize_width: int | None = None
    crop_width: int | None = None

    def __call__(self, picture: Image.Image) -> Pixels:
        """RGB picture -> [3, *size] float32, as torchvision's Resize, CenterCrop, ToTensor and Normalize."""
        return self.normalise(self.frame(picture))

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of what it gives."""
        return self.crop, self.crop_width or self.crop

    def frame(self, picture: Image.Image) -> Image.Image:
        """The picture at its new size, and of that the middle; what lacks at the edges is black, or the mean."""
        size = self._resized(*picture.size)
        resized = picture if size == picture.size else picture.resize(size, INTERPOLATIONS[self.interpolation])
        height, width = self.size
        left, top = _start(resized.width, width), _start(resized.height, height)
        if self.fit != "border":
            return resized.crop((left, top, left + width, top + height))
        framed = Image.new("RGB", (width, height), tuple(round(255 * value) for value in self.mean))
        framed.paste(resized, (-left, -top))
        return framed

    def _resized(self, width: int, height: int) -> tuple[int, int]:
        high, wide = self.resize, self.resize_width or self.resize
        if self.fit == "squash":
            return wide, high
        if self.fit == "center" and high == wide:  # cut to whole pixels as torchvision does; timm rounds
            short = min(width, height)
            return high * width // short, high * height // short
        ratios = height / high, width / wide
        ratio = max(ratios) if self.fit == "border" else min(ratios)
        return max(1, round(width / ratio)), max(1, round(height / ratio))

    def normalise(self, picture: Image.Image) -> Pixels:
        """RGB picture -> [3, H, W], (pixel / 255 - mean) / std."""
        pixels = np.ascontiguousarray(np.asarray(picture).transpose(2, 0, 1)).astype(np.float32)
        # In place: a third of the time, and the same bits.
        pixels /= np.float32(255)
        pixels -= _channel(self.mean)
        pixels /= _channel(self.std)
        return pixels

    def show(self, pixels: Pixels) -> Image.Image:
        """[3, H, W] back to a picture: the notebook's imshow, to check preprocessing by eye."""
        values = (pixels * _channel(self.std) + _channel(self.mean)).clip(0, 1) * 255
        return Image.fromarray(values.round().astype(np.uint8).transpose(1, 2, 0))


def decode(raw: "bytes | str | Path | Image.Image", *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Bytes, a path or a Pillow image as an upright RGB picture; of an animation the first frame.

    Transparent parts become white, 16-bit grey is scaled to 8. Raises InputError: `unreadable_image` for what
    Pillow cannot read whole, `image_too_large` above `max_pixels`, `unknown_input` for another type.
    """
    if not isinstance(raw, bytes | str | Path | Image.Image):
        raise InputError("unknown_input", f"expected bytes, a path or a Pillow image, found {type(raw).__name__}")
    try:
        if isinstance(raw, Image.Image):  # perhaps opened, but not yet read
            _check_size(raw, max_pixels)
            return upright_rgb(raw)
        with Image.open(io.BytesIO(raw) if isinstance(raw, bytes) else raw, formats=FORMATS) as picture:
            _check_size(picture, max_pixels)
            return upright_rgb(picture)
    except FileNotFoundError:
        raise InputError("no_such_file", f"{raw!s}: no such file") from None
    except UnidentifiedImageError:
        raise InputError("unreadable_image", f"not a picture of a known kind ({', '.join(FORMATS)})") from None
    except Image.DecompressionBombError as error:
        raise InputError("image_too_large", f"at most {max_pixels:,} pixels are read: {_short(error)}") from None
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


def _check_size(picture: Image.Image, max_pixels: int) -> None:
    width, height = picture.size
    if width * height > max_pixels:
        raise InputError("image_too_large", f"{width} x {height} pixels; at most {max_pixels:,} in all are read")
    # The resized picture must stay within bounds too: a strip of 1 x 60,000 would grow to 224 x 13 million.
    if max(width, height) > 200 * min(width, height):
        raise InputError("image_too_large", f"{width} x {height} pixels; sides may differ by 200 times at most")


def _start(found: int, wanted: int) -> int:
    """Where the middle `wanted` pixels of `found` begin; below 0 where they are fewer, as torchvision pads."""
    return -((wanted - found) // 2) if wanted > found else round((found - wanted) / 2)


def _channel(values: tuple[float, float, float]) -> Pixels:
    return np.array(values, dtype=np.float32)[:, None, None]


def _short(error: Exception) -> str:
    first = str(error).splitlines()[0] if str(error) else type(error).__name__
    return first if len(first) <= 120 else type(error).__name__
