"""Flowers drawn with NumPy and Pillow: a data set for the `flowers` pipeline that needs no download.

Every petal, floret and leaf is a curved blade in three dimensions: a grid of points, rotated into place, lit, and
splatted onto a canvas twice as large as the picture, the farthest blade first (the painter's algorithm). A species is
an entry of `GARDEN`; two pictures of a species differ by the random generator given to `draw`.
"""

import io
import math
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image, ImageFilter

from flowerml.data.archives import write_tar
from flowerml.tasks.image.sample.canvas import SIDE, Canvas, to_image, vector
from flowerml.tasks.image.sample.garden import GARDEN
from flowerml.tasks.image.sample.grounds import GROUNDS
from flowerml.tasks.image.sample.plants import Plant

MARGIN = 8  # cropped at the end: blades that leave the picture pile up on its border

SPECIES: tuple[str, ...] = tuple(sorted(GARDEN))


def photograph(scene: Image.Image, rng: Random) -> Image.Image:
    """Return the scene as a camera takes it: blur, exposure, white balance, vignette, sensor noise and tone curve."""
    scene = scene.crop((MARGIN, MARGIN, scene.width - MARGIN, scene.height - MARGIN))
    if rng.random() < 0.3:
        scene = scene.filter(ImageFilter.GaussianBlur(rng.uniform(0.4, 1.4)))
    balance = vector(rng.gauss(1, 0.07), 1, rng.gauss(1, 0.09)) * 2 ** rng.gauss(0.15, 0.22)
    x, y = (np.linspace(-1, 1, extent, dtype=np.float32) for extent in scene.size)
    vignette = 1 - rng.uniform(0, 0.15) * (x[None, :] ** 2 + y[:, None] ** 2)
    grain = np.random.default_rng(rng.getrandbits(64)).standard_normal(vignette.shape, dtype=np.float32)
    rgb = np.asarray(scene).transpose(2, 0, 1) * (balance[:, None, None] * vignette)
    gamma = rng.uniform(0.8, 1.15)
    curve = [round(255 * (level / 255) ** gamma) for level in range(256)]
    return to_image(rgb + grain * rng.uniform(0.5, 5)).point(curve * 3)


def draw(species: str, *, rng: Random) -> Image.Image:
    """Return an RGB picture of a flower of the species, 256 pixels on its short side."""
    long_side = int(SIDE * rng.uniform(1.0, 1.33))
    width, height = (side + 2 * MARGIN for side in rng.choice(((SIDE, long_side), (long_side, SIDE))))
    sun = vector(rng.uniform(-0.7, 0.7), rng.uniform(0.2, 0.8), 0.75)
    background = rng.choice(GROUNDS)((width, height), rng)
    canvas = Canvas(background, sun=sun / math.hypot(*sun))
    plant = Plant.grow(GARDEN[species], rng=rng)
    if rng.random() < 0.35:  # another bloom behind, out of focus
        position = vector(rng.uniform(0, 2) * width, -rng.uniform(0.2, 1.8) * height, 0)
        plant.paint(canvas, at=position, rng=rng)
        canvas.load(canvas.image().filter(ImageFilter.BoxBlur(rng.uniform(2, 5))))
    position = vector(rng.gauss(1, 0.24) * width, -rng.gauss(0.92, 0.2) * height, 0)
    plant.paint(canvas, at=position, rng=rng)
    if rng.random() < 0.2:  # leaves of a neighbor in front
        aside = position + vector(rng.choice((-1, 1)) * rng.uniform(0.6, 1.2) * plant.radius, 0, 0)
        plant.leaves(canvas, between=(aside, aside - vector(0, 2 * height, 0)), rng=rng)
    return photograph(canvas.image(), rng)


def jpeg(species: str, index: int, seed: int) -> bytes:
    """Return picture `index` of a species; it depends on its arguments alone."""
    buffer = io.BytesIO()
    draw(species, rng=Random(f"{seed}/{species}/{index}")).save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


def pictures(per_class: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Yield every picture's path in the archive and its bytes, in order."""
    keys = [(species, index) for species in SPECIES for index in range(1, per_class + 1)]
    with ProcessPoolExecutor() as pool:
        contents = pool.map(jpeg, *zip(*keys, strict=True), [seed] * len(keys), chunksize=8)
        for (species, index), content in zip(keys, contents, strict=True):
            yield f"flowers/{species}/{species}_{index:04d}.jpg", content


def write(archive: Path, *, per_class: int, seed: int) -> None:
    """Write a tar with `per_class` pictures of every species, flowers/<species>/<species>_0001.jpg and so on.

    Its bytes depend on `per_class` and `seed` alone. It is written atomically.
    """
    write_tar(archive, pictures(per_class, seed))
