"""From the bytes of any picture to the array that a backbone takes, in Pillow and NumPy.

Encoding, evaluation and the endpoint all call these functions, so they see the same pixels. torchvision's transforms
give the same numbers (tests compare them), but need torch, which a served model does without.
"""

import io
import stat
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from flowerml.core.display import printable
from flowerml.core.errors import InputError
from flowerml.tasks.image.encoder.containers import ORIENTATION, UPRIGHT, exif_orientation, without_metadata

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF")
MAX_PIXELS = 89_478_485  # above it Pillow warns of decompression bombs
HIGHEST_PIXELS = 2 * MAX_PIXELS  # above it Pillow refuses; the highest limit that params.yaml may set
MAX_FILE_BYTES = 256 * 2**20  # of a picture given by its path
# Bytes for each pixel while a picture is decoded, whatever its mode: at most 4 in Pillow's memory (of any mode), 8 in
# libjpeg's (a progressive CMYK JPEG) or libtiff's (a strip of 16-bit RGBA), 4 in the RGB copy. Measured by
# tests/tasks/image/test_picture_memory.py.
BYTES_PER_PIXEL = 12
COSTLY_FORMATS = {"WEBP": 16, "AVIF": 20}  # libwebp keeps two canvases; libavif's planes may have 16 bits
MAX_BYTES = BYTES_PER_PIXEL * MAX_PIXELS  # 1 GiB
MAX_STORED_SHAPE = 3  # of the sides of a cached picture
STRIP_PIXELS = 2**18  # converted at once
INTERPOLATIONS = {filter.name.lower(): filter for filter in Image.Resampling}
FITS = ("center", "squash", "border")

Pixels = NDArray[np.float32]
Source = bytes | str | Path | Image.Image

