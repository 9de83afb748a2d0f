"""The sections of params.yaml for a pipeline of kind image."""

from typing import Annotated

from pydantic import Field

from flowerml.config import params
from flowerml.config.params import Count, Fraction, Section


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


class Encode(Section):
    """The frozen backbone, and the number of views of each training picture."""

    backbone: str
    weights: str
    views: Count
    augment: Augment
    batch_size: Count
    seed: int


class Train(params.Train):
    """Training of the feed-forward head."""

    hidden_units: list[Count]
    dropout: Fraction
