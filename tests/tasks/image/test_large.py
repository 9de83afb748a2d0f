"""Which pictures take long, by their headers."""

import io

import pytest
from PIL import Image

from flowerml.tasks import image, text


def png(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("1", (width, height)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(("size", "is_large"), [((4000, 3000), False), ((5000, 4000), True)])
def test_a_picture_is_large_by_its_pixels(size, is_large):
    assert image.is_large(png(*size)) is is_large


@pytest.mark.parametrize("content", [b"", b"rose", png(10, 10)[:20], b"\xff\xd8\xff" * 9])
def test_what_is_no_picture_is_not_large(content):
    assert not image.is_large(content)


def test_a_text_is_large_by_its_characters():
    assert text.is_large("a" * 200_000) and not text.is_large("a" * 100_000)
