"""The notebook's random transforms: rotation, random resized crop and horizontal flip, in Pillow."""

import math
import random

from PIL import Image

ASPECT = (3 / 4, 4 / 3)


def augmented(
    picture: Image.Image,
    *,
    size: tuple[int, int],
    rotation: float,
    smallest_crop: float,
    flip: bool,
    rng: random.Random,
) -> Image.Image:
    """A random view of an RGB picture, of `size` (width, height).

    Rotated by up to `rotation` degrees either way, then a part of at least `smallest_crop` of its area with sides
    of 3:4 to 4:3, then mirrored half of the time; drawn as torchvision's RandomRotation and RandomResizedCrop do,
    but for the middle square where ten tries find no part that fits.
    """
    turned = picture.rotate(rng.uniform(-rotation, rotation), Image.Resampling.BILINEAR) if rotation else picture
    box = _random_box(turned.size, smallest_crop, rng)
    view = turned.resize(size, Image.Resampling.BILINEAR, box=box)
    return view.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip and rng.random() < 0.5 else view


def _random_box(size: tuple[int, int], smallest: float, rng: random.Random) -> tuple[int, int, int, int]:
    width, height = size
    for _ in range(10):
        area = width * height * rng.uniform(smallest, 1)
        aspect = math.exp(rng.uniform(math.log(ASPECT[0]), math.log(ASPECT[1])))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            left, top = rng.randint(0, width - w), rng.randint(0, height - h)
            return left, top, left + w, top + h
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return left, top, left + side, top + side
