"""What may be wrong with a picture, and which pictures are nearly the same.

Two hashes of 64 bits are told apart by the bits in which they differ: dHash (does a pixel get darker to the right?
N. Krawetz, "Kind of Like That", 2013) and pHash (are low frequencies above their median? C. Zauner, "Implementation
and Benchmarking of Perceptual Image Hash Functions", 2010). What they take for alike, small grey copies must confirm.
"""

import hashlib
import io
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from flowerml.core.errors import InputError
from flowerml.tasks.facts import Facts
from flowerml.tasks.image.encoder.pictures import FORMATS, upright_rgb

if TYPE_CHECKING:
    from flowerml.data.encodings import Encoded
    from flowerml.tasks.image.sections import Checks, Data

NAMES = {
    **{".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP", ".bmp": "BMP", ".gif": "GIF"},
    **{".tif": "TIFF", ".tiff": "TIFF"},
}
STARTS = (b"\xff\xd8", b"\x89PNG", b"GIF8", b"BM", b"RIFF", b"II*\0", b"MM\0*")
OTHERS = {b"%PDF": "a PDF", b"PK\3\4": "a zip archive", b"\x1f\x8b": "a gzip file", b"<svg": "an SVG drawing"}
USUAL_MODES = ("RGB", "L")
SIDE = 32  # of the grey copy that the cosine transform sees
GREY = 16  # of the one that is kept
HASHES = 16  # bytes of both hashes in a signature
# Chosen by eye on the 8,189 photographs of flowers102: of the 41 pairs within both, 39 show one photograph twice or one
# flower a moment later, two perhaps only flowers of one plant; without the second a white daisy is a thorn apple.
MOST_BITS = 20  # of both hashes together
LEAST_CORRELATION = 0.88  # of the grey copies
BLOCK = 256

Pairs = NDArray[np.int64]


def facts(name: str, raw: bytes, section: "Data") -> Facts:
    """What is odd about a picture that can be read, and its signature: two hashes and a grey copy, [272] bytes."""
    with Image.open(io.BytesIO(raw), formats=FORMATS) as picture:
        notes = dict(_notes(name, picture, section.checks))
        picture.draft("L", (2 * SIDE, 2 * SIDE))  # a JPEG is read at a fraction of its size, in a third of the time
        grey = upright_rgb(picture).convert("L")
    return Facts(hashlib.sha256(raw).digest(), _signature(grey), notes)


def fault(name: str, content: bytes, error: InputError) -> str:
    """The name of the finding that a picture is which cannot be read."""
    if error.code == "image_too_large":
        return "extreme_shape" if "sides" in error.message else "enormous"
    return "wrong_type" if _is_another(content) else "unreadable"


def alike(signatures: NDArray[np.generic], section: "Checks") -> Pairs:
    """Which of the signatures [N, 272] are of pictures that are nearly the same, [M, 2]; the lower number first."""
    hashes = np.ascontiguousarray(signatures[:, :HASHES]).view(np.uint64)
    greys = signatures[:, HASHES:].astype(np.float32)
    greys -= greys.mean(axis=1, keepdims=True)
    greys /= np.linalg.norm(greys, axis=1, keepdims=True) + 1e-6
    found = [_alike_in(hashes, greys, start) for start in range(0, len(hashes), BLOCK)]
    return np.concatenate([np.empty((0, 2), np.int64), *found])


def vectors(encoded: "Encoded") -> NDArray[np.float32]:
    """The features of each row's first view at length 1, [N, D]."""
    rows = encoded.table.column("features").combine_chunks()
    flat = rows.values.flatten().to_numpy().reshape(-1, rows.type.value_type.list_size)
    features = np.asarray(flat[rows.offsets.to_numpy()[:-1] - rows.offsets[0].as_py()], dtype=np.float32)
    return features / (np.linalg.norm(features, axis=1, keepdims=True) + np.float32(1e-12))


def _notes(name: str, picture: Image.Image, section: "Checks") -> Iterator[tuple[str, str]]:
    suffix = PurePosixPath(name).suffix.lower()
    kind = "JPEG" if picture.format == "MPO" else picture.format
    if kind != NAMES.get(suffix, kind):
        yield "wrong_type", f"{kind} called {suffix}"
    short, long = sorted(picture.size)
    size = f"{picture.width} x {picture.height} pixels"
    if short < section.smallest_side:
        yield "tiny", size
    if long > section.largest_side:
        yield "enormous", f"{size}; data.checks.largest_side is {section.largest_side:,}"
    if long > section.longest_shape * short:
        yield "extreme_shape", size
    if picture.mode not in USUAL_MODES or picture.has_transparency_data:
        transparent = ", transparent" if picture.has_transparency_data else ""
        yield "odd_mode", f"{picture.mode}{transparent}"
    orientation = picture.getexif().get(ExifTags.Base.Orientation, 1)
    if orientation in range(2, 9):
        yield "rotated", f"EXIF orientation {orientation}"


def _is_another(content: bytes) -> bool:
    """Whether this is no picture at all: a text, or a file of a kind that is well known."""
    start = content[:512]
    if not start or start.startswith(STARTS):
        return False
    if start.lstrip().startswith(tuple(OTHERS)):
        return True
    text = start.decode("utf-8", errors="replace").rstrip("\N{REPLACEMENT CHARACTER}")
    return all(character.isprintable() or character.isspace() for character in text)


def _signature(grey: Image.Image) -> NDArray[np.uint8]:
    across = np.asarray(grey.resize((9, 8), Image.Resampling.LANCZOS))
    pixels = np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.LANCZOS), dtype=np.float64)
    low = (_COSINES @ pixels @ _COSINES.T).ravel()
    bits = (across[:, 1:] > across[:, :-1], low > np.median(low[1:]))
    small = np.asarray(grey.resize((GREY, GREY), Image.Resampling.BOX))
    return np.concatenate([*(np.packbits(one) for one in bits), small.ravel()])


_COSINES = np.cos(np.pi * (2 * np.arange(SIDE)[None] + 1) * np.arange(8)[:, None] / (2 * SIDE))


def _alike_in(hashes: NDArray[np.uint64], greys: NDArray[np.float32], start: int) -> Pairs:
    """The pairs whose lower number is in the block that begins at `start`."""
    block, others = hashes[start : start + BLOCK], hashes[start:]
    differing = sum(np.bitwise_count(block[:, None, one] ^ others[None, :, one]) for one in (0, 1))
    pairs = np.argwhere(differing <= MOST_BITS)
    pairs = pairs[pairs[:, 0] < pairs[:, 1]] + start
    correlations = np.einsum("ij,ij->i", greys[pairs[:, 0]], greys[pairs[:, 1]])
    return pairs[correlations >= LEAST_CORRELATION]
