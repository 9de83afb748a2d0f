"""Listing and reading the pictures of a source."""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import features

from flowerml.data.layout import Listing, list_files, read_files
from flowerml.tasks.image.encoder.pictures import decode

if TYPE_CHECKING:
    from flowerml.tasks.image.sections import Data

# Chrome and Edge save JPEGs as .jfif on Windows.
SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
    | ({".avif"} if features.check("avif") else set())
)
NOT_READ: Mapping[str, str] = {
    suffix: f"{suffix} pictures are not read: save them as JPEG or PNG"
    for suffix in (
        *(".heic", ".heif", ".hif", ".jxl", ".jp2", ".j2k", ".svg", ".psd", ".ico", ".ppm", ".pgm", ".tga", ".avif"),
        *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf"),
    )
    if suffix not in SUFFIXES
}


def listing(source: Path, section: "Data", *, labelled: bool = True) -> Listing:
    """Return the pictures of a folder or archive with one folder per class; raises DataError.

    Without `labelled` the classes are given elsewhere, and the files may be in any folders.
    """
    limits = section.limits.of_archives()
    return list_files(source, suffixes=SUFFIXES, labelled=labelled, limits=limits, reasons=NOT_READ)


def contents(source: Path, section: "Data", wanted: Collection[str]) -> Iterator[tuple[str, bytes]]:
    """Yield (id, bytes) of the wanted pictures, in the order of the source."""
    return read_files(source, wanted=wanted, limits=section.limits.of_archives())


def read(raw: bytes, section: "Data") -> bytes:
    """Return the bytes of a picture unchanged, after decoding it once to check them; raises InputError."""
    decode(raw, max_pixels=section.limits.pixels)
    return raw


def recognizes(content: bytes) -> bool:
    """Return whether bytes may be a picture: those of one are never UTF-8."""
    try:
        content.decode()
    except UnicodeDecodeError:
        return True
    return False
