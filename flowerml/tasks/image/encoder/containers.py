"""What a decoder needs of a picture file: its pixels, and how they are turned.

Pillow reads all metadata of a file before the pixels. It refuses whole pictures with a profile or comment above 1 MiB
(unless that is raised for the whole process), appends to comments and EXIF blocks in quadratic time, and follows EXIF
tags that together claim any amount of memory: 5,000 tags may name the same 30 MB. So the metadata is cut off before
Pillow opens a file, and only the orientation is read from it, here. Each function takes time proportional to the file.
"""

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from flowerml.core.errors import InputError

MAX_SEGMENTS = 200_000  # pieces of metadata; a picture of 4 GB in pieces of 64 kB has 65,000
MAX_CHUNKS = 1_000_000  # of a PNG; encoders write pixels in chunks of 8 kB or more
MAX_TABLES = 1_000  # of a JPEG before its first scan; encoders write 1 to 12
MAX_SCANNED = 20 * 89_478_485  # pixels of a JPEG times its scans; encoders write 1 to 14 scans
MAX_RLE_BYTES = 4 * 2**20  # of a run-length encoded BMP, which Pillow decodes in Python
MAX_TILES = 262_144  # of a TIFF; a strip for each row of a picture at the pixel limit would be 134,000
MAX_EXIF_TEXT = 4 * 2**20  # bytes of an EXIF or XMP text of a PNG, unpacked
ORIENTATION = 0x0112
UPRIGHT = 1

_EXIF, _XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
_XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
_PNG_EXIF, _PNG_XMP = b"Raw profile type exif", b"XML:com.adobe.xmp"
_PADDING = re.compile(rb"\xff+")
_SCAN_END = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_GIF_BLOCK = re.compile(rb"[!,;]")
_AVIF_EXIF_ITEM = re.compile(rb"(infe(?:\x02.{7}|\x03.{9}))Exif", re.DOTALL)


@dataclass(frozen=True)
class Container:
    """A file without its metadata, and its orientation from 1 to 8 as EXIF counts them (1: upright)."""

    content: bytes
    orientation: int = UPRIGHT


def without_metadata(raw: bytes) -> Container:
    """Return a picture file without metadata; other files, and formats whose metadata costs nothing, unchanged.

    Raises InputError for a structure that no encoder writes and that would take unbounded time or memory to decode.
    """
    if raw.startswith(b"\xff\xd8\xff"):
        return _jpeg(raw)
    if raw.startswith(b"\x89PNG\r\n\x1a\n"):
        return _png(raw)
    if raw.startswith((b"GIF87a", b"GIF89a")):
        return Container(_gif(raw))
    if raw.startswith(b"RIFF") and raw[8:12] == b"WEBP":
        chunks = dict(_riff_chunks(raw))
        return Container(raw, _orientation(chunks.get(b"EXIF"), chunks.get(b"XMP ")))
    if raw.startswith((b"II", b"MM")):
        return _tiff(raw)
    if raw.startswith(b"BM"):
        _check_bmp(raw)
    if raw[4:8] == b"ftyp":
        return Container(_avif(raw))
    return Container(raw)


def exif_orientation(exif: bytes) -> int | None:
    """Return the orientation in the first directory of an EXIF block; None where it has none, or is damaged.

    >>> exif_orientation(b"Exif\\0\\0MM\\0*" + struct.pack(">LHHHLHHL", 8, 1, 0x0112, 3, 1, 6, 0, 0))
    6
    """
    exif = exif.removeprefix(_EXIF)
    orientation: int | None = None
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    try:
        if order is None:
            return None
        (start,) = struct.unpack_from(f"{order}L", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, start)
        for at in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind, values = struct.unpack_from(f"{order}HHL", exif, at)
            if tag == ORIENTATION and values == 1 and kind in (3, 4):  # a short or a long
                (orientation,) = struct.unpack_from(order + {3: "H", 4: "L"}[kind], exif, at + 8)
    except struct.error:  # ends too early
        pass
    return orientation


