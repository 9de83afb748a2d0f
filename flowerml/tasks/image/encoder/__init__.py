"""The encoder of pictures: decode, resize, crop, normalise, and the frozen backbone.

At prediction only the part written in Pillow and NumPy is used; the backbone is in the classifier's graph.
"""

import random
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from PIL import Image

from flowerml.core import files
from flowerml.engine import onnx
from flowerml.tasks.image.encoder.augment import augmented
from flowerml.tasks.image.encoder.pictures import MAX_PIXELS, Pixels, Transform, decode

if TYPE_CHECKING:
    import pyarrow as pa
    from torch import nn

    from flowerml.data.examples import Example
    from flowerml.tasks.image.encoder.features import Engine
    from flowerml.tasks.image.sections import Encode, Limits

Picture = bytes | str | Path | Image.Image

# Those whose versions may change what is made of a picture.
PACKAGES = ("numpy", "onnxruntime", "pillow", "timm", "torch", "torchvision")


@dataclass(frozen=True)
class Encoder:
    """Turns a picture into the array of a network, and pictures into the features of a frozen backbone.

    `frozen` is the backbone in torch; an encoder loaded for predicting has none.
    """

    # What a layer leaves for the next stays in the cache: one alone is faster, and takes least of the memory that
    # ONNX Runtime never gives back.
    TOGETHER: ClassVar[int] = 1

    backbone: str
    transform: Transform
    features: int
    max_pixels: int = MAX_PIXELS
    frozen: "nn.Module | None" = field(default=None, compare=False, repr=False)

    @classmethod
    def fit(cls, examples: "Iterable[Example]", section: "Encode", limits: "Limits") -> Self:
        """The encoder that `section` describes; it learns nothing from the examples. Raises ModelError.

        It reads pictures of at most `limits.pixels`.
        """
        import torch

        from flowerml.tasks.image.encoder.backbone import build

        frozen, transform = build(section.backbone, weights=section.weights, seed=section.seed)
        with torch.inference_mode():
            features = frozen(torch.zeros(1, 3, *transform.size)).shape[1]
        return cls(section.backbone, transform, features, limits.pixels, frozen)

    def prepare(self, raw: Picture) -> Pixels:
        """One picture as [3, H, W] float32; raises InputError."""
        return self.transform(decode(raw, max_pixels=self.max_pixels))

    def collate(self, prepared: list[Pixels]) -> dict[str, Pixels]:
        """Prepared pictures as the inputs of the graph: {"image": [B, 3, H, W]}."""
        return {"image": np.stack(prepared)}

    def show(self, prepared: Pixels) -> Image.Image:
        """A prepared picture made visible again."""
        return self.transform.show(prepared)

    def encode(self, examples: "Iterable[Example]", section: "Encode") -> "Iterator[dict[str, Any]]":
        """For each example, in order, {"features": [views, D]}.

        View 0 is the evaluation transform; training examples get `views - 1` augmented ones more, each drawn from
        the section's seed, the picture's bytes and the view's number. Memory does not grow with the number of examples.
        """
        views = partial(self._views, section=section)
        features = self._engine.over(views, examples, batch_size=section.batch_size)
        return ({"features": rows} for rows in features)

    def fingerprint(self, section: "Encode", split: str) -> str:
        """Names all that the encodings of a split depend on beside the pictures.

        The weights are in it, and what the network makes of one picture: that differs between kinds of processor too.
        """
        from flowerml.core import fingerprint

        assert self.frozen is not None, "an encoder loaded for predicting has no backbone"
        probe = self.random_inputs(1, seed=0)["image"]
        (features,) = self._engine.over(lambda picture: [picture], probe, batch_size=section.batch_size)
        facts = {
            **{"backbone": self.backbone, "transform": asdict(self.transform)},
            **{"weights": fingerprint.of_tensors(self.frozen.state_dict()), "probe": features.tolist()},
            **self._engine.facts(batch_size=section.batch_size),
            **(section.model_dump(include={"views", "augment", "seed"}) if _count(split, section) > 1 else {}),
        }
        return fingerprint.of(facts, packages=PACKAGES, code=(Path(__file__).parent, Path(onnx.__file__)))

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
        shape = (count, 3, *self.transform.size)
        return {"image": np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)}

    def state(self) -> dict[str, Any]:
        """All that predicting needs, as plain data."""
        return {
            **{"backbone": self.backbone, "transform": asdict(self.transform)},
            **{"features": self.features, "max_pixels": self.max_pixels},
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """The encoder that `state()` described, without its backbone."""
        transform = state["transform"]
        transform = Transform(**{**transform, "mean": tuple(transform["mean"]), "std": tuple(transform["std"])})
        return cls(state["backbone"], transform, state["features"], state.get("max_pixels", MAX_PIXELS))

    def save(self, folder: Path) -> None:
        """Write the state and the backbone's weights, atomically."""
        from safetensors.torch import save_model

        assert self.frozen is not None, "an encoder loaded for predicting has no backbone to save"
        with files.replacing(folder) as temporary:
            temporary.mkdir()
            files.write_json(temporary / "encoder.json", self.state())
            save_model(self.frozen, str(temporary / "frozen.safetensors"))  # tensors may be shared, as in CoaT

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The encoder saved in `folder`, with its backbone."""
        from safetensors.torch import load_model

        from flowerml.tasks.image.encoder.backbone import architecture

        encoder = cls.from_state(files.read_json(folder / "encoder.json"))
        frozen = architecture(encoder.backbone, crop=encoder.transform.crop)
        load_model(frozen, folder / "frozen.safetensors", strict=True)
        return replace(encoder, frozen=frozen)

    @cached_property
    def _engine(self) -> "Engine":
        from flowerml.tasks.image.encoder.features import engine

        assert self.frozen is not None, "an encoder loaded for predicting has no backbone to encode with"
        return engine(self.frozen, size=self.transform.size)

    def _views(self, example: "Example", *, section: "Encode") -> Iterator[Pixels]:
        picture = decode(example.raw, max_pixels=self.max_pixels)
        yield self.transform(picture)
        for number in range(1, _count(example.split, section)):
            yield self._view(picture, f"{section.seed}/{example.digest}/{number}", section)

    def _view(self, picture: Image.Image, seed: str, section: "Encode") -> Pixels:
        rng = random.Random(seed)
        height, width = self.transform.size
        view = augmented(picture, size=(width, height), rng=rng, **section.augment.model_dump())
        return self.transform.normalise(view)


def _count(split: str, section: "Encode") -> int:
    """How many views there are of a picture."""
    return section.views if split == "train" else 1
