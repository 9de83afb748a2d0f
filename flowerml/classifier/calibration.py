"""Calibrated probabilities, and the threshold below which a classifier abstains.

One temperature divides all logits (Guo et al., 2017, "On Calibration of Modern Neural Networks"). One threshold on the
highest probability separates confident answers from those it abstains from (Hendrycks & Gimpel, 2017, "A Baseline for
Detecting Misclassified and Out-of-Distribution Examples"). Both are fitted on the validation split.

Fitting needs SciPy; a served model does not, so `softmax` is written out here. scikit-learn 1.9 fits a temperature too
(`CalibratedClassifierCV(method="temperature")`), but only around an estimator of its own: what it fits is private.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
from numpy.typing import NDArray

from flowerml.core import schema

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0
MIN_GAIN = 1e-6  # nats; a temperature that gains less is not worth having
TEMPERATURE_DECIMALS = 4  # further digits depend on the machine, not on the data
THRESHOLD_DECIMALS = 6  # rounded down, so that an example at the threshold stays above it on every machine
SCHEMA = schema.record(
    {},
    {
        "temperature": schema.number(MIN_TEMPERATURE / 10, MAX_TEMPERATURE * 10),
        "known_above": schema.number(0, 1),
        "acceptance": schema.number(0, 1),
    },
)


@dataclass(frozen=True)
class Calibration:
    """A temperature, and the probability from which on an answer is confident ("known").

    Probabilities are softmax(logits / temperature). `acceptance` is the share of the validation examples that the
    threshold `known_above` was chosen to accept. The defaults change no probability and accept every answer.

    >>> calibration = Calibration(temperature=2.0, known_above=0.7)
    >>> probabilities = calibration.probabilities(np.array([[2.0, 0.0], [1.0, 0.0]]))
    >>> probabilities.round(2).tolist()
    [[0.73, 0.27], [0.62, 0.38]]
    >>> [calibration.is_known(row) for row in probabilities]
    [True, False]
    """

    temperature: float = 1.0
    known_above: float = 0.0
    acceptance: float = 1.0

    @classmethod
    def fit(cls, logits: Array, targets: Indices, *, acceptance: float) -> Self:
        """Fit the temperature, then the threshold. logits [N, C], targets [N] are class indices."""
        temperature = fit_temperature(logits, targets)
        probabilities = softmax(logits / temperature)
        return cls(temperature, fit_threshold(probabilities, acceptance=acceptance), acceptance)

    @classmethod
    def from_state(cls, state: Mapping[str, float]) -> Self:
        """Return a saved calibration, as `asdict` gives it; raises ModelError for another one."""
        SCHEMA(state, "calibration")
        return cls(**{field.name: float(state[field.name]) for field in fields(cls) if field.name in state})

    def probabilities(self, logits: Array) -> Array:
        """Return the calibrated probabilities [N, C] of logits [N, C]."""
        return softmax(logits / self.temperature)

    def is_known(self, probabilities: Array) -> bool:
        """Return whether the classifier is confident: the highest probability [C] reaches the threshold."""
        return bool(probabilities.max() >= self.known_above)


def softmax(logits: Array) -> Array:
    """Return the probabilities [N, C] of logits [N, C]."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def fit_temperature(logits: Array, targets: Indices) -> float:
    """Return the temperature that minimizes the cross-entropy of the targets [N]; logits [N, C].

    Returns 1.0 where nothing can be gained: no examples, fewer than two classes, or constant logits.
    """
    from scipy.optimize import minimize_scalar  # type: ignore[import-untyped]
    from scipy.special import log_softmax  # type: ignore[import-untyped]

    count, classes = logits.shape
    if count == 0 or classes < 2:
        return 1.0

    def loss(log_temperature: float) -> float:
        log_probabilities = log_softmax(logits / math.exp(log_temperature), axis=1)
        of_targets = log_probabilities[np.arange(count), targets].sum()
        # One more example is counted, spread evenly over the classes. Where all N examples are classified correctly
        # the best confidence is then about N / (N + 1), and not 1, which takes infinite logits.
        return -float(of_targets + log_probabilities.mean()) / (count + 1)

    bounds = (math.log(MIN_TEMPERATURE), math.log(MAX_TEMPERATURE))
    best = float(minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6}).x)
    return round(math.exp(best), TEMPERATURE_DECIMALS) if loss(0.0) - loss(best) > MIN_GAIN else 1.0


def fit_threshold(probabilities: Array, *, acceptance: float) -> float:
    """Return the highest threshold that accepts at least the share `acceptance` of the examples; probabilities [N, C].

    Returns 0.0, which accepts everything, for an acceptance of 1 or without examples.
    """
    rejected = math.floor(len(probabilities) * (1 - acceptance) + 1e-9)
    if acceptance >= 1 or len(probabilities) == 0:
        return 0.0
    confidence = np.sort(probabilities.max(axis=1))
    scale = 10**THRESHOLD_DECIMALS
    return math.floor(confidence[min(rejected, len(confidence) - 1)] * scale) / scale