def _orientation(exif: bytes | None, xmp: bytes | None) -> int:
    orientation = exif_orientation(exif) if exif else None
    if orientation is None and xmp and (match := _XMP_ORIENTATION.search(xmp)):
        orientation = int(match[1])
    return orientation if orientation is not None and 1 <= orientation <= 8 else UPRIGHT


def _jpeg(raw: bytes) -> Container:
    """Keep the tables, and of the metadata the two headers that name the color space: JFIF and Adobe's."""
    exif: list[bytes] = []
    xmp: bytes | None = None
    headers: dict[int, bytes] = {}
    tables: list[bytes] = []
    for marker, start, end in _jpeg_segments(raw):
        segment = raw[start:end]
        if marker == 0xDA:
            _check_scans(raw, start, tables)
            content = b"".join([b"\xff\xd8", *headers.values(), *tables, memoryview(raw)[start:]])
            return Container(content, _orientation(b"".join(exif), xmp))
        if marker == 0xE1 and segment.startswith(_EXIF, 4):
            exif.append(segment[10:] if exif else segment[4:])
        elif marker == 0xE1 and segment.startswith(_XMP, 4):
            xmp = segment[4 + len(_XMP) :]
        elif (marker == 0xE0 and segment.startswith(b"JFIF", 4)) or (
            marker == 0xEE and segment.startswith(b"Adobe", 4)
        ):
            headers[marker] = segment
        elif marker not in range(0xE0, 0xF0) and marker != 0xFE:
            tables.append(segment)
            _check_count(len(tables), MAX_TABLES, "tables before its pixels")
    return Container(b"\xff\xd8" + b"".join(tables))  # without pixels


