"""The preprocessing of pictures, in Pillow and NumPy: decode, resize, crop, normalize."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from PIL import Image

from flowerml.core import schema
from flowerml.core.errors import ModelError
from flowerml.tasks.image.encoder.pictures import (
    FITS,
    HIGHEST_PIXELS,
    INTERPOLATIONS,
    MAX_PIXELS,
    Pixels,
    Transform,
    decode,
)

Picture = bytes | str | Path | Image.Image

SIDE = schema.whole(1, 4096)  # pixels; the largest of timm's networks takes 1024
NAME = schema.text(300)
CHANNELS = {
    "mean": schema.items(schema.number(-1000, 1000), 3, 3),
    "std": schema.items(schema.number(1e-6, 1000), 3, 3),
}
WIDTH = schema.whole(1, 10**6)
MAX_TOWERS = 8
STATE = schema.record(
    {
        "backbone": schema.either(
            f"a name, or a list of 1 to {MAX_TOWERS} different ones",
            NAME,
            schema.items(NAME, 1, MAX_TOWERS, unique=True),
        ),
        "features": WIDTH,
        "transform": schema.record(
            {
                "resize": SIDE,
                "crop": SIDE,
                "interpolation": schema.choice(INTERPOLATIONS),
                **CHANNELS,
            },
            {
                "fit": schema.choice(FITS),
                "resize_width": schema.nullable(SIDE),
                "crop_width": schema.nullable(SIDE),
            },
        ),
    },
    {
        "max_pixels": schema.whole(1, HIGHEST_PIXELS),
        "towers": schema.items(schema.record({"features": WIDTH, **CHANNELS}), 1, MAX_TOWERS),
        "size": schema.nullable(SIDE),
        "trainable_blocks": schema.either(
            "a number of blocks, or all", schema.whole(0, 10_000), schema.choice(["all"])
        ),
        "cached": schema.nullable(schema.choice(["pictures", "activations"])),
        "activations": schema.nullable(
            schema.record(
                {
                    "shape": schema.items(WIDTH, 1, 4),
                    "type": schema.choice(["float16", "float32"]),
                }
            )
        ),
    },
)


@dataclass(frozen=True)
class Activations:
    """The shape of the activations of one picture, and the type in which they are cached."""

    shape: tuple[int, ...]
    type: str

    @property
    def count(self) -> int:
        """The number of values."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Preprocessing:
    """Turns a picture into the array that a network takes; pictures of more than `max_pixels` raise InputError."""

    # One picture at a time is faster, as activations stay in the cache, and takes the least memory, which ONNX Runtime
    # never returns.
    MAX_BATCH: ClassVar[int] = 1
    packages: ClassVar[tuple[str, ...]] = ()

    to_pixels: Transform
    max_pixels: int = MAX_PIXELS

    def transform(self, raw: Picture) -> Pixels:
        """Return one picture as [3, H, W] float32; raises InputError."""
        return self.to_pixels(self.decode(raw))

    def decode(self, raw: Picture) -> Image.Image:
        """Return one picture at its full size, upright and in RGB; raises InputError."""
        return decode(raw, max_pixels=self.max_pixels)

    def collate(self, prepared: list[Pixels]) -> dict[str, Pixels]:
        """Return prepared pictures as the inputs of the graph: {"image": [B, 3, H, W]}."""
        return {"image": np.stack(prepared)}

    def random_inputs(self, count: int, *, seed: int) -> dict[str, Pixels]:
        """Return noise to trace and check the graph with."""
        shape = (count, 3, *self.to_pixels.size)
        return {"image": np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)}

    def visualize(self, prepared: Pixels) -> Image.Image:
        """Return a prepared picture as an image that a person can look at."""
        return self.to_pixels.to_picture(prepared)

    @classmethod
    def from_state(cls, state: dict[str, Any], assets: Mapping[str, bytes]) -> Self:
        """Return the preprocessing of an encoder from its state; raises ModelError for another one."""
        STATE(state, "encoder")
        _check_towers(state)
        values = {field.name: state["transform"].get(field.name, field.default) for field in fields(Transform)}
        transform = Transform(**{**values, "mean": tuple(values["mean"]), "std": tuple(values["std"])})
        return cls(transform, state.get("max_pixels", MAX_PIXELS))


def _check_towers(state: Mapping[str, Any]) -> None:
    names, towers = state["backbone"], state.get("towers")
    if isinstance(names, str) != (towers is None) or (towers is not None and len(towers) != len(names)):
        raise ModelError(
            "encoder.towers: expected one for each name of a list of backbones, and none for a single name"
        )
