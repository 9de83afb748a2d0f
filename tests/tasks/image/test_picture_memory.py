"""Pictures of every mode and format are decoded within a bound on bytes, measured in another process."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from flowerml.core.errors import InputError
from flowerml.tasks.image.encoder import pictures
from flowerml.tasks.image.encoder.pictures import BYTES_PER_PIXEL, COSTLY_FORMATS, decode
from tests.tasks.image.test_pictures import file_bytes

SIDE = 3_000
SPARE = 16 * 2**20  # bytes for strips, allocators and codecs
FILES = 3  # copies of a file in memory
PROGRAM = """
import json, sys
from pathlib import Path
from flowerml.tasks.image.encoder.pictures import decode

def memory(line):
    return int(next(l for l in Path("/proc/self/status").read_text().splitlines() if l.startswith(line)).split()[1])

peaks = {}
for file in sorted(Path(sys.argv[1]).iterdir()):
    content = file.read_bytes()
    decode(Path(sys.argv[2]).read_bytes())  # codecs and plugins are loaded
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak
    before = memory("VmRSS")
    picture = decode(content)
    assert (picture.mode, picture.size) == ("RGB", (3000, 3000))
    peaks[file.name] = 1024 * (memory("VmHWM") - before)
    del picture
print(json.dumps(peaks))
"""

Picture = tuple[Callable[["Sources"], Image.Image], str, dict[str, Any]]


class Sources:
    """The large pictures that others are made of."""

    def __init__(self) -> None:
        self.gray = Image.linear_gradient("L").resize((SIDE, SIDE))
        self.colors = Image.merge("RGB", [self.gray, self.gray.rotate(90), self.gray.rotate(180)])
        self.palette = self.colors.quantize(16)
        self.sixteen_bits = Image.fromarray(np.asarray(self.gray).astype(np.uint16) * 257)


ROTATED = Image.Exif()
ROTATED[0x0112] = 6
# Made by the fixture, as making them takes seconds and the tests of other files are collected by the same process.
PICTURES: dict[str, Picture] = {
    "1": (lambda of: of.gray.convert("1"), "PNG", {}),
    "L": (lambda of: of.gray, "PNG", {}),
    "LA": (lambda of: of.gray.convert("LA"), "PNG", {}),
    "P": (lambda of: of.palette, "PNG", {}),
    "P transparent": (lambda of: of.palette, "PNG", {"transparency": 3}),
    "P GIF": (lambda of: of.palette, "GIF", {"transparency": 3}),
    "RGB": (lambda of: of.colors, "PNG", {}),
    "RGB rotated": (lambda of: of.colors, "PNG", {"exif": ROTATED}),
    "RGBA": (lambda of: of.colors.convert("RGBA"), "PNG", {}),
    "RGBA TIFF of one strip": (
        lambda of: of.colors.convert("RGBA"),
        "TIFF",
        {"compression": "tiff_lzw", "strip_size": 2**30},
    ),
    "I;16": (lambda of: of.sixteen_bits, "PNG", {}),
    "I": (lambda of: of.gray.convert("I"), "TIFF", {"compression": "tiff_adobe_deflate"}),
    "F": (lambda of: of.gray.convert("F"), "TIFF", {"compression": "tiff_adobe_deflate"}),
    "CMYK": (lambda of: of.colors.convert("CMYK"), "JPEG", {"progressive": True}),
    "YCbCr": (lambda of: of.colors.convert("YCbCr"), "TIFF", {"compression": "jpeg"}),
    "LAB": (lambda of: Image.merge("LAB", of.colors.split()), "TIFF", {"compression": "tiff_adobe_deflate"}),
    "JPEG progressive": (lambda of: of.colors, "JPEG", {"progressive": True, "subsampling": 0}),
    "JPEG rotated": (lambda of: of.colors, "JPEG", {"exif": ROTATED}),
    "BMP": (lambda of: of.gray, "BMP", {}),
    "WEBP": (lambda of: of.colors, "WEBP", {"method": 0}),
    "WEBP with alpha": (
        lambda of: of.colors.convert("RGBA"),
        "WEBP",
        {"lossless": True, "method": 0, "quality": 0, "exact": True},
    ),
    "AVIF": (lambda of: of.colors, "AVIF", {"speed": 10, "subsampling": "4:4:4"}),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    folder, sources = tmp_path_factory.mktemp("pictures"), Sources()
    for name, (make, file_format, options) in PICTURES.items():
        (folder / name).write_bytes(file_bytes(make(sources), file_format, **options))
    return folder


@pytest.fixture(scope="module")
def peaks(files) -> dict[str, int]:
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("needs the memory counters of Linux")
    command = [sys.executable, "-c", PROGRAM, files, files / "AVIF"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.extended
@pytest.mark.parametrize("name", PICTURES)
def test_memory_of_each_mode_is_bounded(files, peaks, name):
    per_pixel = COSTLY_FORMATS.get(PICTURES[name][1], BYTES_PER_PIXEL)
    size = (files / name).stat().st_size
    assert peaks[name] < per_pixel * SIDE**2 + FILES * size + SPARE, f"{peaks[name] / SIDE**2:.1f} bytes a pixel"


def test_costly_formats_have_fewer_pixels(monkeypatch):
    """The bound is on bytes: a WebP may have three quarters of the pixels of a JPEG."""
    monkeypatch.setattr(pictures, "MAX_BYTES", 12 * 1_000)
    square = Image.new("RGB", (30, 30))
    assert decode(file_bytes(square, "JPEG"), max_pixels=1_000).size == (30, 30)
    with pytest.raises(InputError) as error:
        decode(file_bytes(square, "WEBP"), max_pixels=1_000)
    assert error.value.code == "image_too_large"
    assert error.value.message == (
        "a WEBP of 30 x 30 pixels takes 14,400 bytes to decode, expected at most 12,000; save it as JPEG or smaller"
    )


def test_strips_are_not_seen(monkeypatch):
    """Each mode that is converted in strips gives the pixels of the whole."""
    noise = Image.effect_noise((37, 29), 80)
    modes = [noise.convert("LA"), noise.convert("RGBA"), noise.convert("I"), noise.convert("F")]
    whole = [decode(picture).tobytes() for picture in modes]
    monkeypatch.setattr(pictures, "STRIP_PIXELS", 100)
    assert [decode(picture).tobytes() for picture in modes] == whole
