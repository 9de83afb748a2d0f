"""From the bytes of any picture to the array that a backbone takes, in Pillow and NumPy.

Encoding, evaluation and the endpoint all call these functions, so they see the same pixels. torchvision's transforms
give the same numbers (tests compare them), but need torch, which a served model does without.
"""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from flowerml.core.errors import InputError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")  # JPEG includes MPO, which phones write
MAX_PIXELS = 89_478_485  # above it Pillow warns of decompression bombs
INTERPOLATIONS = {filter.name.lower(): filter for filter in Image.Resampling}
FITS = ("center", "squash", "border")

Pixels = NDArray[np.float32]


@dataclass(frozen=True)
class Transform:
    """Resize, center crop, mean and std: the preprocessing that a network's weights were trained with.

    `fit` is timm's crop_mode for pictures of another shape: `center` scales the short side to `resize` and crops the
    long one, `squash` stretches, `border` scales the long side and adds bands of the mean color. `resize` and `crop`
    are heights, and also widths unless those are given.

    >>> half = (0.5, 0.5, 0.5)
    >>> transform = Transform(resize=64, crop=48, interpolation="bilinear", mean=half, std=half)
    >>> transform(Image.new("RGB", (90, 70))).shape
    (3, 48, 48)
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
        """Return an RGB picture as [3, *size] float32, like torchvision's Resize, CenterCrop, ToTensor, Normalize."""
        return self.normalize(self.resize_and_crop(picture))

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the transformed picture."""
        return self.crop, self.crop_width or self.crop

    def resize_and_crop(self, picture: Image.Image) -> Image.Image:
        """Return the center of the resized picture; where that is too small it is padded, black or with the mean."""
        size = self._resized_size(*picture.size)
        resized = picture if size == picture.size else picture.resize(size, INTERPOLATIONS[self.interpolation])
        height, width = self.size
        left, top = _crop_start(resized.width, width), _crop_start(resized.height, height)
        if self.fit != "border":
            return resized.crop((left, top, left + width, top + height))
        padded = Image.new("RGB", (width, height), tuple(round(255 * value) for value in self.mean))
        padded.paste(resized, (-left, -top))
        return padded

    def _resized_size(self, width: int, height: int) -> tuple[int, int]:
        new_height, new_width = self.resize, self.resize_width or self.resize
        if self.fit == "squash":
            return new_width, new_height
        if self.fit == "center" and new_height == new_width:  # rounded down, as in torchvision; timm rounds
            short = min(width, height)
            return new_height * width // short, new_height * height // short
        ratios = height / new_height, width / new_width
        ratio = max(ratios) if self.fit == "border" else min(ratios)
        return max(1, round(width / ratio)), max(1, round(height / ratio))

    def normalize(self, picture: Image.Image) -> Pixels:
        """Return an RGB picture as [3, H, W], (pixel / 255 - mean) / std."""
        pixels = np.ascontiguousarray(np.asarray(picture).transpose(2, 0, 1)).astype(np.float32)
        # In place it takes a third of the time, for the same bits.
        pixels /= np.float32(255)
        pixels -= _channel(self.mean)
        pixels /= _channel(self.std)
        return pixels

    def to_picture(self, pixels: Pixels) -> Image.Image:
        """Return [3, H, W] as a picture again, to check the preprocessing by eye (the notebook's imshow)."""
        values = (pixels * _channel(self.std) + _channel(self.mean)).clip(0, 1) * 255
        return Image.fromarray(values.round().astype(np.uint8).transpose(1, 2, 0))


def decode(raw: "bytes | str | Path | Image.Image", *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Return bytes, a path or a Pillow image as an upright RGB picture; an animation as its first frame.

    Transparent areas become white; 16-bit gray is scaled to 8 bits. Raises InputError: `unreadable_image` where Pillow
    cannot read the whole picture, `image_too_large` above `max_pixels` and for sides that differ by over 200 times,
    `no_such_file`, and `unknown_input` for another type.
    """
    if not isinstance(raw, bytes | str | Path | Image.Image):
        raise InputError("unknown_input", f"expected bytes, a path or a Pillow image, found {type(raw).__name__}")
    try:
        if isinstance(raw, Image.Image):  # Pillow opens lazily: its pixels may not have been read yet
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
        raise InputError(
            "image_too_large", f"expected at most {max_pixels:,} pixels: {_short_message(error)}"
        ) from None
    except InputError:
        raise
    except Exception as error:  # a damaged file makes Pillow's decoders raise anything
        raise InputError("unreadable_image", f"damaged or cut short: {_short_message(error)}") from None


def upright_rgb(picture: Image.Image) -> Image.Image:
    """Return the picture as RGB, rotated by its EXIF orientation, on white where it is transparent."""
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
        raise InputError("image_too_large", f"{width} x {height} pixels, expected at most {max_pixels:,} in total")
    # The resized picture must stay within bounds too: a strip of 1 x 60,000 would grow to 224 x 13 million.
    if max(width, height) > 200 * min(width, height):
        raise InputError(
            "image_too_large", f"{width} x {height} pixels, expected sides that differ by at most 200 times"
        )


def _crop_start(length: int, crop: int) -> int:
    """Return where the center `crop` of `length` pixels begins; negative where torchvision would pad."""
    return -((crop - length) // 2) if crop > length else round((length - crop) / 2)


def _channel(values: tuple[float, float, float]) -> Pixels:
    return np.array(values, dtype=np.float32)[:, None, None]


def _short_message(error: Exception) -> str:
    first = str(error).splitlines()[0] if str(error) else type(error).__name__
    return first if len(first) <= 120 else type(error).__name__
