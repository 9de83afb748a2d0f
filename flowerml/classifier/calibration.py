"""Calibrated probabilities, and the thresholds beyond which a classifier abstains.

One temperature divides all logits (Guo et al., 2017, "On Calibration of Modern Neural Networks"). One threshold on the
highest probability separates confident answers from those it abstains from (Hendrycks & Gimpel, 2017, "A Baseline for
Detecting Misclassified and Out-of-Distribution Examples"). A second threshold, on the strangeness that a detector gives
an input, rejects inputs unlike the training examples: of these the probabilities say little, as a network may be sure
of noise. All are fitted on the validation split.

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
SURE = 2.0  # standard errors by which fewer examples are rejected than may be
STRANGE_SHARE = 0.4  # of the inputs that may be rejected: as many as the detector may reject
STRANGE_MARGIN = 1e-4  # of the threshold: its last digits depend on the machine
MIN_STRANGE, MAX_STRANGE = 1e-9, 1e9
SCHEMA = schema.record(
    {},
    {
        "temperature": schema.number(MIN_TEMPERATURE / 10, MAX_TEMPERATURE * 10),
        "known_above": schema.number(0, 1),
        "acceptance": schema.number(0, 1),
        "strange_above": schema.nullable(schema.number(MIN_STRANGE, MAX_STRANGE)),
    },
)


@dataclass(frozen=True)
class Calibration:
    """A temperature, and the limits within which an answer is confident ("known").

    Probabilities are softmax(logits / temperature). An answer is known if its highest probability reaches
    `known_above` and its input's strangeness does not exceed `strange_above`; None where nothing detects that.
    `acceptance` is the share of the validation examples that both thresholds together were chosen to accept. The
    defaults change no probability and accept every answer.

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
    strange_above: float | None = None

    @classmethod
    def fit(
        cls,
        logits: Array,
        targets: Indices,
        *,
        acceptance: float,
        strangeness: Array | None = None,
        held_out: Array | None = None,
    ) -> Self:
        """Fit the temperature, then the thresholds. logits [N, C]; targets [N] are class indices.

        `strangeness` [N] is that of the same examples, and `held_out` [M] that of training examples under detectors
        that were fitted without them: with five validation examples there would be no quantile to speak of.
        """
        temperature = fit_temperature(logits, targets)
        probabilities = softmax(logits / temperature)
        if strangeness is None:
            return cls(temperature, fit_threshold(probabilities, acceptance=acceptance), acceptance)
        budget = _surely(1 - acceptance, len(targets))
        sample = strangeness if held_out is None else np.concatenate([strangeness, held_out])
        strange = min(budget, _surely(STRANGE_SHARE * (1 - acceptance), len(sample)))
        strange_above = fit_strange_threshold(sample, rejection=strange)
        typical = strangeness <= strange_above
        # Of the validation examples fewer may be strange than of others, which does not make room for more.
        rejected = math.floor(
            len(targets) * (budget - max(strange, 1 - typical.mean() if len(typical) else 0.0)) + 1e-9
        )
        highest = probabilities.max(axis=1, initial=0.0)[typical]
        known_above = 0.0 if acceptance >= 1 else _lowest_accepted(highest, max(rejected, 0))
        return cls(temperature, known_above, acceptance, strange_above)

    @classmethod
    def from_state(cls, state: Mapping[str, float | None]) -> Self:
        """Return a saved calibration, as `asdict` gives it; raises ModelError for another one."""
        SCHEMA(state, "calibration")
        values = {field.name: state[field.name] for field in fields(cls) if state.get(field.name) is not None}
        return cls(**{name: float(value) for name, value in values.items() if value is not None})

    def probabilities(self, logits: Array) -> Array:
        """Return the calibrated probabilities [N, C] of logits [N, C]."""
        return softmax(logits / self.temperature)

    def is_known(self, probabilities: Array, strangeness: float | None = None) -> bool:
        """Return whether the classifier is confident of an answer: [C], and the strangeness of its input."""
        return bool(probabilities.max() >= self.known_above) and not self.is_strange(strangeness)

    def is_strange(self, strangeness: float | None) -> bool:
        """Return whether an input is unlike the training examples."""
        return strangeness is not None and self.strange_above is not None and strangeness > self.strange_above

    def out_of_distribution(self, strangeness: float | None) -> float | None:
        """Return the strangeness of an input on a scale from 0 to 1 where the threshold is 0.5; None without one.

        >>> Calibration(strange_above=2.0).out_of_distribution(6.0)
        0.75
        """
        if strangeness is None or self.strange_above is None:
            return None
        positive = max(strangeness, 0.0)
        return positive / (positive + self.strange_above)


def softmax(logits: Array) -> Array:
    """Return the probabilities [N, C] of logits [N, C]."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def fit_temperature(logits: Array, targets: Indices) -> float:
    """Return the temperature that minimizes the cross-entropy of the targets [N]; logits [N, C].

    Returns 1.0 where nothing can be gained: no examples, fewer than two classes, or constant logits.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

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
    if acceptance >= 1:
        return 0.0
    rejected = math.floor(len(probabilities) * (1 - acceptance) + 1e-9)
    return _lowest_accepted(probabilities.max(axis=1, initial=0.0), rejected)


def _lowest_accepted(highest: Array, rejected: int) -> float:
    """Return the threshold that rejects `rejected` of the examples with these highest probabilities [N]; 0.0 for none.

    Of equal ones all are accepted.
    """
    if len(highest) == 0:
        return 0.0
    scale = 10**THRESHOLD_DECIMALS
    return math.floor(np.sort(highest)[min(rejected, len(highest) - 1)] * scale) / scale


def _surely(share: float, count: int) -> float:
    """Return the share of `count` examples to reject so that of others surely no more than `share` are.

    A threshold that rejects a share of these examples rejects more of others half of the time.
    """
    return max(0.0, share - SURE * math.sqrt(share * (1 - share) / max(count, 1)))


def fit_strange_threshold(strangeness: Array, *, rejection: float) -> float:
    """Return the lowest threshold that rejects at most the share `rejection` of the examples; strangeness [N].

    Returns MAX_STRANGE, which rejects none, without examples.
    """
    if len(strangeness) == 0:
        return MAX_STRANGE
    rejected = min(math.floor(len(strangeness) * rejection + 1e-9), len(strangeness) - 1)
    highest = float(np.sort(strangeness)[len(strangeness) - 1 - rejected])
    return min(max(highest * (1 + STRANGE_MARGIN), MIN_STRANGE), MAX_STRANGE)
