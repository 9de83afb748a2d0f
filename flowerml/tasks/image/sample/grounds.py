"""Backgrounds: greenery, grass, sky, soil or a wall."""

from random import Random

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from flowerml.tasks.image.sample.canvas import Array, mix, pick, to_image, vector

Size = tuple[int, int]


def ground(size: Size, dark: Array, light: Array, *grains: int, rng: Random) -> Image.Image:
    """Return smooth noise between two colors: layers of spots, each layer finer and fainter than the last."""
    noise = np.random.default_rng(rng.getrandbits(64))
    total = np.zeros(size[::-1], dtype=np.float32)
    for octave, grain in enumerate(grains):
        spots = noise.integers(0, 256, (size[1] // grain + 2, size[0] // grain + 2), dtype=np.uint8)
        total += np.asarray(Image.fromarray(spots).resize(size)) * np.float32(0.6**octave)
    return to_image(mix(dark, light, (total - total.min()) / (total.max() - total.min())))


def greenery(size: Size, rng: Random) -> Image.Image:
    """Return greenery far out of focus, with discs of light and color."""
    leafage = pick(rng, "green")
    dark, light = leafage * rng.uniform(0.35, 0.8), leafage * rng.uniform(1.1, 1.7) + 15
    image = ground(size, dark, light, 120, 60, 30, rng=rng)
    pen = ImageDraw.Draw(image, "RGBA")
    for _ in range(rng.randint(4, 26)):
        x, y, radius = rng.uniform(0, size[0]), rng.uniform(0, size[1]), rng.uniform(6, 30)
        red, green, blue = map(int, pick(rng, "green", "straw", "white", "yellow", "pink", "blue", "red"))
        fill = (red, green, blue, rng.randint(20, 80))
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)
    return image.filter(ImageFilter.BoxBlur(rng.uniform(1, 4)))


def grass(size: Size, rng: Random) -> Image.Image:
    leafage = pick(rng, "green")
    image = ground(size, leafage * 0.25, leafage * 0.7, 40, 12, rng=rng)
    pen = ImageDraw.Draw(image)
    for _ in range(rng.randint(120, 260)):
        x, y, height = rng.uniform(0, size[0]), rng.uniform(0, size[1] * 1.2), rng.uniform(20, 70)
        tip, width = x + rng.gauss(0, 16), rng.uniform(1, 3)
        red, green, blue = map(int, np.minimum(leafage * rng.uniform(0.4, 1.35) + rng.uniform(0, 20), 255))
        waist = ((x + tip) / 2 + width, y - height * 0.6)
        pen.polygon((x - width, y, *waist, tip, y - height, x + width, y), fill=(red, green, blue))
    return image.filter(ImageFilter.BoxBlur(rng.uniform(0.5, 3)))


def sky(size: Size, rng: Random) -> Image.Image:
    cloud = vector(237, 240, 245) * rng.uniform(0.75, 0.95)
    blue = pick(rng, "blue") * rng.uniform(0.7, 1.0)
    return ground(size, blue + (cloud - blue) * rng.uniform(0, 0.7), cloud, 90, 40, 16, rng=rng)


def soil(size: Size, rng: Random) -> Image.Image:
    brown = pick(rng, "brown")
    image = ground(size, brown * 0.4, brown * 1.5, 30, 9, 4, 2, rng=rng)
    return image.filter(ImageFilter.BoxBlur(rng.uniform(0.3, 2.5)))


def wall(size: Size, rng: Random) -> Image.Image:
    """Return courses of brick, painted or bare."""
    gray, paint = vector(153, 145, 135), pick(rng, "brown", "straw", "white", "blue")
    paint += (gray - paint) * rng.uniform(0.2, 0.9)
    image = ground(size, paint * 0.75, paint * 1.1, 50, 5, 2, rng=rng)
    pen, height, mortar = ImageDraw.Draw(image, "RGBA"), rng.randint(22, 46), (40, 35, 30, 90)
    for course, top in enumerate(range(-rng.randint(0, height), size[1], height)):
        pen.line((0, top, size[0], top), fill=mortar, width=3)
        for left in range(-height * (1 + course % 2), size[0], 2 * height):
            pen.line((left, top, left, top + height), fill=mortar, width=3)
    return image.filter(ImageFilter.BoxBlur(rng.uniform(0.8, 4)))


GROUNDS = (greenery, greenery, grass, sky, soil, wall)
