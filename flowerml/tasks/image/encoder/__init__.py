"""The encoder of pictures: preprocessing, then the features of a frozen backbone.

At prediction only the preprocessing runs here; the backbone is in the classifier's graph.
"""

import random
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from PIL import Image

from flowerml.core import files
from flowerml.engine import onnx
from flowerml.tasks.base import Known, nothing_known
from flowerml.tasks.image.encoder.augment import random_view
from flowerml.tasks.image.encoder.pictures import Pixels
from flowerml.tasks.image.encoder.preprocessing import Picture, Preprocessing

if TYPE_CHECKING:
    import pyarrow as pa
    from torch import Tensor, nn

    from flowerml.data.examples import Example
    from flowerml.tasks.image.encoder.features import Engine
    from flowerml.tasks.image.sections import Encode, Limits

__all__ = ["Encoder", "Picture", "Preprocessing"]

# Packages whose versions may change the features of a picture.
PACKAGES = ("numpy", "onnxruntime", "pillow", "timm", "torch", "torchvision")


@dataclass(frozen=True)
class Encoder:
    """Preprocessing and a frozen backbone: turns pictures into features [views, D]."""

    backbone: str
    preprocessing: Preprocessing
    features: int
    frozen: "nn.Module" = field(compare=False, repr=False)

    @classmethod
    def fit(cls, examples: "Iterable[Example]", section: "Encode", limits: "Limits") -> Self:
        """Return the encoder that `section` describes; it learns nothing from the examples. Raises ModelError.

        It reads pictures of at most `limits.pixels`.
        """
        import torch

        from flowerml.tasks.image.encoder.backbone import build

        name = section.backbones[0]
        frozen, transform = build(name, weights=section.weights, seed=section.seed)
        with torch.inference_mode():
            features = frozen(torch.zeros(1, 3, *transform.size)).shape[1]
        return cls(name, Preprocessing(transform, limits.pixels), features, frozen)

    def encode(
        self, examples: "Iterable[Example]", section: "Encode", *, known: Known = nothing_known
    ) -> "Iterator[dict[str, Any]]":
        """Yield {"features": [views, D]} for each example, in order.

        View 0 is the evaluation transform; training examples get `views - 1` random views too, each drawn from
        the section's seed, the picture's bytes and the view's number. Memory does not grow with the number of examples.
        """
        views = partial(self._views, section=section)
        features = self._engine.extract(views, examples, batch_size=section.batch_size)
        return ({"features": rows} for rows in features)

    def parts(self, section: "Encode") -> dict[str, str]:
        """Return none: the features depend on all that the encodings depend on."""
        return {}

    def fingerprint(self, section: "Encode", split: str) -> str:
        """Return a digest of all that the encodings of a split depend on besides the pictures.

        It covers the weights, and the features of one picture, as processors round differently.
        """
        from flowerml.core import fingerprint

        probe = self.preprocessing.random_inputs(1, seed=0)["image"]
        (features,) = self._engine.extract(lambda picture: [picture], probe, batch_size=section.batch_size)
        facts = {
            "backbone": self.backbone,
            "transform": asdict(self.preprocessing.to_pixels),
            "weights": fingerprint.of_tensors(self.frozen.state_dict()),
            "probe": features.tolist(),
            **self._engine.environment(batch_size=section.batch_size),
            **(section.model_dump(include={"views", "augment", "seed"}) if _count(split, section) > 1 else {}),
        }
        return fingerprint.of(facts, packages=PACKAGES, code=(Path(__file__).parent, Path(onnx.__file__)))

    @property
    def columns(self) -> "dict[str, pa.DataType]":
        """The Arrow type of each array that `encode` yields."""
        import pyarrow as pa

        return {"features": pa.list_(pa.list_(pa.float32(), self.features))}

    def graph(self, network: "nn.Module", detector: "nn.Module | None" = None) -> "nn.Module":
        """Return one torch module from prepared pictures to logits: backbone, then `network`.

        With a `detector` of features it returns (logits, strangeness [B]).
        """
        from torch import nn

        if detector is None:
            return nn.Sequential(OrderedDict(frozen=self.frozen, network=network))

        class Detecting(nn.Module):
            def __init__(self, frozen: nn.Module, network: nn.Module, detector: nn.Module) -> None:
                super().__init__()
                self.frozen, self.network, self.detector = frozen, network, detector

            def forward(self, image: "Tensor") -> "tuple[Tensor, Tensor]":
                features = self.frozen(image)
                return self.network(features), self.detector(features)

        return Detecting(self.frozen, network, detector)

    def read_by(self, *parts: "nn.Module | None") -> Self:
        """Return the encoder: every network reads the features."""
        return self

    def state(self) -> dict[str, Any]:
        """Return all that predicting needs, as plain data."""
        return {
            "backbone": self.backbone,
            "transform": asdict(self.preprocessing.to_pixels),
            "features": self.features,
            "max_pixels": self.preprocessing.max_pixels,
        }

    def assets(self) -> dict[str, bytes]:
        """Return no files: the state says all."""
        return {}

    def save(self, folder: Path) -> None:
        """Write the state and the backbone's weights, atomically."""
        from safetensors.torch import save_model

        with files.replacing(folder) as temporary:
            temporary.mkdir()
            files.write_json(temporary / "encoder.json", self.state())
            save_model(self.frozen, str(temporary / "frozen.safetensors"))  # tensors may be shared, as in CoaT

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Return the encoder saved in `folder`."""
        from safetensors.torch import load_model

        from flowerml.tasks.image.encoder.backbone import architecture

        state = files.read_json(folder / "encoder.json")
        preprocessing = Preprocessing.from_state(state, {})
        frozen = architecture(state["backbone"], crop=preprocessing.to_pixels.crop)
        load_model(frozen, folder / "frozen.safetensors", strict=True)
        return cls(state["backbone"], preprocessing, state["features"], frozen)

    @cached_property
    def _engine(self) -> "Engine":
        from flowerml.tasks.image.encoder.features import select_engine

        return select_engine(self.frozen, size=self.preprocessing.to_pixels.size)

    def _views(self, example: "Example", *, section: "Encode") -> Iterator[Pixels]:
        assert isinstance(example.raw, bytes), "examples of this task are kept as bytes"
        picture = self.preprocessing.decode(example.raw)
        yield self.preprocessing.to_pixels(picture)
        for number in range(1, _count(example.split, section)):
            yield self._view(picture, f"{section.seed}/{example.digest}/{number}", section)

    def _view(self, picture: Image.Image, seed: str, section: "Encode") -> Pixels:
        rng = random.Random(seed)
        to_pixels = self.preprocessing.to_pixels
        height, width = to_pixels.size
        view = random_view(picture, size=(width, height), rng=rng, **section.augment.model_dump())
        return to_pixels.normalize(view)


def _count(split: str, section: "Encode") -> int:
    """Return how many views there are of a picture."""
    return section.views if split == "train" else 1
