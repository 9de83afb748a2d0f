"""The preprocessing of pictures, in Pillow and NumPy: decode, resize, crop, normalize."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from PIL import Image

from flowerml.tasks.image.encoder.pictures import MAX_PIXELS, Pixels, Transform, decode

Picture = bytes | str | Path | Image.Image


@dataclass(frozen=True)
class Preprocessing:
    """Turns a picture into the array that a network takes; pictures of more than `max_pixels` raise InputError."""

    # One picture at a time is faster, as activations stay in the cache, and takes the least memory, which ONNX Runtime
    # never returns.
    MAX_BATCH: ClassVar[int] = 1

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
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Return the preprocessing of an encoder from its state."""
        transform = state["transform"]
        transform = Transform(**{**transform, "mean": tuple(transform["mean"]), "std": tuple(transform["std"])})
        return cls(transform, state.get("max_pixels", MAX_PIXELS))
