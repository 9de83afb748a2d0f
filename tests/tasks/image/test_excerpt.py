"""Small copies of pictures: their size, and that nothing of the file but its pixels goes with them."""

import io

import pytest
from PIL import Image

from flowerml.core.errors import InputError
from flowerml.tasks.image.excerpt import excerpt


def jpeg(size, **options):
    buffer = io.BytesIO()
    Image.effect_noise(size, 80).convert("RGB").save(buffer, "JPEG", **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("size", "small"), [((800, 400), (384, 192)), ((300, 900), (128, 384)), ((40, 30), (40, 30)), ((9, 900), (4, 384))]
)
def test_sides_are_bounded(size, small):
    assert Image.open(io.BytesIO(excerpt(jpeg(size)))).size == small


def test_place_is_not_copied():
    exif = Image.Exif()
    exif[0x9286] = "taken at home"
    raw = jpeg((300, 300), exif=exif, comment=b"at home")
    assert b"at home" in raw
    assert b"at home" not in excerpt(raw)


def test_flat_picture_is_exact():
    buffer = io.BytesIO()
    Image.new("RGB", (28, 28), (1, 2, 3)).save(buffer, "PNG")
    copy = Image.open(io.BytesIO(excerpt(buffer.getvalue())))
    assert (copy.format, copy.getpixel((5, 5))) == ("PNG", (1, 2, 3))


def test_broken_picture_is_refused():
    with pytest.raises(InputError):
        excerpt(jpeg((300, 300))[:300])
