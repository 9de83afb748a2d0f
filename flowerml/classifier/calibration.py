"""How far a classifier's probabilities can be taken at their word, and below which one it had better say "unknown".

One temperature for all logits (Guo et al., 2017, "On Calibration of Modern Neural Networks"), and one threshold on the
best probability (Hendrycks & Gimpel, 2017, "A Baseline for Detecting Misclassified and Out-of-Distribution Examples").
Both are fitted on the validation split. Measuring needs pandas, fitting SciPy; what is served needs neither.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

BINS = 15
COLDEST, HOTTEST = 0.05, 20.0
SMALLEST_GAIN = 1e-6  # nats; a temperature that gains less is as good as none
PLACES = 4  # a temperature has; more would tell of the machine it was fitted on, and not of the data
THRESHOLD_PLACES = 6  # rounded down, so that an example at the threshold stays above it on every machine


@dataclass(frozen=True)
class Calibration:
    """Probabilities are softmax(logits / temperature); an answer is known from a best probability of `known_above` on.

    `acceptance` is the share of the validation examples that were to be known. As it is without arguments, it changes
    no probability, and every answer is known.
    """

    temperature: float = 1.0
    known_above: float = 0.0
    acceptance: float = 1.0

    @classmethod
    def fit(cls, logits: Array, targets: Indices, *, acceptance: float) -> Self:
        """What suits these logits [N, C] of examples whose classes are the targets [N]."""
        temperature = fit_temperature(logits, targets)
        probabilities = softmax(logits / temperature)
        return cls(temperature, fit_threshold(probabilities, acceptance=acceptance), acceptance)

    def probabilities(self, logits: Array) -> Array:
        """The probability of each class, [N, C], from logits [N, C]."""
        return softmax(logits / self.temperature)

    def is_known(self, probabilities: Array) -> bool:
        """Whether the best of one example's probabilities [C] is at least the threshold."""
        return bool(probabilities.max() >= self.known_above)


def softmax(logits: Array) -> Array:
    """Logits [N, C] as probabilities [N, C]."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def fit_temperature(logits: Array, targets: Indices) -> float:
    """The temperature from COLDEST to HOTTEST under which the targets [N] are most likely; logits [N, C].

    One example more, which is evenly of all classes, is counted in: N examples that are all told right then ask for a
    confidence of about N / (N + 1), and not for an infinite one. 1.0 where nothing can be gained: without examples,
    with fewer than two classes, with logits that say nothing.
    """
    from scipy.optimize import minimize_scalar  # type: ignore[import-untyped]

    count, classes = logits.shape
    if count == 0 or classes < 2:
        return 1.0

    def loss(log_temperature: float) -> float:
        logarithms = _log_softmax(logits / math.exp(log_temperature))
        told = logarithms[np.arange(count), targets].sum()
        return -float(told + logarithms.mean()) / (count + 1)

    bounds = (math.log(COLDEST), math.log(HOTTEST))
    found = float(minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6}).x)
    return round(math.exp(found), PLACES) if loss(0.0) - loss(found) > SMALLEST_GAIN else 1.0


def fit_threshold(probabilities: Array, *, acceptance: float) -> float:
    """The highest threshold that at least the share `acceptance` of the examples reaches; probabilities [N, C].

    0.0, under which everything is known, for an acceptance of 1 and where there are no examples.
    """
    refused = math.floor(len(probabilities) * (1 - acceptance) + 1e-9)
    if acceptance >= 1 or len(probabilities) == 0:
        return 0.0
    best = np.sort(probabilities.max(axis=1))
    return math.floor(best[min(refused, len(best) - 1)] * 10**THRESHOLD_PLACES) / 10**THRESHOLD_PLACES


def expected_calibration_error(probabilities: Array, targets: Indices, *, bins: int = BINS) -> float:
    """By how much confidence and accuracy differ, as a mean over examples; probabilities [N, C], targets [N].

    Naeini et al. (2015): examples are put into `bins` of equal width by their best probability, as in `reliability`.
    With few examples it is above 0 for a perfect model too. NaN for no examples.
    """
    table = reliability(probabilities, targets, bins=bins)
    apart = (table["confidence"] - table["accuracy"]).abs()
    return float((apart * table["count"]).sum() / table["count"].sum()) if len(table) else math.nan


def reliability(probabilities: Array, targets: Indices, *, bins: int = BINS) -> "pd.DataFrame":
    """confidence (mean best probability), accuracy and count of each bin that holds examples, ascending.

    Bins have equal width between 0 and 1, and each has its upper end; probabilities [N, C], targets [N].
    """
    import pandas as pd

    best = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == targets
    numbers = np.ceil(best * bins).clip(1, bins).astype(int)
    table = pd.DataFrame({"bin": numbers, "confidence": best, "accuracy": right.astype(np.float64)})
    grouped = table.groupby("bin")
    return grouped.mean().assign(count=grouped.size()).reset_index(drop=True)


def known_of(answer: Any) -> bool | None:
    """What the JSON of an answer says of its certainty, None where the model is older than that.

    Raises ValueError for what is neither true nor false.
    """
    known = answer.get("known")
    if not (known is None or isinstance(known, bool)):
        raise ValueError("known is neither true nor false")
    return known


def _log_softmax(logits: Array) -> Array:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
