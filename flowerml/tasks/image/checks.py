"""Problems of a picture, and pictures that are nearly the same.

Near duplicates are found by two perceptual hashes of 64 bits, compared by their Hamming distance: dHash (does a pixel
get brighter to the right? N. Krawetz, "Kind of Like That", 2013) and pHash (is a low frequency above the median?
C. Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010). Small gray copies must confirm
them. The hashes are eight lines of NumPy; imagehash, which has them too, would add PyWavelets. Up to EXACT_ROWS
pictures all pairs are compared, beyond it those that sort together.
"""

import hashlib
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from flowerml.core.errors import InputError
from flowerml.engine import similar
from flowerml.engine.similar import Components, Pairs, Similar
from flowerml.tasks.image.encoder.pictures import PICTURE_STARTS, TRANSPOSE, Loaded, load
from flowerml.tasks.records import Inspection

if TYPE_CHECKING:
    from flowerml.data.encodings import Encoded
    from flowerml.tasks.image.sections import Checks, Data

FORMAT_OF_SUFFIX = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".png": "PNG",
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".gif": "GIF",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".avif": "AVIF",
}
OTHER_STARTS = (b"%PDF", b"PK\3\4", b"\x1f\x8b", b"<svg")  # PDF, zip, gzip, SVG
USUAL_MODES = ("RGB", "L")
DCT_SIDE = 32  # pixels of the gray copy whose cosine transform is hashed
COPY_SIDE = 16  # pixels of the gray copy in a signature
HASH_BYTES = 16  # of both hashes in a signature
# Both limits were chosen by eye on the 8,189 photographs of flowers102. Of the 41 pairs within them, 39 show the same
# photograph or the same flower a moment later, two perhaps only flowers of one plant. By the hashes alone a white daisy
# would be a duplicate of a thorn apple.
MAX_DISTANCE = 20  # bits in which both hashes together differ
MIN_CORRELATION = 0.88  # of the gray copies
BLOCK = 256  # signatures compared with all later ones at once, to bound memory
CONFIRMED_AT_ONCE = 4096  # pairs of gray copies in memory


def digest(content: bytes, section: "Data") -> bytes | None:
    """Return the SHA-256 of a file; None for an empty file and for what is no picture at all."""
    return None if not content or _is_other_type(content) else hashlib.sha256(content).digest()


def inspect(name: str, raw: bytes, section: "Data") -> Inspection:
    """Return the problems of a readable picture, and its signature [272] bytes: two hashes and a gray copy."""
    # Decodes a JPEG at a fraction of its size: 3 times as fast.
    loaded = load(raw, draft=("L", (2 * DCT_SIDE, 2 * DCT_SIDE)))
    notes = dict(_notes(name, loaded, section.checks))
    return Inspection(hashlib.sha256(raw).digest(), _signature(loaded.upright("L")), notes)


def classify_error(name: str, content: bytes, error: InputError) -> str:
    """Return the finding name for an unreadable picture."""
    if error.code == "image_too_large":
        return "extreme_shape" if "sides" in error.message else "enormous"
    return "wrong_type" if _is_other_type(content) else "unreadable"


def near_duplicates(signatures: NDArray[np.generic], section: "Checks") -> Similar:
    """Return the groups of signatures [N, 272] whose pictures are nearly the same."""
    pixels = np.asarray(signatures, dtype=np.uint8)
    hashes = np.ascontiguousarray(pixels[:, :HASH_BYTES]).view(np.uint64)
    components = Components(len(hashes))
    if len(hashes) <= similar.EXACT_ROWS:
        for start in range(0, len(hashes), BLOCK):
            pairs = components.separate(_pairs_of_block(hashes, start))
            components.join(pairs[_look_alike(pixels, pairs)])
        return Similar(components.groups())
    crowded = similar.sorted_neighbors(
        hashes, lambda pairs: _look_alike(pixels, pairs), components, largest_distance=MAX_DISTANCE
    )
    return Similar(components.groups(), len(hashes), similar.told(crowded, "pictures"))


class Features:
    """The features of each row's first view, scaled to length 1: `features[rows]` reads some, [len(rows), D]."""

    def __init__(self, encoded: "Encoded") -> None:
        self._rows = encoded.row_values(None, "features")

    @property
    def shape(self) -> tuple[int, int]:
        """The number of rows, and D."""
        return len(self._rows), self._rows.first(np.arange(min(1, len(self._rows)))).shape[1]

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> NDArray[np.float32]:
        features = np.asarray(self._rows.first(np.arange(len(self._rows))[rows]), dtype=np.float32)
        features /= np.linalg.norm(features, axis=1, keepdims=True) + np.float32(1e-12)
        return features


