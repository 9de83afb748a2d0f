"""Random views of pictures for training, in Pillow: crops, flips, rotation, colors, erasing and RandAugment.

torchvision and timm have them too, but draw from generators that all threads share: what a picture becomes would depend
on which thread comes first, and no training could resume to the same bits. Here each view has its own `random.Random`.
"""

import math
import random
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps

from flowerml.tasks.image.encoder.augment import random_view

if TYPE_CHECKING:
    from flowerml.tasks.image.sections import TrainAugment

Bytes = NDArray[np.uint8]
Color = tuple[int, int, int]
Operation = Callable[[Image.Image, float, Color], Image.Image]

OPERATIONS = 2  # of RandAugment on each picture, as in the paper and in timm
ERASED_AREA = (0.02, 1 / 3)  # as in torchvision's RandomErasing and timm's
ERASED_ASPECT = (0.3, 10 / 3)


def training_view(
    picture: Bytes, section: "TrainAugment", *, size: tuple[int, int], fill: Color, rng: random.Random
) -> Bytes:
    """Return a random view of a picture [H, W, 3], of `size` (height, width); new areas have the color `fill`.

    >>> from flowerml.tasks.image.sections import TrainAugment
    >>> picture = np.zeros((70, 90, 3), np.uint8)
    >>> section = TrainAugment(vertical_flip=True, color=0.2, erase=0.5, randaugment=9)
    >>> training_view(picture, section, size=(24, 32), fill=(127, 127, 127), rng=random.Random(0)).shape
    (24, 32, 3)
    """
    view = random_view(
        Image.fromarray(picture),
        size=size[::-1],
        rotation=section.rotation,
        smallest_crop=section.smallest_crop,
        flip=section.flip,
        rng=rng,
    )
    if section.vertical_flip and rng.random() < 0.5:
        view = view.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    if section.randaugment:
        view = rand_augmented(view, section.randaugment, fill=fill, rng=rng)
    if section.color:
        for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
            view = enhance(view).enhance(1 + rng.uniform(-section.color, section.color))
    pixels: Bytes = np.array(view)
    if section.erase and rng.random() < section.erase:
        _erase(pixels, fill, rng)
    return pixels


def rand_augmented(picture: Image.Image, magnitude: float, *, fill: Color, rng: random.Random) -> Image.Image:
    """Return the picture after two of RandAugment's operations (Cubuk et al., 2020), of `magnitude` 0 to 10."""
    for operation in rng.choices(RANDAUGMENT, k=OPERATIONS):
        picture = operation(picture, rng.choice((-1, 1)) * magnitude / 10, fill)
    return picture


def _affine(a: float, b: float, c: float, d: float, e: float, f: float) -> Operation:
    """Return x' = (1 + a s) x + b s y + c s W, and y' alike, where s is the strength and W the width."""

    def operation(picture: Image.Image, strength: float, fill: Color) -> Image.Image:
        width, height = picture.size
        across = (1 + a * strength, b * strength, c * strength * width)
        down = (d * strength, 1 + e * strength, f * strength * height)
        return picture.transform(
            picture.size, Image.Transform.AFFINE, across + down, Image.Resampling.BILINEAR, fillcolor=fill
        )

    return operation


def _enhanced(enhance: Callable[[Image.Image], ImageEnhance._Enhance]) -> Operation:
    return lambda picture, strength, fill: enhance(picture).enhance(1 + 0.9 * strength)


# The space and the ranges of torchvision's RandAugment.
RANDAUGMENT: tuple[Operation, ...] = (
    lambda picture, strength, fill: picture,
    lambda picture, strength, fill: picture.rotate(30 * strength, Image.Resampling.BILINEAR, fillcolor=fill),
    _affine(0, 0.3, 0, 0, 0, 0),  # shear
    _affine(0, 0, 0, 0.3, 0, 0),
    _affine(0, 0, 150 / 331, 0, 0, 0),  # translate
    _affine(0, 0, 0, 0, 0, 150 / 331),
    _enhanced(ImageEnhance.Brightness),
    _enhanced(ImageEnhance.Color),
    _enhanced(ImageEnhance.Contrast),
    _enhanced(ImageEnhance.Sharpness),
    lambda picture, strength, fill: ImageOps.posterize(picture, 8 - round(4 * abs(strength))),
    lambda picture, strength, fill: ImageOps.solarize(picture, round(255 * (1 - abs(strength)))),
    lambda picture, strength, fill: ImageOps.autocontrast(picture),
    lambda picture, strength, fill: ImageOps.equalize(picture),
)


def _erase(pixels: Bytes, fill: Color, rng: random.Random) -> None:
    """Fill a random rectangle of a view [H, W, 3] (random erasing; Zhong et al., 2020)."""
    height, width, _ = pixels.shape
    area = height * width * rng.uniform(*ERASED_AREA)
    aspect = math.exp(rng.uniform(*map(math.log, ERASED_ASPECT)))
    rows, columns = min(height, round(math.sqrt(area * aspect))), min(width, round(math.sqrt(area / aspect)))
    top, left = rng.randint(0, height - rows), rng.randint(0, width - columns)
    pixels[top : top + rows, left : left + columns] = fill
