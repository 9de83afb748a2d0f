"""What tasks and the rest of the package exchange: records without behavior, and the names of their types."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import nn

    from flowerml.config import params
    from flowerml.data.examples import Raw

Form = Literal["picture", "text"]
LogOdds = Callable[[Iterable[Any]], NDArray[np.float64]]
"""Return the log odds of a class [N] for N prepared inputs; N may be any number."""

Known = Callable[[str], Mapping[str, Any]]
STRANGEST = 1e6
"""The strangeness of an input in which a detector finds nothing that occurs in the training examples."""


def nothing_known(digest: str) -> Mapping[str, Any]:
    """Return no array."""
    return {}


@dataclass(frozen=True)
class Inspection:
    """The findings about one example, and the keys to find its duplicates by.

    `notes` maps the name of each finding to a few words of detail. Examples with the same `digest` are equal; the task
    compares `signature`s to find near duplicates.
    """

    digest: bytes
    signature: NDArray[np.generic]
    notes: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Detector:
    """A module that tells inputs unlike the training examples, and gives numbers of them by which drift is found.

    It maps encodings to (strangeness [B] > 0, higher is stranger; features [B, F]); its `features` are their F names.
    `held_out` [N] is the strangeness of training examples, each under a detector that was fitted without it. `seen` are
    mean and standard deviation of a score that it grows with, of the training examples themselves.
    """

    module: "nn.Module"
    held_out: NDArray[np.float64]
    seen: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True)
class Backbone:
    """A pretrained network by the names of `encode.backbone` and `encode.weights`, and where its weights are.

    `source` is installed (a package), cache (of torch or of the Hugging Face Hub) or published (to be downloaded).
    `file_bytes` is the size of the file, where it is known.
    """

    name: str
    weights: str
    source: Literal["installed", "cache", "published"]
    file_bytes: int | None = None

    @property
    def is_here(self) -> bool:
        return self.source != "published"


@dataclass(frozen=True)
class Choice:
    """A parameter that a preset sets, by its dotted name, and the reason for its value."""

    name: str
    value: Any
    reason: str


@dataclass(frozen=True)
class Situation:
    """What a preset depends on: the number of examples of each split, and what the user wants.

    `given` are the user's own parameters by their dotted names, which stay; `minutes` are those for everything, None
    where no time is given. `sample` has the raw inputs of some training examples.
    """

    counts: Mapping[str, int]
    given: Mapping[str, Any]
    minutes: float | None = None
    sample: "Sequence[Raw]" = ()


@dataclass(frozen=True)
class SectionTypes:
    """The types of a task's own sections in params.yaml.

    `problems` yields what is wrong with the sections encode and train together, each with the parameter's name.
    """

    data: "type[params.Data]"
    encode: "type[params.Section]"
    train: "type[params.Train]"
    problems: Callable[[Any, Any], Iterable[str]] = lambda encode, train: ()


@dataclass(frozen=True)
class Snippets:
    """How to query a registered version: programs in Python and for Spark, and the command that writes a request."""

    python: str
    spark: str
    request: str
