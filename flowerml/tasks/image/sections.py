"""The sections of params.yaml for a pipeline of kind image."""

import json
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PlainValidator, model_validator

from flowerml.config import params
from flowerml.config.params import Count, Fraction, NotNegative, Positive, Section, Share

MAX_TOWERS = 8  # backbones whose features are concatenated


class Limits(params.Limits):
    """Limits of untrusted input; Pillow itself rejects pictures of more than 178,956,970 pixels."""

    pixels: Annotated[int, Field(ge=1, le=178_956_970)]


class Checks(params.Checks):
    """Limits beyond which a picture is reported; sides are in pixels."""

    smallest_side: Count
    largest_side: Count
    longest_shape: Annotated[float, Field(ge=1)]


class Data(params.Data):
    """Pictures in one folder per class, or in any folders with a table of labels."""

    checks: Checks
    limits: Limits


class Augment(Section):
    """The notebook's random transforms, for every view of a training picture but the first."""

    rotation: Annotated[float, Field(ge=0, le=180)]
    smallest_crop: Annotated[float, Field(gt=0, le=1)]
    flip: bool


def _names_of_backbones(value: Any) -> str | list[str]:
    # Not a union: pydantic would report an error for each of its members.
    names = value if isinstance(value, list) else [value]
    if all(isinstance(name, str) and name for name in names) and 1 <= len(set(names)) == len(names) <= MAX_TOWERS:
        return value
    raise ValueError(
        f"expected the name of a network, or a list of up to {MAX_TOWERS} different names, found "
        f"{json.dumps(value, default=str)}"
    )


def _blocks_to_train(value: Any) -> int | Literal["all"]:
    if value == "all" or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        return value
    raise ValueError(
        f"expected 0 (nothing is trained but the head), a number of blocks, or all, found "
        f"{json.dumps(value, default=str)}"
    )


class Encode(Section):
    """The backbones, how much of them is trained, and the number of cached views of each training picture."""

    backbone: Annotated[str | list[str], PlainValidator(_names_of_backbones)]
    weights: str
    size: Annotated[int, Field(ge=16, le=4096)] | None = None
    trainable_blocks: Annotated[int | Literal["all"], PlainValidator(_blocks_to_train)] = 0
    cache: Literal["pictures", "activations"] | None = None
    views: Count
    augment: Augment
    batch_size: Count
    seed: int

    @property
    def backbones(self) -> tuple[str, ...]:
        """The names of the backbones, in the order of their features."""
        return (self.backbone,) if isinstance(self.backbone, str) else tuple(self.backbone)

    @property
    def cached(self) -> Literal["pictures", "activations"] | None:
        """What is cached besides the features: None where nothing but a head is trained."""
        return None if self.trainable_blocks == 0 else self.cache or "pictures"

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.trainable_blocks == "all" and self.cache == "activations":
            raise ValueError("cache: nothing in front of the trained blocks where all are trained; set it to pictures")
        if len(self.backbones) > 1:
            if self.weights not in ("imagenet", "none"):
                raise ValueError("weights: a file fits one backbone; expected imagenet or none for several")
            if self.cache == "activations":
                raise ValueError("cache: activations are those of one backbone; set it to pictures for several")
        return self


class TrainAugment(Section):
    """The random transforms of a picture while a part of the backbone is trained, drawn anew in every epoch.

    `smallest_crop` is a share of the area, `rotation` in degrees, `color` the largest relative change of brightness,
    contrast and saturation, `erase` the probability of a gray rectangle, `randaugment` the magnitude of two random
    operations (Cubuk et al., 2020), of 10; 0 is none.
    """

    smallest_crop: Annotated[float, Field(gt=0, le=1)] = 0.4
    flip: bool = True
    vertical_flip: bool = False
    rotation: Annotated[float, Field(ge=0, le=180)] = 0.0
    color: Annotated[float, Field(ge=0, le=1)] = 0.0
    erase: Annotated[float, Field(ge=0, le=1)] = 0.0
    randaugment: Annotated[float, Field(ge=0, le=10)] = 0.0


# The trials of the head alone: what was best for one on frozen features, of flowers of 102 kinds and of 5, and what is
# tried. Fine-tuning starts from such a head.
HEAD: dict[str, Any] = {
    "fine_tune": False,
    "learning_rate": 0.003,
    "batch_size": 64,
    "epochs": 25,
    "optimizer": "adamw",
    "weight_decay": 0.1,
    "schedule": "one_cycle",
    "label_smoothing": 0.1,
    "dropout": 0.4,
    "patience": None,
    "warmup_epochs": 0.0,
    "ema": 0.0,
    "mixup": 0.0,
    "clip_norm": None,
    "accumulate": 1,
    "precision": "float32",
}
HEAD_SPACE = {
    "dropout": [0.2, 0.4, 0.6],
    "hidden_units": [[], [512]],
    "learning_rate": {"low": 0.001, "high": 0.01, "log": True},
}


class Train(params.Train):
    """Training of the feed-forward head and, where `encode.trainable_blocks` is not 0, of the backbone's last blocks.

    Older files lack all but the first two. Without blocks to train, or with `fine_tune` false, what is said of the
    backbone and of pictures has no effect. `backbone_learning_rate` is a share of `learning_rate`, `layer_decay` a
    factor for each block below the last, `ema` the decay of averaged weights, `mixup` the alpha of its Beta
    distribution. A step takes `accumulate` batches.
    """

    hidden_units: list[Count]
    dropout: Fraction
    fine_tune: bool = True
    backbone: str | None = None
    head_start: Literal["probe", "random"] = "probe"
    freeze_epochs: Annotated[int, Field(ge=0)] = 0
    backbone_learning_rate: Positive = 0.7
    layer_decay: Share = 0.8
    warmup_epochs: NotNegative = 0.0
    batch_norm: Literal["frozen", "trained"] = "frozen"
    train_depthwise: bool | None = None
    ema: Fraction = 0.0
    mixup: NotNegative = 0.0
    clip_norm: Positive | None = None
    accumulate: Count = 1
    precision: Literal["float32", "bfloat16"] = "float32"
    size: Annotated[int, Field(ge=8, le=4096)] | None = None
    augment: TrainAugment = TrainAugment()

    def head_alone(self) -> Self:
        """Return the section of the head's own trials: see `flowerml.config.params.Train`."""
        search = {
            "trials": max(self.search.head_trials, 1),
            "ahead": self.search.ahead,
            "prune": self.search.prune,
            "space": HEAD_SPACE,
        }
        return self.with_values({**HEAD, "search": search})

    def head_choices(self) -> dict[str, Any]:
        """Return the shape of this head, which depends on the features and less on how it is trained."""
        return {"hidden_units": self.hidden_units, "dropout": self.dropout}


def problems(encode: Encode, train: Train) -> Iterator[str]:
    """Yield what is wrong with the two sections together: the parameter and what to do."""
    if train.search.head_trials and encode.trainable_blocks == 0:
        yield (
            "train.search.head_trials: every trial is one of a head where encode.trainable_blocks is 0; set the former "
            "to 0, or the latter to a number of blocks"
        )
    if encode.cache == "activations" and (train.size is not None or "size" in train.search.space):
        yield "train.size: cached activations are of one size; set it to null, or encode.cache to pictures"
    searched = train.search.space.get("backbone")
    for name in [train.backbone, *(searched if isinstance(searched, list) else [])]:
        if name is not None and name not in encode.backbones:
            known = ", ".join(encode.backbones)
            yield f"train.backbone: {name!r} is not among those of encode.backbone ({known}); name one of them or null"
