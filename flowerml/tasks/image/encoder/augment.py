"""The notebook's random transforms: rotation, random resized crop and horizontal flip, in Pillow.

torchvision has them too, but decoding here gives Pillow images, and one `random.Random` a view makes a view
reproducible on its own, whatever thread draws it.
"""

import math
import random

from PIL import Image

ASPECT = (3 / 4, 4 / 3)


def random_view(
    picture: Image.Image,
    *,
    size: tuple[int, int],
    rotation: float,
    smallest_crop: float,
    flip: bool,
    rng: random.Random,
) -> Image.Image:
    """Return a random view of an RGB picture, of `size` (width, height).

    It is rotated by up to `rotation` degrees either way, cropped to at least `smallest_crop` of its area with an aspect
    ratio of 3:4 to 4:3, and mirrored half of the time. Draws follow torchvision's RandomRotation, RandomResizedCrop
    and RandomHorizontalFlip, except that the crop is the center square where ten draws do not fit.

    >>> random_view(
    ...     Image.new("RGB", (90, 70)),
    ...     size=(32, 24),
    ...     rotation=30.0,
    ...     smallest_crop=0.5,
    ...     flip=True,
    ...     rng=random.Random(0),
    ... ).size
    (32, 24)
    """
    rotated = picture.rotate(rng.uniform(-rotation, rotation), Image.Resampling.BILINEAR) if rotation else picture
    box = _random_box(rotated.size, smallest_crop, rng)
    view = rotated.resize(size, Image.Resampling.BILINEAR, box=box)
    return view.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip and rng.random() < 0.5 else view


def _random_box(size: tuple[int, int], smallest_crop: float, rng: random.Random) -> tuple[int, int, int, int]:
    width, height = size
    for _ in range(10):
        area = width * height * rng.uniform(smallest_crop, 1)
        aspect = math.exp(rng.uniform(math.log(ASPECT[0]), math.log(ASPECT[1])))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            left, top = rng.randint(0, width - w), rng.randint(0, height - h)
            return left, top, left + w, top + h
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return left, top, left + side, top + side
