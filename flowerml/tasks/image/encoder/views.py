"""What the backbones read of an example: its plain view and, of a training picture, random ones."""

import random
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from flowerml.tasks.image.encoder.augment import random_view
from flowerml.tasks.image.encoder.pictures import Pixels
from flowerml.tasks.image.encoder.preprocessing import Preprocessing

if TYPE_CHECKING:
    from flowerml.data.examples import Example
    from flowerml.tasks.image.sections import Encode

Numbered = tuple[int, "Example"]


class Views:
    """Decodes examples and draws their views, in any thread; keeps the pictures to cache until they are taken.

    View 0 is the evaluation transform; training examples get `views - 1` random ones too, each drawn from the section's
    seed, the picture's bytes and the view's number.
    """

    def __init__(self, preprocessing: Preprocessing, section: "Encode", *, keeps_pictures: bool) -> None:
        self._preprocessing, self._section, self._keeps_pictures = preprocessing, section, keeps_pictures
        self._kept: dict[int, NDArray[np.uint8]] = {}

    def __call__(self, numbered: Numbered) -> Iterator[Pixels]:
        """Yield the views [3, H, W] of one example."""
        number, example = numbered
        assert isinstance(example.raw, bytes), "examples of this task are kept as bytes"
        picture = self._preprocessing.decode(example.raw)
        if self._keeps_pictures:
            yield self._keep(number, picture, training=example.split == "train")
        else:
            yield self._preprocessing.to_pixels(picture)
        for view in range(1, views_of(example.split, self._section)):
            yield self._view(picture, f"{self._section.seed}/{example.digest}/{view}")

    def take(self, number: int) -> dict[str, NDArray[np.generic]]:
        """Return the columns of the picture of an example whose views were drawn, and forget it."""
        picture = self._kept.pop(number)
        return {"pictures": picture.reshape(-1), "sizes": np.array(picture.shape[:2], np.int32)}

    def _keep(self, number: int, picture: Image.Image, *, training: bool) -> Pixels:
        """Keep a training picture from which crops are drawn, or exactly what is served; return the plain view.

        The picture is resized once for both where that gives the same view: a third of the time of decoding it.
        """
        transform = self._preprocessing.to_pixels
        stored = transform.stored(picture) if training else transform.resize_and_crop(picture)
        self._kept[number] = np.asarray(stored)
        if not training:
            return transform.normalize(stored)
        return transform(stored if transform.same_of_stored(picture) else picture)

    def _view(self, picture: Image.Image, seed: str) -> Pixels:
        rng = random.Random(seed)
        to_pixels = self._preprocessing.to_pixels
        height, width = to_pixels.size
        view = random_view(picture, size=(width, height), rng=rng, **self._section.augment.model_dump())
        return to_pixels.normalize(view)


def views_of(split: str, section: "Encode") -> int:
    """Return how many views there are of a picture."""
    return section.views if split == "train" else 1
