"""Metadata is no damage, costs nothing, and does not change a pixel."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from flowerml.core.errors import InputError
from flowerml.tasks.image.encoder.containers import without_metadata
from flowerml.tasks.image.encoder.pictures import decode
from tests.support.properties import few, in_time
from tests.tasks.image.test_pictures import file_bytes, noise

PICTURE = noise(60, 40)
PNG, JPEG, GIF = (file_bytes(PICTURE, file_format) for file_format in ("PNG", "JPEG", "GIF"))
TWENTY_MB = 20_000_000


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">L", len(data)) + kind + data + struct.pack(">L", zlib.crc32(kind + data))


def png_with(*chunks: bytes) -> bytes:
    return PNG[:33] + b"".join(chunks) + PNG[33:]


def png_with_text(*, packed: bool) -> bytes:
    text = PngImagePlugin.PngInfo()
    text.add_text("comment", "x" * 3_000_000, zip=packed)
    return file_bytes(PICTURE, pnginfo=text)


def exif_bomb() -> bytes:
    """EXIF whose 5,000 tags each claim the same 20 MB."""
    tags = b"".join(struct.pack(">HHLL", 1_000 + number, 7, TWENTY_MB, 8) for number in range(5_000))
    return b"MM\0*" + struct.pack(">LH", 8, 5_000) + tags + bytes(4 + TWENTY_MB)


def avif_with_bomb() -> bytes:
    """Pillow parses EXIF when it saves an AVIF too, so the bomb is put in afterwards."""
    bomb = exif_bomb()
    harmless = b"MM\0*" + struct.pack(">LH", 8, 0) + b"\1" * (len(bomb) - 10)
    raw = file_bytes(PICTURE, "AVIF", exif=b"Exif\0\0" + harmless, quality=100, subsampling="4:4:4")
    assert raw.count(harmless) == 1
    return raw.replace(harmless, bomb)


def tiff(*entries: tuple[int, int, int, int], size: tuple[int, int] = (60, 40), length: int = 100_000) -> bytes:
    width, height = size
    header = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (277, 3, 1, 1)]
    directory = b"".join(struct.pack("<HHLL", *entry) for entry in sorted([*header, *entries]))
    count = struct.pack("<H", len(header) + len(entries))
    return b"II*\0" + struct.pack("<L", 8) + count + directory + bytes(4 + length)


STRIP = [(273, 4, 1, 40_000), (278, 4, 1, 40), (279, 4, 1, 2_400)]


@pytest.mark.parametrize(
    "raw",
    [
        file_bytes(PICTURE, icc_profile=bytes(2_000_000)),
        png_with_text(packed=True),
        png_with_text(packed=False),
        png_with(chunk(b"iCCP", b"name\0\7nonsense"), chunk(b"pHYs", b""), chunk(b"sRGB", b"")),
        png_with(b"\0\0\0\4tEXtabcd\0\0\0\0"),
        png_with(chunk(b"eXIf", b"nonsense")),
        PNG[:-12] + b"\0\0\xff\xfftEXtcut short",
        png_with(chunk(b"acTL", b"")),
    ],
    ids=["profile", "packed text", "text", "odd chunks", "text checksum", "EXIF", "cut after the pixels", "animation"],
)
def test_png_metadata_is_no_damage(raw):
    np.testing.assert_array_equal(decode(raw), PICTURE)


def test_jpeg_metadata_is_no_damage():
    plain = decode(JPEG)
    for segment in (b"Exif\0\0nonsense", b"MPF\0nonsense", b"ICC_PROFILE\0\7", b"Photoshop 3.0\x008BIM"):
        for marker in range(0xE1, 0xEE):
            raw = JPEG[:2] + bytes([0xFF, marker]) + struct.pack(">H", len(segment) + 2) + segment + JPEG[2:]
            np.testing.assert_array_equal(decode(raw), plain)


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "AVIF"])
def test_pixels_equal_those_of_pillow(file_format):
    raw = file_bytes(PICTURE, file_format)
    np.testing.assert_array_equal(decode(raw), Image.open(io.BytesIO(raw)).convert("RGB"))


@pytest.mark.parametrize("key", ["Raw profile type exif", "XML:com.adobe.xmp"])
def test_orientation_in_a_large_packed_text(key):
    exif = Image.Exif()
    exif[0x0112] = 6
    hexed = "\nexif\n 1\n" + exif.tobytes().hex() + "\n" * 2_000_000
    xmp = '<x tiff:Orientation="6"/>' + " " * 2_000_000
    text = PngImagePlugin.PngInfo()
    text.add_itxt(key, hexed if key.startswith("Raw") else xmp, zip=True)
    np.testing.assert_array_equal(
        decode(file_bytes(PICTURE, pnginfo=text)), PICTURE.transpose(Image.Transpose.ROTATE_270)
    )


def test_first_frame_of_an_animated_png():
    raw = file_bytes(PICTURE, save_all=True, append_images=[noise(60, 40).rotate(180)])
    assert b"fdAT" in raw
    np.testing.assert_array_equal(decode(raw), PICTURE)


def test_second_page_of_a_tiff_is_not_read():
    raw = bytearray(file_bytes(PICTURE, "TIFF"))
    start = int.from_bytes(raw[4:8], "little")
    end = start + 2 + 12 * int.from_bytes(raw[start : start + 2], "little")
    raw[end : end + 4] = b"\xff\xff\xff\x7f"
    np.testing.assert_array_equal(decode(bytes(raw)), PICTURE)


def test_avif_metadata_is_cut_off():
    raw = file_bytes(PICTURE, "AVIF", exif=b"Exif\0\0MM\0*" + bytes(100), quality=100, subsampling="4:4:4")
    assert raw.count(b"Exif") == without_metadata(raw).content.count(b"Exif") + 1  # the type of the item
    np.testing.assert_allclose(decode(raw), PICTURE, atol=8)


def jpeg_with_scans(count: int) -> bytes:
    """A progressive JPEG of 4 million pixels whose last scan is repeated."""
    raw = file_bytes(Image.new("L", (2_000, 2_000), 9), "JPEG", progressive=True)
    last = raw.rindex(b"\xff\xda")
    return raw[:-2] + raw[last:-2] * count + b"\xff\xd9"


HOSTILE = {
    "EXIF bomb in PNG": lambda: (png_with(chunk(b"eXIf", exif_bomb())), None),
    "EXIF bomb in WebP": lambda: (file_bytes(PICTURE, "WEBP", exif=exif_bomb()), None),
    "EXIF bomb in AVIF": lambda: (avif_with_bomb(), None),
    "many EXIF blocks": lambda: (JPEG[:2] + b"\xff\xe1\0\x0aExif\0\0aa" * 190_000 + JPEG[2:], None),
    "many JPEG segments": lambda: (JPEG[:2] + b"\xff\xfe\0\2" * 300_000 + JPEG[2:], "unreadable_image"),
    "many JPEG tables": lambda: (JPEG[:2] + b"\xff\xdb\0\2" * 300_000 + JPEG[2:], "unreadable_image"),
    "JPEG of zeros": lambda: (JPEG[:20] + bytes(TWENTY_MB) + JPEG[20:], None),
    "JPEG of padding": lambda: (JPEG[:2] + b"\xff" * TWENTY_MB + JPEG[2:], None),
    "JPEG of many scans": lambda: (jpeg_with_scans(3_000), "image_too_large"),
    "GIF comment": lambda: (GIF[:781] + b"!\xfe" + (b"\xff" + bytes(255)) * 120_000 + b"\0" + GIF[781:], None),
    "GIF of nothing": lambda: (GIF[:781] + b"\0" * TWENTY_MB + GIF[781:], None),
    "many PNG chunks": lambda: (png_with(chunk(b"teSt", b"") * 1_100_000), "unreadable_image"),
    "text bomb": lambda: (
        png_with(chunk(b"zTXt", b"XML:com.adobe.xmp\0\0" + zlib.compress(bytes(300_000_000), 9))),
        None,
    ),
    "TIFF tags": lambda: (tiff(*STRIP, *((2_000 + n, 7, 19_000_000, 9) for n in range(3_000)), length=TWENTY_MB), None),
    "TIFF tags of the pixels": lambda: (
        tiff(*STRIP, *[(347, 7, 60_000, 9)] * 3, (700, 7, 90_000, 9), (700, 7, 90_000, 9)),
        "unreadable_image",
    ),
    "TIFF directories": lambda: (tiff(*STRIP, (34665, 4, 1, 8), (330, 4, 1, 8)), None),
    "TIFF of one-pixel tiles": lambda: (
        tiff(
            (322, 4, 1, 1),
            (323, 4, 1, 1),
            (324, 1, 19_000_000, 99),
            (325, 1, 1, 1),
            size=(4_300, 4_300),
            length=TWENTY_MB,
        ),
        "unreadable_image",
    ),
    "TIFF of a huge tile": lambda: (
        tiff((322, 4, 1, 40_000), (323, 4, 1, 40_000), (324, 4, 1, 999), (325, 4, 1, 9_999)),
        "image_too_large",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_metadata_ends_in_time(name):
    raw, code = HOSTILE[name]()  # 20 MB each: not made at import
    with in_time():
        try:
            assert decode(raw).size == (60, 40)
            refused = None
        except InputError as error:
            refused = error.code
    assert refused == code


def test_long_bmp_runs_are_refused():
    header = struct.pack("<LllHHLLllLL", 40, 900, 900, 1, 8, 1, 0, 0, 0, 256, 256)
    raw = b"BM" + struct.pack("<LHHL", 0, 0, 0, 1_078) + header + bytes(1_024) + b"\1\5" * 3_000_000
    with pytest.raises(InputError) as error:
        decode(raw)
    assert error.value.code == "image_too_large"


segments = st.lists(
    st.binary(max_size=60) | st.sampled_from([b"Exif\0\0MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0"]), max_size=8
)
kinds = st.lists(
    st.sampled_from([b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"eXIf", b"gAMA", b"cHRM", b"pHYs", b"acTL", b"fcTL"]),
    min_size=8,
)


@few
@given(kinds, segments)
def test_any_png_metadata_keeps_the_pixels(names, contents):
    raw = png_with(*(chunk(kind, content) for kind, content in zip(names, contents, strict=False)))
    decoded = decode(raw)
    assert sorted(decoded.size) == [40, 60]
    assert sorted(decoded.getdata()) == sorted(PICTURE.getdata())


@few
@given(st.lists(st.integers(0xE1, 0xED) | st.just(0xFE), min_size=8), segments)
def test_any_jpeg_metadata_keeps_the_pixels(markers, contents):
    parts = (
        bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content
        for marker, content in zip(markers, contents, strict=False)
    )
    decoded = decode(JPEG[:2] + b"".join(parts) + JPEG[2:])
    assert sorted(decoded.getdata()) == sorted(decode(JPEG).getdata())
