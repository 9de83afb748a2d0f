"""The answer of a classifier to an input."""

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Probabilities = NDArray[np.float64]


@dataclass(frozen=True)
class ClassProbability:
    """A class that an input may belong to, and its probability."""

    label: str
    name: str
    probability: float


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of an input, best first; `known` is False where the classifier abstains.

    `out_of_distribution` says from 0 to 1 how unlike the training examples the input is: 0.5 is the threshold. It is
    None for a classifier that was saved before there was one. `reason` says in a few words why `known` is False.
    `features` are numbers of the input by which drift is found (see `Classifier.features`); no answer shows them.

    >>> Prediction((ClassProbability("1", "rose", 0.93),), known=True).to_json()
    {'top': [{'label': '1', 'name': 'rose', 'probability': 0.93}], 'known': True}
    """

    top: tuple[ClassProbability, ...]
    known: bool
    out_of_distribution: float | None = None
    reason: str | None = None
    features: tuple[float, ...] = field(default=(), repr=False, compare=False)

    def to_json(self) -> dict[str, Any]:
        """Return {"top": [{"label", "name", "probability"}, …], "known": true, "out_of_distribution": 0.2}.

        "reason" is there if `known` is false, and "out_of_distribution" if the classifier has a detector.
        """
        facts = {"known": self.known, "out_of_distribution": self.out_of_distribution, "reason": self.reason}
        top = [asdict(candidate) for candidate in self.top]
        return {"top": top, **{name: value for name, value in facts.items() if value is not None}}


@dataclass(frozen=True)
class Scored:
    """What the graph says of an input: probabilities [C], its strangeness, and its features [F].

    The strangeness is None where no detector tells it; a graph that was saved before there were features gives none.
    """

    probabilities: Probabilities
    strangeness: float | None
    features: tuple[float, ...] = ()
