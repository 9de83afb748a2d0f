"""The pictures that are cached for training: small enough to keep, and large enough for what is drawn from them."""

import numpy as np
import pytest
from PIL import Image

from flowerml.tasks.image.encoder.pictures import Transform

HALF = (0.5, 0.5, 0.5)
CENTER = Transform(resize=32, crop=28, interpolation="bicubic", mean=HALF, std=HALF)
SQUASH = Transform(resize=32, crop=28, interpolation="bicubic", mean=HALF, std=HALF, fit="squash")


def picture(width: int, height: int) -> Image.Image:
    noise = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(noise)


@pytest.mark.parametrize(
    ("size", "stored"),
    [
        ((90, 64), (45, 32)),
        ((64, 90), (32, 45)),
        ((20, 24), (20, 24)),  # never enlarged
        ((32, 300), (32, 96)),  # the center of a strip
        ((20, 100), (20, 60)),
        ((33, 33), (32, 32)),
    ],
)
def test_sizes(size, stored):
    assert CENTER.stored(picture(*size)).size == CENTER.stored_size(*size) == stored


@pytest.mark.parametrize("size", [(90, 64), (64, 90), (20, 24), (32, 33), (641, 427)])
def test_the_plain_view_is_what_is_served(size):
    whole = picture(*size)
    np.testing.assert_array_equal(CENTER(CENTER.stored(whole)), CENTER(whole))


@pytest.mark.parametrize(("transform", "size"), [(CENTER, (400, 40)), (SQUASH, (90, 64))])
def test_no_other_plain_view_is_taken_for_it(transform, size):
    assert CENTER.same_of_stored(picture(90, 64)) and not transform.same_of_stored(picture(*size))


def test_the_shape_is_kept_where_the_network_squashes():
    assert SQUASH.stored(picture(90, 64)).size == (45, 32)


@pytest.mark.parametrize(("side", "resize"), [(28, 32), (56, 64), (14, 16)])
def test_another_size_keeps_the_share_that_is_cropped(side, resize):
    transform = CENTER.of_size(side)
    assert (transform.size, transform.resize) == ((side, side), resize)
