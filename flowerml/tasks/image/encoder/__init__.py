"""The encoder of pictures: preprocessing, then the features of backbones as they were published.

At prediction only the preprocessing runs here; the backbones are in the classifier's graph. Where blocks of a backbone
are trained, what they are trained on is cached besides the features: pictures, or activations of the frozen blocks.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from flowerml.core import files
from flowerml.core.errors import ModelError
from flowerml.engine import onnx
from flowerml.tasks.image.encoder.preprocessing import Activations, Picture, Preprocessing
from flowerml.tasks.image.encoder.views import Views, views_of
from flowerml.tasks.records import Known, nothing_known

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray
    from torch import nn

    from flowerml.data.examples import Example
    from flowerml.tasks.image.encoder.backbone import Scale
    from flowerml.tasks.image.encoder.backbone.split import Split
    from flowerml.tasks.image.encoder.features import Engine
    from flowerml.tasks.image.encoder.trainable import Backbones, Trainable
    from flowerml.tasks.image.sections import Encode, Limits

__all__ = ["Encoder", "Picture", "Preprocessing"]

# Packages whose versions may change the features of a picture.
PACKAGES = ("numpy", "onnxruntime", "pillow", "timm", "torch", "torchvision")


@dataclass(frozen=True)
class Encoder:
    """Preprocessing and backbones: turns pictures into features [views, D], and into what trained blocks read.

    `backbone` is one name, or several, of which `widths` are the numbers of features and `scales` those of their
    pictures. `size` is the input size, where it is not the network's own. `trainable_blocks` and `cached` are those of
    the section, and `activations` what the first trained block reads, if that is cached.
    """

    backbone: str | tuple[str, ...]
    preprocessing: Preprocessing
    features: int
    frozen: "nn.Module" = field(compare=False, repr=False)
    widths: tuple[int, ...] = ()
    scales: "tuple[Scale, ...]" = ()
    size: int | None = None
    trainable_blocks: int | Literal["all"] = 0
    cached: Literal["pictures", "activations"] | None = None
    activations: Activations | None = None

    @classmethod
    def fit(cls, examples: "Iterable[Example]", section: "Encode", limits: "Limits") -> Self:
        """Return the encoder that `section` describes; it learns nothing from the examples. Raises ModelError.

        It reads pictures of at most `limits.pixels`.
        """
        from flowerml.tasks.image.encoder.backbone import build, build_towers, towers_of

        weights, seed, size = section.weights, section.seed, section.size
        if isinstance(section.backbone, str):
            frozen, transform = build(section.backbone, weights=weights, seed=seed, size=size)
            preprocessing, (width,) = Preprocessing(transform, limits.pixels), _widths([frozen], transform.size)
            encoder = cls(section.backbone, preprocessing, width, frozen, size=size)
        else:
            frozen, transform, scales = build_towers(section.backbones, weights=weights, seed=seed, size=size)
            preprocessing = Preprocessing(transform, limits.pixels)
            widths = _widths(towers_of(frozen), transform.size)
            encoder = cls(section.backbones, preprocessing, sum(widths), frozen, widths, scales, size)
        return encoder.adapted(section)

    def adapted(self, section: "Encode") -> Self:
        """Return the encoder with the section's border between what is frozen and what is trained.

        Raises ModelError where a backbone has fewer blocks, where activations at the border cannot be cached, and for
        another size than its own.
        """
        if section.size != self.size:
            raise ModelError(
                f"encode.size: expected {self.size or 'null'}, that of the classifier to start from, found "
                f"{section.size or 'null'}; leave it out, or train a new one"
            )
        encoder = replace(self, trainable_blocks=section.trainable_blocks, cached=section.cached, activations=None)
        if section.trainable_blocks == 0:
            return encoder
        encoder.trainable(None)  # raises an error now rather than after encoding
        if section.cached != "activations":
            return encoder
        from flowerml.tasks.image.encoder.activations import kind_of

        return replace(
            encoder, activations=kind_of(encoder._split, self.preprocessing.random_inputs(4, seed=0)["image"])
        )

    def encode(
        self, examples: "Iterable[Example]", section: "Encode", *, known: Known = nothing_known
    ) -> "Iterator[dict[str, Any]]":
        """Yield {"features": [views, D]} for each example, in order, and what trained blocks read.

        This is {"pictures": [H * W * 3], "sizes": [2]} (height and width), or {"activations": [views, A]}. Memory does
        not grow with the number of examples.
        """
        views = Views(self.preprocessing, section, keeps_pictures=self.cached == "pictures")
        rows = self._engine.extract(views, enumerate(examples), batch_size=section.batch_size)
        for number, values in enumerate(rows):
            columns = self._columns_of(values)
            yield {**columns, **views.take(number)} if self.cached == "pictures" else columns

    def _columns_of(self, values: "NDArray[np.float32]") -> "dict[str, NDArray[Any]]":
        if self.activations is None:
            return {"features": values}
        activations = values[:, self.features :].astype(np.float32)
        if self.activations.type == "float16":
            limit = np.finfo(np.float16).max
            activations = activations.clip(-limit, limit).astype(np.float16)
        return {"features": np.ascontiguousarray(values[:, : self.features]), "activations": activations}

    def row_bytes(self, examples: "Iterable[Example]", section: "Encode") -> int:
        """Return how many bytes the encodings of an example take, on average of these; none: 0."""
        sizes = [self._bytes_of(example, section) for example in examples]
        return sum(sizes) // max(1, len(sizes))

    def _bytes_of(self, example: "Example", section: "Encode") -> int:
        views = views_of(example.split, section)
        features = 4 * views * self.features
        if self.activations is not None:
            return features + views * self.activations.count * np.dtype(self.activations.type).itemsize
        if self.cached is None:
            return features
        assert isinstance(example.raw, bytes), "examples of this task are kept as bytes"
        width, height = self.preprocessing.to_pixels.stored_size(*self.preprocessing.decode(example.raw).size)
        return features + 3 * (height * width if example.split == "train" else math.prod(self._size))

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
        # Training pictures are cached larger than validation pictures; activations are those in front of a block.
        depends: dict[str, dict[str, Any]] = {
            "pictures": {"split": split},
            "activations": {"blocks": self.trainable_blocks},
        }
        border: dict[str, Any] = {"cached": self.cached, **depends[self.cached]} if self.cached else {}
        facts = {
            "backbone": self.backbone,
            "transform": asdict(self.preprocessing.to_pixels),
            "weights": fingerprint.of_tensors(self.frozen.state_dict()),
            "probe": features[:, : self.features].tolist(),
            **self._engine.environment(batch_size=section.batch_size),
            **(section.model_dump(include={"views", "augment", "seed"}) if views_of(split, section) > 1 else {}),
            **border,
        }
        return fingerprint.of(facts, packages=PACKAGES, code=(Path(__file__).parent, Path(onnx.__file__)))

    @property
    def columns(self) -> "dict[str, pa.DataType]":
        """The Arrow type of each array that `encode` yields."""
        import pyarrow as pa

        columns = {"features": pa.list_(pa.list_(pa.float32(), self.features))}
        if self.cached == "pictures":
            columns |= {"pictures": pa.list_(pa.uint8()), "sizes": pa.list_(pa.int32())}
        if self.activations is not None:
            kind = pa.from_numpy_dtype(np.dtype(self.activations.type))
            columns |= {"activations": pa.list_(pa.list_(kind, self.activations.count))}
        return columns

    def trainable(self, name: str | None) -> "Trainable":
        """Return the part of a backbone, or of all (None), that is trained with the head; raises ModelError."""
        from flowerml.tasks.image.encoder.trainable import trainable

        part = trainable(self._backbones, chosen=name, blocks=self.trainable_blocks, size=self._size)
        return part if self.activations is None else part.behind(self._split.tail)

    def graph(self, network: "nn.Module", detector: "nn.Module | None" = None) -> "nn.Module":
        """Return one torch module from prepared pictures to logits: backbone, then `network`.

        With a `detector` of features it returns (logits, strangeness [B]).
        """
        from flowerml.tasks.image.encoder.graph import graph

        return graph(self.frozen, network, detector)

    def read_by(self, network: "nn.Module | None", *others: "nn.Module | None") -> Self:
        """Return the encoder without the backbones that a network does not read, and frozen if it trains none."""
        from flowerml.tasks.image.encoder.graph import read, trains_backbone

        assert network is not None, "every classifier has a network"
        encoder = self
        if self.trainable_blocks != 0 and not trains_backbone(network):
            encoder = replace(encoder, trainable_blocks=0, cached=None, activations=None)
        numbers = read(self.frozen, network)
        if len(numbers) == len(self.widths):
            return encoder
        part = self._backbones.part(numbers)
        places = [self._backbones.names.index(name) for name in part.names]
        scales = tuple(self.scales[place] for place in places)
        return replace(
            encoder,
            backbone=part.names,
            features=sum(part.widths),
            frozen=part.module,
            widths=part.widths,
            scales=scales,
        )

    def state(self) -> dict[str, Any]:
        """Return all that predicting needs, as plain data."""
        towers = [{"features": width, **asdict(scale)} for width, scale in zip(self.widths, self.scales, strict=True)]
        border = {"trainable_blocks": self.trainable_blocks, "cached": self.cached}
        return {
            "backbone": self.backbone if isinstance(self.backbone, str) else list(self.backbone),
            "transform": asdict(self.preprocessing.to_pixels),
            "features": self.features,
            "max_pixels": self.preprocessing.max_pixels,
            **({"towers": towers} if towers else {}),
            **({} if self.size is None else {"size": self.size}),
            **({} if self.trainable_blocks == 0 else border),
            **({} if self.activations is None else {"activations": asdict(self.activations)}),
        }

    def assets(self) -> dict[str, bytes]:
        """Return no files: the state says all."""
        return {}

    def save(self, folder: Path) -> None:
        """Write the state and the backbones' weights, atomically."""
        from safetensors.torch import save_model

        with files.replacing(folder) as temporary:
            temporary.mkdir()
            files.write_json(temporary / "encoder.json", self.state())
            save_model(self.frozen, str(temporary / "frozen.safetensors"))  # tensors may be shared, as in CoaT

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Return the encoder saved in `folder`."""
        from safetensors.torch import load_model

        from flowerml.tasks.image.encoder.backbone import Scale, architecture, towers_architecture

        state = files.read_json(folder / "encoder.json")
        preprocessing = Preprocessing.from_state(state, {})
        transform, name = preprocessing.to_pixels, state["backbone"]
        towers = state.get("towers", [])
        scales = tuple(Scale.of(tower) for tower in towers)
        if isinstance(name, str):
            frozen = architecture(name, crop=transform.crop, size=state.get("size"))
        else:
            name = tuple(name)
            frozen = towers_architecture(name, side=transform.crop, scales=scales, given=Scale.of(transform))
        load_model(frozen, folder / "frozen.safetensors", strict=True)
        activations = state.get("activations")
        return cls(
            name,
            preprocessing,
            state["features"],
            frozen,
            widths=tuple(tower["features"] for tower in towers),
            scales=scales,
            size=state.get("size"),
            trainable_blocks=state.get("trainable_blocks", 0),
            cached=state.get("cached"),
            activations=activations and Activations(tuple(activations["shape"]), activations["type"]),
        )

    @cached_property
    def _engine(self) -> "Engine":
        from flowerml.tasks.image.encoder.activations import WithActivations
        from flowerml.tasks.image.encoder.features import select_engine

        module = self.frozen if self.activations is None else WithActivations(self._split)
        return select_engine(module, size=self._size)

    @cached_property
    def _split(self) -> "Split":
        from flowerml.tasks.image.encoder.activations import cut

        return cut(self._backbones, self.trainable_blocks, self._size)

    @property
    def _backbones(self) -> "Backbones":
        from flowerml.tasks.image.encoder.trainable import Backbones

        names = (self.backbone,) if isinstance(self.backbone, str) else self.backbone
        return Backbones(self.frozen, names, self.widths or (self.features,))

    @property
    def _size(self) -> tuple[int, int]:
        return self.preprocessing.to_pixels.size


def _widths(networks: "Iterable[nn.Module]", size: tuple[int, int]) -> "tuple[int, ...]":
    """Return the number of features that each network gives."""
    import torch

    with torch.inference_mode():
        return tuple(network(torch.zeros(1, 3, *size)).shape[1] for network in networks)
