"""The encoding of a text's bytes: UTF-8, UTF-16 with a byte order mark, or an older one that is guessed."""

import codecs
from typing import BinaryIO

BYTE_ORDER_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
SAMPLE = 100_000  # bytes from which an older encoding is guessed; more take seconds and change nothing
PIECE = 2**20
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


class EncodingError(ValueError):
    """Bytes that are no text in a known encoding. The message continues a sentence: "binary data, not a text"."""


def decode(raw: bytes) -> str:
    """Return the text in some bytes; raises EncodingError.

    >>> decode(b"caf\\xe9"), decode("café".encode()), decode("café".encode("utf-16"))
    ('café', 'café', 'café')
    """
    encoding = _marked(raw)
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        if b"\0" in raw:
            raise EncodingError("binary data, not a text") from None
        return _decode_legacy(raw, error.start)
    if "\0" in text:
        raise EncodingError("binary data, not a text")
    return text


def detect(file: BinaryIO) -> str:
    """Return the encoding of a whole file, read a piece at a time; raises EncodingError.

    A file that is UTF-8 in most places is damaged, not of an older encoding, and the message names the first bad line.
    """
    piece = file.read(PIECE)
    encoding = _marked(piece)
    decoder = codecs.getincrementaldecoder(encoding)()
    lines, beyond_ascii = 1, 0
    while True:
        try:
            text = decoder.decode(piece, final=not piece)
        except UnicodeDecodeError as error:
            if encoding != "utf-8":
                raise EncodingError(f"not {encoding}, as its byte order mark says; save it as UTF-8") from None
            return _detect_legacy(error, lines, beyond_ascii)
        if "\0" in text:
            raise EncodingError("binary data, not a text")
        if not piece:
            return encoding
        lines += text.count("\n")
        beyond_ascii += _beyond_ascii(text)
        piece = file.read(PIECE)


def _marked(start: bytes) -> str:
    return next((name for mark, name in BYTE_ORDER_MARKS.items() if start.startswith(mark)), "utf-8")


def _decode_legacy(raw: bytes, bad: int) -> str:
    try:
        return raw.decode(_guess(raw, bad))
    except UnicodeDecodeError:
        raise EncodingError("expected a text, found an unknown encoding; save it as UTF-8") from None


def _detect_legacy(error: UnicodeDecodeError, lines: int, beyond_ascii: int) -> str:
    piece, bad = error.object, error.start
    if b"\0" in piece:
        raise EncodingError("binary data, not a text")
    lenient = piece.decode(errors="replace")
    if beyond_ascii + _beyond_ascii(lenient.replace(REPLACEMENT, "")) > lenient.count(REPLACEMENT):
        line = lines + piece[:bad].count(b"\n")
        raise EncodingError(f"line {line:,} is not UTF-8, although other lines are; save the whole file as UTF-8")
    return _guess(piece, bad)


def _beyond_ascii(text: str) -> int:
    return len(text) - len(text.encode("ascii", errors="ignore"))


def _guess(raw: bytes, bad: int) -> str:
    """Return the guess of charset-normalizer for bytes of which those at `bad` are the first that are not UTF-8."""
    from charset_normalizer import from_bytes

    # Before the bad bytes all encodings look alike, so they must be in the sample.
    start = 0 if bad < SAMPLE else bad - SAMPLE // 2
    sample = raw[start : start + SAMPLE]
    # Try Western European first: a few accents do not distinguish it from similar encodings.
    best = from_bytes(sample, cp_isolation=["cp1252"]).best() or from_bytes(sample).best()
    return best.encoding if best else "ascii"