def _jpeg_segments(raw: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield (marker, start, end) of each segment up to the first scan; what lies between segments is skipped."""
    at = 2
    for count in range(len(raw)):
        _check_count(count, MAX_SEGMENTS, "pieces of metadata")
        at = raw.find(b"\xff", at)
        if at < 0:
            return
        at = _PADDING.match(raw, at).end() - 1  # type: ignore[union-attr]
        marker = raw[at + 1] if at + 4 <= len(raw) else 0xD9
        if marker == 0xD9:
            return
        if marker in (0x00, 0x01) or marker in range(0xD0, 0xD8):  # without a length
            at += 2
            continue
        end = at + 2 if marker == 0xD8 else at + 2 + int.from_bytes(raw[at + 2 : at + 4])
        yield marker, at, end
        if marker == 0xDA:
            return
        at = max(end, at + 2)


def _check_scans(raw: bytes, first: int, tables: list[bytes]) -> None:
    """Refuse a progressive JPEG whose many scans, of a few bytes each, would each pass over all pixels."""
    frame = next((table for table in tables if 0xC0 <= table[1] <= 0xCF and table[1] not in (0xC4, 0xC8, 0xCC)), b"")
    pixels = int.from_bytes(frame[5:7]) * int.from_bytes(frame[7:9])
    most = max(1, MAX_SCANNED // max(1, pixels))
    if raw.count(b"\xff\xda", first) <= most:  # an upper bound: tables and thumbnails may hold these bytes too
        return
    at, scans = first, 0
    while match := _SCAN_END.search(raw, at):
        at, marker = match.start(), raw[match.start() + 1]
        if marker == 0xD9:
            return
        scans += marker == 0xDA
        if scans > most:
            raise InputError("image_too_large", f"a JPEG of more than {most:,} scans at this size; save it again")
        at += 2 + max(2, int.from_bytes(raw[at + 2 : at + 4]))


def _png(raw: bytes) -> Container:
    """Keep header, palette, transparency and pixels; of an animation the first frame."""
    exif: bytes | None = None
    texts: dict[bytes, bytes] = {}
    kept = [raw[:8]]
    pixels: list[bytes] = []
    is_open = True  # until another chunk follows those of the pixels; Pillow reads no later ones
    for kind, start, end in _png_chunks(raw):
        if kind == b"IDAT" and is_open:
            pixels.append(raw[start:end])
        elif pixels:
            is_open = False
        if kind in (b"IHDR", b"PLTE", b"tRNS"):
            if not pixels:
                kept.append(raw[start - 8 : end + 4])
        elif kind == b"eXIf":
            exif = raw[start:end]
        elif kind == b"tEXt" and raw.startswith(b"exif\0", start):
            exif = raw[start + 5 : end]
        elif kind in (b"tEXt", b"zTXt", b"iTXt") and raw.startswith((_PNG_EXIF, _PNG_XMP), start):
            texts.update(_png_text(kind, raw[start:end]))
    if exif is None and _PNG_EXIF in texts:
        exif = _from_hex(texts[_PNG_EXIF])
    # One chunk: an encoder may write 100,000 of them, and Pillow takes each apart. It doesn't look at their checksums.
    packed = b"".join(pixels)
    if pixels:
        kept += [struct.pack(">L", len(packed)), b"IDAT", packed, bytes(4)]
    return Container(b"".join([*kept, _PNG_END]), _orientation(exif, texts.get(_PNG_XMP)))


def _png_chunks(raw: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield (kind, start, end) of the data of each chunk; the last may end early."""
    at = 8
    for count in range(1, len(raw)):
        length, kind = int.from_bytes(raw[at : at + 4]), raw[at + 4 : at + 8]
        if len(kind) < 4 or not kind.isalpha():
            return
        at += 8
        yield kind, at, min(at + length, len(raw))
        if kind == b"IEND":
            return
        at += length + 4
        _check_count(count, MAX_CHUNKS, "chunks")


def _png_text(kind: bytes, data: bytes) -> dict[bytes, bytes]:
    """Return {key: text}; empty where the text is damaged or enormous."""
    key, _, text = data.partition(b"\0")
    is_packed = kind == b"zTXt"
    if kind == b"zTXt":
        text = text[1:]
    elif kind == b"iTXt":
        is_packed = text[:1] != b"\0"
        text = text[2:].split(b"\0", 2)[-1]  # after language and translated key
    if not is_packed:
        return {key: text}
    try:
        return {key: zlib.decompressobj().decompress(text, MAX_EXIF_TEXT)}
    except zlib.error:
        return {}


def _from_hex(text: bytes) -> bytes | None:
    try:
        return bytes.fromhex(b"".join(text.split(b"\n")[3:]).decode("ascii"))
    except ValueError:
        return None


def _gif(raw: bytes) -> bytes:
    """Keep the screen, its palette and the first frame with its transparency."""
    if len(raw) < 13:
        return raw
    at = 13 + (3 << (raw[10] & 7) + 1 if raw[10] & 0x80 else 0)
    screen, control, count = raw[:at], b"", 0
    while at < len(raw) and raw[at : at + 1] not in (b",", b";"):
        start = at
        at += 1
        if raw[start : start + 1] != b"!":
            match = _GIF_BLOCK.search(raw, at)
            at = match.start() if match else len(raw)
            continue
        at += 1
        while at < len(raw) and (length := raw[at]):
            at += 1 + length
            count += 1
        at += 1
        count += 1
        _check_count(count, MAX_SEGMENTS, "pieces of metadata")
        if at > len(raw):
            return raw[:0]
        if raw[start + 1] == 0xF9 and raw[start + 2] and raw[start + 3] & 1:  # names the transparent color
            control = raw[start:at]
    return screen + control + raw[at:]


def _check_bmp(raw: bytes) -> None:
    is_run_length = raw[30:34] in (b"\1\0\0\0", b"\2\0\0\0") and int.from_bytes(raw[14:18], "little") >= 40
    if is_run_length and len(raw) > MAX_RLE_BYTES:
        raise InputError("image_too_large", f"a run-length encoded BMP of over {MAX_RLE_BYTES:,} bytes; save it as PNG")


def _riff_chunks(raw: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the EXIF and XMP chunks of a WebP; of chunks of the same kind the first counts, so it comes last."""
    chunks, at = [], 12
    for count in range(1, len(raw)):
        kind, length = raw[at : at + 4], int.from_bytes(raw[at + 4 : at + 8], "little")
        if len(kind) < 4:
            break
        if kind in (b"EXIF", b"XMP "):
            chunks.append((kind, raw[at + 8 : at + 8 + length]))
        at += 8 + length + length % 2
        _check_count(count, MAX_SEGMENTS, "pieces of metadata")
    yield from reversed(chunks)


def _avif(raw: bytes) -> bytes:
    """Rename the EXIF item: Pillow parses it, although an AVIF's orientation is a property of its own."""
    at = 0
    while at + 8 <= len(raw):
        length = int.from_bytes(raw[at : at + 4])
        end = len(raw) if length == 0 else at + length
        if raw[at + 4 : at + 8] == b"meta":
            return raw[:at] + _AVIF_EXIF_ITEM.sub(rb"\1none", raw[at:end]) + raw[end:]
        if length in range(1, 8):
            break
        at = end
    return raw


# The tags that say where the pixels are and what they mean; 700 is XMP, from which Pillow reads the orientation.
_TIFF_TAGS = frozenset(
    {254, 255, 256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 284, 292, 293, 297, 317, 318, 319, 320}
    | {322, 323, 324, 325, 332, 334, 336, 338, 339, 340, 341, 347, 512, 513, 514, 515, 517, 518, 519, 520, 521}
    | {529, 530, 531, 532, 700, 50674}
)
_TIFF_TILES = (273, 279, 324, 325)  # where strips and tiles start, and how long they are
_TIFF_LONG = {320: 3 * 65_536, 347: 2**16, 519: 2**16, 520: 2**16, 521: 2**16, 700: 2**24}  # color map, tables, XMP
_TIFF_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}


def _tiff(raw: bytes) -> Container:
    """Empty the tags of the first directory that do not concern its pixels, and cut off the other directories.

    The tags that are left may claim as many bytes as the file has: each is read into memory.
    """
    order = "<" if raw.startswith(b"II") else ">"
    is_big = raw[2:4] in (b"+\0", b"\0+")
    head, width, form, first_value = (8, 8, f"{order}HHQ", 12) if is_big else (4, 2, f"{order}HHL", 8)
    entry = first_value + (8 if is_big else 4)
    start = _number(raw, order, head, entry - first_value)
    count = _number(raw, order, start, width)
    _check_count(count, 65_535, "tags")
    end = start + width + entry * count
    directory = bytearray(raw[start : end + entry - first_value])
    directory[width + entry * count :] = bytes(len(directory[width + entry * count :]))  # no next directory
    numbers = dict.fromkeys((256, 257, ORIENTATION, 322, 323), 1)
    claimed = 0
    for at in range(width, len(directory) - entry + 1, entry):
        tag, kind, values = struct.unpack_from(form, directory, at)
        if tag not in _TIFF_TAGS:
            directory[at + 4 : at + first_value] = bytes(first_value - 4)
            continue
        claimed += values * _TIFF_SIZES.get(kind, 0)
        _check_count(values, MAX_TILES if tag in _TIFF_TILES else _TIFF_LONG.get(tag, 256), f"values of tag {tag}")
        if tag in numbers:
            numbers[tag] = _number(directory, order, at + first_value, min(_TIFF_SIZES.get(kind, 1), 8))
    if claimed > len(raw):
        raise InputError("unreadable_image", "damaged: a TIFF whose tags claim more bytes than it has")
    # libtiff allocates whole tiles.
    if numbers[322] * numbers[323] > max(4 * numbers[256] * numbers[257], 4096 * 4096):
        raise InputError(
            "image_too_large", f"a TIFF with tiles of {numbers[322]} x {numbers[323]} pixels; save it again"
        )
    view = memoryview(raw)
    content = b"".join((view[:start], directory, view[start + len(directory) :]))
    return Container(content, numbers[ORIENTATION] if numbers[ORIENTATION] in range(1, 9) else UPRIGHT)


def _number(raw: bytes | bytearray, order: str, at: int, size: int) -> int:
    """Return an unsigned number; bytes that are missing count as none."""
    return int.from_bytes(raw[at : at + size], "little" if order == "<" else "big")


def _check_count(count: int, most: int, noun: str) -> None:
    if count > most:
        raise InputError("unreadable_image", f"more than {most:,} {noun}; save the picture again")