def vectors(encoded: "Encoded") -> Features:
    """Return the features of each row's first view, scaled to length 1, [N, D]."""
    return Features(encoded)


def _notes(name: str, loaded: Loaded, section: "Checks") -> Iterator[tuple[str, str]]:
    picture, (width, height) = loaded.picture, loaded.size
    suffix = PurePosixPath(name).suffix.lower()
    file_format = "JPEG" if picture.format == "MPO" else picture.format
    if file_format != FORMAT_OF_SUFFIX.get(suffix, file_format):
        yield "wrong_type", f"{file_format} called {suffix}"
    short, long = sorted(loaded.size)
    size = f"{width} x {height} pixels"
    if short < section.smallest_side:
        yield "tiny", size
    if long > section.largest_side:
        yield "enormous", f"{size}; data.checks.largest_side is {section.largest_side:,}"
    if long > section.longest_shape * short:
        yield "extreme_shape", size
    if loaded.mode not in USUAL_MODES or picture.has_transparency_data:
        transparent = ", transparent" if picture.has_transparency_data else ""
        yield "odd_mode", f"{loaded.mode}{transparent}"
    if loaded.orientation in TRANSPOSE:
        yield "rotated", f"EXIF orientation {loaded.orientation}"


def _is_other_type(content: bytes) -> bool:
    """Return whether this is no picture at all: a text, or a file of another well-known type."""
    start = content[:512]
    if not start or start.startswith(PICTURE_STARTS):
        return False
    if start.lstrip().startswith(OTHER_STARTS):
        return True
    text = start.decode("utf-8", errors="replace").rstrip("\N{REPLACEMENT CHARACTER}")
    return all(character.isprintable() or character.isspace() for character in text)


def _signature(gray: Image.Image) -> NDArray[np.uint8]:
    row_pixels = np.asarray(gray.resize((9, 8), Image.Resampling.LANCZOS))
    pixels = np.asarray(gray.resize((DCT_SIDE, DCT_SIDE), Image.Resampling.LANCZOS), dtype=np.float64)
    low_frequencies = (_COSINES @ pixels @ _COSINES.T).ravel()
    dhash = row_pixels[:, 1:] > row_pixels[:, :-1]
    phash = low_frequencies > np.median(low_frequencies[1:])  # the first one is the mean brightness
    small_copy = np.asarray(gray.resize((COPY_SIDE, COPY_SIDE), Image.Resampling.BOX))
    return np.concatenate([np.packbits(dhash), np.packbits(phash), small_copy.ravel()])


# The first 8 rows of the DCT-II, unscaled.
_COSINES = np.cos(np.pi * (2 * np.arange(DCT_SIDE)[None] + 1) * np.arange(8)[:, None] / (2 * DCT_SIDE))


def _pairs_of_block(hashes: NDArray[np.uint64], start: int) -> Pairs:
    """Return the pairs with close hashes whose lower row is in the block that begins at `start`."""
    block, candidates = hashes[start : start + BLOCK], hashes[start:]
    distances = sum(np.bitwise_count(block[:, None, column] ^ candidates[None, :, column]) for column in (0, 1))
    pairs = np.argwhere(distances <= MAX_DISTANCE)
    return pairs[pairs[:, 0] < pairs[:, 1]] + start


def _look_alike(signatures: NDArray[np.uint8], pairs: Pairs) -> NDArray[np.bool_]:
    """Return which pairs [M, 2] have gray copies of a high correlation, [M]."""
    alike = np.zeros(len(pairs), dtype=bool)
    for start in range(0, len(pairs), CONFIRMED_AT_ONCE):
        part = slice(start, start + CONFIRMED_AT_ONCE)
        first, second = (_standardized(signatures[pairs[part, side], HASH_BYTES:]) for side in (0, 1))
        alike[part] = np.einsum("ij,ij->i", first, second) >= MIN_CORRELATION
    return alike


def _standardized(copies: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return gray copies [M, 256] with mean 0 and length 1."""
    values = copies.astype(np.float32)
    values -= values.mean(axis=1, keepdims=True)
    values /= np.linalg.norm(values, axis=1, keepdims=True) + 1e-6
    return values
