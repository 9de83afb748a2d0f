"""Which pictures a source holds, and whether they can be read."""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from flowerml.data.layout import Listing, list_files, read_files
from flowerml.tasks.image.encoder.pictures import decode

if TYPE_CHECKING:
    from flowerml.tasks.image.sections import Data

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})


def listing(source: Path, section: "Data", *, labelled: bool = True) -> Listing:
    """The pictures of a folder or archive with one folder per class; raises DataError.

    Not `labelled`: the classes stand elsewhere, and the files may be in any folders.
    """
    return list_files(source, suffixes=SUFFIXES, labelled=labelled, limits=section.limits.of_archives())


def contents(source: Path, section: "Data", wanted: Collection[str]) -> Iterator[tuple[str, bytes]]:
    """The bytes of the wanted pictures, in the order of the source."""
    return read_files(source, wanted=wanted, limits=section.limits.of_archives())


def read(raw: bytes, section: "Data") -> bytes:
    """The picture's bytes as they are, once they are known to be readable whole; raises InputError."""
    decode(raw, max_pixels=section.limits.pixels)
    return raw
