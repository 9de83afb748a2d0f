"""Problems of a picture, and pictures that are nearly the same.

Near duplicates are found by two perceptual hashes of 64 bits, compared by their Hamming distance: dHash (does a pixel
get brighter to the right? N. Krawetz, "Kind of Like That", 2013) and pHash (is a low frequency above the median?
C. Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010). Small gray copies must confirm
them. The hashes are eight lines of NumPy; imagehash, which has them too, would add PyWavelets.
"""

import hashlib
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from flowerml.core.errors import InputError
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

Pairs = NDArray[np.int64]


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


def near_duplicates(signatures: NDArray[np.generic], section: "Checks") -> Pairs:
    """Return the pairs [M, 2] of signatures [N, 272] whose pictures are nearly the same, lower row first."""
    hashes = np.ascontiguousarray(signatures[:, :HASH_BYTES]).view(np.uint64)
    copies = signatures[:, HASH_BYTES:].astype(np.float32)
    copies -= copies.mean(axis=1, keepdims=True)
    copies /= np.linalg.norm(copies, axis=1, keepdims=True) + 1e-6
    pairs = [_near_duplicates_of_block(hashes, copies, start) for start in range(0, len(hashes), BLOCK)]
    return np.concatenate([np.empty((0, 2), np.int64), *pairs])


def vectors(encoded: "Encoded") -> NDArray[np.float32]:
    """Return the features of each row's first view, scaled to length 1, [N, D]."""
    rows = encoded.table.column("features").combine_chunks()
    flat = rows.values.flatten().to_numpy().reshape(-1, rows.type.value_type.list_size)
    features = np.asarray(flat[rows.offsets.to_numpy()[:-1] - rows.offsets[0].as_py()], dtype=np.float32)
    return features / (np.linalg.norm(features, axis=1, keepdims=True) + np.float32(1e-12))


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


def _near_duplicates_of_block(hashes: NDArray[np.uint64], copies: NDArray[np.float32], start: int) -> Pairs:
    """Return the pairs whose lower row is in the block that begins at `start`."""
    block, candidates = hashes[start : start + BLOCK], hashes[start:]
    distances = sum(np.bitwise_count(block[:, None, column] ^ candidates[None, :, column]) for column in (0, 1))
    pairs = np.argwhere(distances <= MAX_DISTANCE)
    pairs = pairs[pairs[:, 0] < pairs[:, 1]] + start
    correlations = np.einsum("ij,ij->i", copies[pairs[:, 0]], copies[pairs[:, 1]])
    return pairs[correlations >= MIN_CORRELATION]