PICTURE_STARTS = (b"\xff\xd8", b"\x89PNG", b"GIF8", b"BM", b"RIFF", b"II*\0", b"MM\0*")
HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
HEIC_REMEDY = (
    "a HEIC picture, which is not read: save it as JPEG (an iPhone does with Settings > Camera > Most Compatible)"
)


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

    def of_size(self, side: int | None) -> "Transform":
        """Return the transform to squares of `side` pixels, resized before by as much more than before; None: itself.

        >>> transform = Transform(256, 224, "bicubic", (0.5,) * 3, (0.5,) * 3)
        >>> transform.of_size(192).resize, transform.of_size(224) == transform
        (219, True)
        """
        if side is None or (side, side) == self.size:
            return self
        resize_width = self.resize_width or self.resize
        width = resize_width * side // self.size[1]
        resize = self.resize * side // self.crop
        return replace(self, resize=resize, crop=side, crop_width=None, resize_width=None if width == resize else width)

    def stored(self, picture: Image.Image) -> Image.Image:
        """Return a training picture as it is cached for random views: not larger than `resize`, never enlarged.

        Its short side becomes `resize`, as by `resize_and_crop`, which gives the same for this picture as for the whole
        one where the whole one is resized by its short side. Its long side is cut to at most 3 times the short one.
        """
        width, height = self._shrunk(*picture.size)
        if (width, height) != picture.size:
            picture = picture.resize((width, height), INTERPOLATIONS[self.interpolation])
        width, height = self.stored_size(*picture.size)
        left, top = _crop_start(picture.width, width), _crop_start(picture.height, height)
        return picture.crop((left, top, left + width, top + height))

    def stored_size(self, width: int, height: int) -> tuple[int, int]:
        """Return the width and height of what `stored` returns for a picture of this size."""
        width, height = self._shrunk(width, height)
        longest = MAX_STORED_SHAPE * min(width, height)
        return min(width, longest), min(height, longest)

    def same_of_stored(self, picture: Image.Image) -> bool:
        """Return whether the plain view is the same, to the bit, of the picture and of what `stored` returns for it."""
        whole = self.stored_size(*picture.size) == self._shrunk(*picture.size)
        return whole and self.fit == "center" and self.resize_width is None

    def _shrunk(self, width: int, height: int) -> tuple[int, int]:
        short, target = min(width, height), max(self.resize, self.resize_width or 0)
        return (width, height) if short <= target else (target * width // short, target * height // short)

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


@dataclass(frozen=True)
class Loaded:
    """A picture whose pixels were read; `mode` and `size` are those of the file, also after a draft."""

    picture: Image.Image
    mode: str
    size: tuple[int, int]
    orientation: int  # as EXIF counts; 1 is upright

    @property
    def upright_size(self) -> tuple[int, int]:
        """Width and height of the upright picture."""
        return self.size[::-1] if self._transposition in _SIDEWAYS else self.size

    def upright(self, mode: str = "RGB") -> Image.Image:
        """Return the picture in RGB or L, rotated by its orientation, on white where it is transparent."""
        converted = to_rgb(self.picture)
        converted = converted if mode == "RGB" else converted.convert(mode)
        return converted if self._transposition is None else converted.transpose(self._transposition)

    @property
    def _transposition(self) -> Image.Transpose | None:
        return None if self.picture.format == "TIFF" else TRANSPOSE.get(self.orientation)  # Pillow turns a TIFF itself


TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = [TRANSPOSE[orientation] for orientation in (5, 6, 7, 8)]


def decode(raw: Source, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Return bytes, a path or a Pillow image as an upright RGB picture; an animation as its first frame.

    Transparent areas become white; gray of 16 bits and numbers (modes I and F) are scaled to 8 bits. Of the
    metadata only the orientation is read. Takes at most BYTES_PER_PIXEL times `max_pixels` of memory (1 GiB by default)
    and three copies of the file. Raises InputError: `unreadable_image` where the pixels are not whole, not finite or
    outside 0 to 65,535; `image_too_large` above `max_pixels`, for sides that differ by over 200 times, and where
    decoding would take more memory or time than that; `no_such_file`, and `unknown_input` for another type.
    """
    return load(raw, max_pixels=max_pixels).upright()


def load(raw: Source, *, max_pixels: int = HIGHEST_PIXELS, draft: tuple[str, tuple[int, int]] | None = None) -> Loaded:
    """Read the pixels of a picture; with `draft` a JPEG may come at a fraction of its size. Raises as `decode`."""
    if not isinstance(raw, bytes | str | Path | Image.Image):
        raise InputError("unknown_input", f"expected bytes, a path or a Pillow image, found {type(raw).__name__}")
    try:
        if isinstance(raw, Image.Image):  # Pillow opens lazily: its pixels may not have been read yet
            _check_size(raw, max_pixels)
            raw.load()
            return Loaded(raw, raw.mode, raw.size, _orientation(raw))
        content = raw if isinstance(raw, bytes) else _read(Path(raw))
        container = without_metadata(content)
        with Image.open(io.BytesIO(container.content), formats=FORMATS) as picture:
            _check_size(picture, max_pixels)
            mode, size = picture.mode, picture.size
            if draft:
                picture.draft(*draft)
            picture.load()
            orientation = exif_orientation(picture.info["exif"]) if "exif" in picture.info else None
            return Loaded(picture, mode, size, orientation or container.orientation)
    except UnidentifiedImageError:
        raise InputError("unreadable_image", _unidentified(content)) from None
    except Image.DecompressionBombError as error:
        raise InputError(
            "image_too_large", f"expected at most {max_pixels:,} pixels: {_short_message(error)}"
        ) from None
    except InputError:
        raise
    except MemoryError:
        raise InputError("image_too_large", "there is too little memory to decode it") from None
    except Exception as error:  # a damaged file makes Pillow's decoders raise anything
        raise InputError("unreadable_image", f"damaged or cut short: {_short_message(error)}") from None


def to_rgb(picture: Image.Image) -> Image.Image:
    """Return the picture in RGB, on white where it is transparent; raises InputError for pixels that are not gray.

    A conversion of several steps is done in strips, so that only its result takes memory.
    """
    if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
        white = _white_level(picture)
        return _in_strips(picture, lambda strip: _to_eight_bits(strip, white))
    if picture.has_transparency_data:
        return _in_strips(picture, _on_white)
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def _read(path: Path) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise InputError("unreadable_image", f"{printable(str(path))}: not a file")
        if status.st_size > MAX_FILE_BYTES:
            raise InputError("image_too_large", f"expected at most {MAX_FILE_BYTES:,} bytes, found {status.st_size:,}")
        return path.read_bytes()
    except FileNotFoundError:
        raise InputError("no_such_file", f"{printable(str(path))}: no such file") from None
    except (OSError, ValueError) as error:
        raise InputError("unreadable_image", f"cannot be read: {_short_message(error)}") from None


def _orientation(picture: Image.Image) -> int:
    try:
        return picture.getexif().get(ORIENTATION, UPRIGHT)
    except Exception:  # damaged EXIF makes Pillow raise anything, and the pixels are whole
        return UPRIGHT


def _unidentified(content: bytes) -> str:
    """Return what to do about bytes that Pillow doesn't recognize as a picture of a known format."""
    if content[4:8] == b"ftyp" and content[8:12] in HEIC_BRANDS:
        return HEIC_REMEDY
    if content.startswith(PICTURE_STARTS) or content[4:12] in (b"ftypavif", b"ftypavis"):
        return "damaged or cut short: its header is not whole"
    return f"not a picture of a known kind ({', '.join(FORMATS)})"


def _in_strips(picture: Image.Image, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    converted = Image.new("RGB", picture.size)
    rows = max(1, STRIP_PIXELS // picture.width)
    for top in range(0, picture.height, rows):
        converted.paste(convert(_strip(picture, top, rows)), (0, top))
    return converted


def _strip(picture: Image.Image, top: int, rows: int) -> Image.Image:
    return picture.crop((0, top, picture.width, min(top + rows, picture.height)))


def _on_white(picture: Image.Image) -> Image.Image:
    white = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(white, picture.convert("RGBA")).convert("RGB")


def _to_eight_bits(picture: Image.Image, white: int) -> Image.Image:
    # Pillow's own conversion of these modes clips at 255 instead of scaling.
    values = np.asarray(picture).astype(np.float64)
    return Image.fromarray((values / white * 255).clip(0, 255).round().astype(np.uint8)).convert("RGB")


def _white_level(picture: Image.Image) -> int:
    """Return which number is white: 1 for fractions, else 255 or 65,535."""
    rows = max(1, STRIP_PIXELS // picture.width)
    low, high = 0.0, 0.0
    for top in range(0, picture.height, rows):
        values = np.asarray(_strip(picture, top, rows))
        if not np.isfinite(values).all():
            raise InputError("unreadable_image", "holds pixels that are not numbers (NaN or infinity); fill them")
        low, high = min(low, float(values.min())), max(high, float(values.max()))
    levels = (1, 255, 65_535) if picture.mode == "F" else (255, 65_535)
    white = next((level for level in levels if high <= level), None)
    # A filter may overshoot a little; numbers far below 0 are heights or temperatures.
    if white is None or low < -0.05 * high:
        raise InputError(
            "unreadable_image", f"holds pixels from {low:g} to {high:g}, expected 0 to 1, 255 or 65535; scale them"
        )
    return white


def _check_size(picture: Image.Image, max_pixels: int) -> None:
    width, height = picture.size
    if width * height > max_pixels:
        raise InputError("image_too_large", f"{width} x {height} pixels, expected at most {max_pixels:,} in total")
    # The resized picture must stay within bounds too: a strip of 1 x 60,000 would grow to 224 x 13 million.
    if max(width, height) > 200 * min(width, height):
        raise InputError(
            "image_too_large", f"{width} x {height} pixels, expected sides that differ by at most 200 times"
        )
    needed = width * height * COSTLY_FORMATS.get(picture.format or "", BYTES_PER_PIXEL)
    most = max(MAX_BYTES, BYTES_PER_PIXEL * max_pixels)
    if needed > most:
        raise InputError(
            "image_too_large",
            f"a {picture.format} of {width} x {height} pixels takes {needed:,} bytes to decode, expected at most "
            f"{most:,}; save it as JPEG or smaller",
        )


def _crop_start(length: int, crop: int) -> int:
    """Return where the center `crop` of `length` pixels begins; negative where torchvision would pad."""
    return -((crop - length) // 2) if crop > length else round((length - crop) / 2)


def _channel(values: tuple[float, float, float]) -> Pixels:
    return np.array(values, dtype=np.float32)[:, None, None]


def _short_message(error: Exception) -> str:
    first = str(error).splitlines()[0] if str(error) else type(error).__name__
    return first if len(first) <= 120 else type(error).__name__
