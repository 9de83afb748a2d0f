"""The properties of pictures, by which an evaluation slices them."""

import io

import numpy as np
from PIL import Image

from flowerml.tasks.registry import TASKS

properties = TASKS["image"].properties


def jpeg(colour, size=(60, 40), turned=False):
    buffer = io.BytesIO()
    exif = Image.Exif()
    if turned:
        exif[0x0112] = 6
    Image.new("RGB", size, colour).save(buffer, "JPEG", exif=exif)
    return buffer.getvalue()


def test_light_colour_and_shape():
    dark, red = properties(jpeg("black")), properties(jpeg("red"))
    assert dark["brightness"] < 0.01 < red["brightness"] and dark["saturation"] < 0.01 < red["saturation"]
    assert dark["shape"] == "wide"
    assert properties(jpeg("black", turned=True))["shape"] == "tall"
    assert properties(jpeg("red", (50, 50)))["shape"] == "square"
    assert properties(jpeg("red", (3000, 2000)))["short side, pixels"] == 2000


def test_blurred_pictures_are_less_sharp():
    noise = np.random.default_rng(0).integers(0, 255, (200, 300, 3), dtype=np.uint8)
    sharp, blurred = io.BytesIO(), io.BytesIO()
    Image.fromarray(noise).save(sharp, "PNG")
    Image.fromarray(noise).resize((30, 20)).resize((300, 200)).save(blurred, "PNG")
    assert properties(sharp.getvalue())["sharpness"] > 2 * properties(blurred.getvalue())["sharpness"]
