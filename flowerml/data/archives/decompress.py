"""Files compressed by gzip, bzip2, xz or lzma, decompressed a piece at a time in little memory.

The readers of the standard library (gzip.open and others) do not bound the memory of an .xz, and gzip's refuses the
bytes that some tools append to a stream.
"""

import io
import lzma
import zlib
from bz2 import BZ2Decompressor
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from flowerml.core.display import display_path, format_size
from flowerml.core.errors import DataError

PIECE = 2**17  # bytes unpacked at a time
DICTIONARY_BYTES = 2**29  # of memory for an .xz; xz -9 needs 65 MiB


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Gzip:
    """zlib's decompressor with the interface of bz2's and lzma's."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max_length)


_XZ: Callable[[], _Decompressor] = partial(lzma.LZMADecompressor, memlimit=DICTIONARY_BYTES)
_DECOMPRESSORS: dict[bytes, Callable[[], _Decompressor]] = {
    b"\x1f\x8b": _Gzip,
    b"BZh": BZ2Decompressor,
    b"\xfd7zXZ\x00": _XZ,
    b"]\x00\x00": _XZ,  # .lzma, its predecessor
}


def is_packed(start: bytes) -> bool:
    """Return whether a file that starts with these bytes is compressed by gzip, bzip2, xz or lzma."""
    return start.startswith(tuple(_DECOMPRESSORS))


class Unpacked(io.RawIOBase):
    """The decompressed bytes of a file, which may hold several compressed streams, as parallel packers write them.

    Reading raises the decompressor's own error, or EOFError, where the file is damaged.

    >>> import gzip
    >>> Unpacked(io.BytesIO(gzip.compress(b"rose") + gzip.compress(b" tulip"))).read()
    b'rose tulip'
    """

    def __init__(self, file: BinaryIO) -> None:
        self._pieces = _pieces(file)
        self._piece = memoryview(b"")

    def readable(self) -> bool:
        return True

    def peek(self, size: int) -> bytes:
        """Return the next `size` bytes, or as many as there are, without consuming them."""
        while len(self._piece) < size and (more := next(self._pieces, b"")):
            self._piece = memoryview(bytes(self._piece) + more)
        return bytes(self._piece[:size])

    def readinto(self, target: Any) -> int:
        if not self._piece:
            self._piece = memoryview(next(self._pieces, b""))
        count = min(len(target), len(self._piece))
        target[:count] = self._piece[:count]
        self._piece = self._piece[count:]
        return count


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    data = file.read(PIECE)
    magic = next(magic for magic in _DECOMPRESSORS if data.startswith(magic))
    # Bytes behind the last stream are ignored, as by the tools: a tar has an end mark of its own.
    while data.startswith(magic):
        decompressor = _DECOMPRESSORS[magic]()
        while not decompressor.eof:
            if decompressor.needs_input and not data:
                data = file.read(PIECE)
            # A decompressor without further input may still hold output.
            is_at_end = decompressor.needs_input and not data
            piece = _piece(decompressor, data, file)
            data = b""
            if piece:
                yield piece
            elif is_at_end:
                raise EOFError("its last compressed bytes are missing")
        data = _without_padding(file, decompressor.unused_data, len(magic))


def _piece(decompressor: _Decompressor, data: bytes, file: BinaryIO) -> bytes:
    try:
        return decompressor.decompress(data, PIECE)
    except lzma.LZMAError as error:
        if "limit" not in str(error):
            raise
        raise DataError(
            f"{display_path(Path(file.name))}: unpacking this .xz takes more than {format_size(DICTIONARY_BYTES)} of "
            "memory; pack it with a smaller dictionary, or as .tar.gz"
        ) from error


def _without_padding(file: BinaryIO, data: bytes, enough: int) -> bytes:
    while len(data := data.lstrip(b"\0")) < enough and (more := file.read(PIECE)):
        data += more
    return data
