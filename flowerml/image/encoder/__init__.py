"""The encoder of pictures: decode, resize, crop, normalise, and the frozen backbone.

At prediction only the part written in Pillow and NumPy is used; the backbone is in the classifier's graph.
"""

import random
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from PIL import Image

from flowerml import files
from flowerml.image.encoder.augment import augmented
from flowerml.image.encoder.pictures import Pixels, Transform, decode
from flowerml.parallel import batches, ordered_map

if TYPE_CHECKING:
    import pyarrow as pa
    from torch import nn

    from flowerml.examples import Example
    from flowerml.image.sections import Encode

Picture = bytes | str | Path | Image.Image


@dataclass(frozen=True)
class Encoder:
    """Turns a picture into the array of a network, and pictures into the features of a frozen backbone.

    `frozen` is the backbone in torch; an encoder loaded for predicting has none.
    """

    backbone: str
    transform: Transform
    features: int
    frozen: "nn.Module | None" = field(default=None, compare=False, repr=False)

    @classmethod
    def fit(cls, examples: "Iterable[Example]", section: "Encode") -> Self:
        """The encoder that `section` describes; it learns nothing from the examples. Raises ModelError."""
        import torch

        from flowerml.image.encoder.backbone import build

        frozen, transform = build(section.backbone, weights=section.weights, seed=section.seed)
        with torch.inference_mode():
            features = frozen(torch.zeros(1, 3, transform.crop, transform.crop)).shape[1]
        return cls(section.backbone, transform, features, frozen)

    def prepare(self, raw: Picture) -> Pixels:
        """One picture as [3, H, W] float32; raises InputError."""
        return self.transform(decode(raw))

    def collate(self, prepared: list[Pixels]) -> dict[str, Pixels]:
        """Prepared pictures as the inputs of the graph: {"image": [B, 3, H, W]}."""
        return {"image": np.stack(prepared)}

    def show(self, prepared: Pixels) -> Image.Image:
        """A prepared picture made visible again."""
        return self.transform.show(prepared)

    def encode(self, examples: "Iterable[Example]", section: "Encode") -> "Iterator[dict[str, Any]]":
        """For each example, in order, {"features": [views, D]}.

        View 0 is the evaluation transform; training examples get `views - 1` augmented ones more, each drawn from
        the section's seed, the example's id and the view's number. Memory does not grow with the number of examples.
        """
        from flowerml.image.encoder.engine import engine

        assert self.frozen is not None, "an encoder loaded for predicting has no backbone to encode with"
        run = engine(self.frozen, crop=self.transform.crop)
        stacks = ordered_map(partial(self._views, section=section), examples, ahead=2 * section.batch_size)
        for group in batches(stacks, max(1, section.batch_size // section.views)):
            features = run(np.concatenate(group))
            ends = np.cumsum([len(stack) for stack in group])
            yield from ({"features": part} for part in np.split(features, ends[:-1]))

    @property
    def columns(self) -> "dict[str, pa.DataType]":
        """The Arrow type of each thing that `encode` gives."""
        import pyarrow as pa

        return {"features": pa.list_(pa.list_(pa.float32(), self.features))}

    def graph(self, network: "nn.Module") -> "nn.Module":
        """The whole way from prepared pictures to logits as one torch module: backbone, then `network`."""
        from torch import nn

        assert self.frozen is not None, "an encoder loaded for predicting has no backbone"
        return nn.Sequential(OrderedDict(frozen=self.frozen, network=network))

    def random_inputs(self, count: int, *, seed: int) -> dict[str, Pixels]:
        """Inputs of the graph to trace and check it with."""
        shape = (count, 3, self.transform.crop, self.transform.crop)
        return {"image": np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)}

    def state(self) -> dict[str, Any]:
        """All that predicting needs, as plain data."""
        return {"backbone": self.backbone, "transform": asdict(self.transform), "features": self.features}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """The encoder that `state()` described, without its backbone."""
        transform = state["transform"]
        transform = Transform(**{**transform, "mean": tuple(transform["mean"]), "std": tuple(transform["std"])})
        return cls(state["backbone"], transform, state["features"])

    def save(self, folder: Path) -> None:
        """Write the state and the backbone's weights, atomically."""
        from safetensors.torch import save_file

        assert self.frozen is not None, "an encoder loaded for predicting has no backbone to save"
        with files.replacing(folder) as temporary:
            temporary.mkdir()
            files.write_json(temporary / "encoder.json", self.state())
            save_file(self.frozen.state_dict(), temporary / "frozen.safetensors")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The encoder saved in `folder`, with its backbone."""
        from safetensors.torch import load_file

        from flowerml.image.encoder.backbone import architecture

        encoder = cls.from_state(files.read_json(folder / "encoder.json"))
        frozen = architecture(encoder.backbone, crop=encoder.transform.crop)
        frozen.load_state_dict(load_file(folder / "frozen.safetensors"), strict=True)
        return replace(encoder, frozen=frozen)

    def _views(self, example: "Example", *, section: "Encode") -> Pixels:
        picture = decode(example.raw)
        count = section.views if example.split == "train" else 1
        views = (self._view(picture, example.id, number, section) for number in range(1, count))
        return np.stack([self.transform(picture), *views])

    def _view(self, picture: Image.Image, example_id: str, number: int, section: "Encode") -> Pixels:
        rng = random.Random(f"{section.seed}/{example_id}/{number}")
        view = augmented(picture, size=self.transform.crop, rng=rng, **section.augment.model_dump())
        return self.transform.normalise(view)
