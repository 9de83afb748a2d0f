"""Listing and reading the pictures of a source."""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from flowerml.data.layout import Listing, list_files, read_files
from flowerml.tasks.image.encoder.pictures import decode

if TYPE_CHECKING:
    from flowerml.tasks.image.sections import Data

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})


def listing(source: Path, section: "Data", *, labelled: bool = True) -> Listing:
    """Return the pictures of a folder or archive with one folder per class; raises DataError.

    Without `labelled` the classes are given elsewhere, and the files may be in any folders.
    """
    return list_files(source, suffixes=SUFFIXES, labelled=labelled, limits=section.limits.of_archives())


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
