"""When a training ends early: a trial below the median of earlier ones, or after an epoch that was set.

Not Optuna's MedianPruner, whose rule this is: it asks the live study, and with several trials at once its answer
depends on which of them happened to be told first. Here the medians are those of the trials that had been told when a
trial was asked. They are plain data, so that a worker decides as the driver does, without asking it.
"""

import bisect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flowerml.engine.fit import Epoch

# No trial is pruned before so many others have finished, nor before this share of its epochs.
TRIALS_BEFORE_PRUNING = 3
EPOCHS_BEFORE_PRUNING = 1 / 3


@dataclass(frozen=True)
class Stop:
    """The end of a training: after the epoch `last`, or where its best accuracy is below the median of its epoch.

    >>> from flowerml.engine.fit import Epoch
    >>> epochs = [Epoch(number, 1.0, 0.5, 1.0, 0.6, 0.1, 1.0) for number in (1, 2)]
    >>> Stop(medians={2: 0.7}).ends(epochs[:1]), Stop(medians={2: 0.7}).ends(epochs), Stop(last=2).ends(epochs)
    (False, True, True)
    """

    last: int | None = None
    medians: Mapping[int, float] = field(default_factory=dict)

    def ends(self, epochs: "Sequence[Epoch]") -> bool:
        """Return whether a training ends after these epochs."""
        return epochs[-1].number == self.last or self.prunes(epochs)

    def prunes(self, epochs: "Sequence[Epoch]") -> bool:
        """Return whether a training is pruned after these epochs."""
        median = self.medians.get(epochs[-1].number)
        if median is None:
            return False
        best = best_so_far([epoch.valid_accuracy for epoch in epochs])[-1]
        return math.isnan(best) or best < median


NEVER = Stop()


class Medians:
    """The medians, over trials, of the best accuracy that each had reached after an epoch.

    >>> medians = Medians(warmup=2)
    >>> for accuracies in ([0.1, 0.5], [0.2, 0.1], [0.3, 0.9]):
    ...     medians.add(accuracies)
    >>> medians.snapshot()
    {2: 0.5}
    """

    def __init__(self, warmup: int) -> None:
        self._warmup = warmup
        self._trials = 0
        self._sorted: dict[int, list[float]] = {}

    def add(self, accuracies: Sequence[float]) -> None:
        """Add a complete trial by the accuracies of its epochs."""
        self._trials += 1
        for number, best in enumerate(best_so_far(accuracies), start=1):
            if number >= self._warmup and not math.isnan(best):
                bisect.insort(self._sorted.setdefault(number, []), best)

    def snapshot(self) -> dict[int, float]:
        """Return the medians by epoch; none while too few trials are complete."""
        if self._trials < TRIALS_BEFORE_PRUNING:
            return {}
        return {number: _median(values) for number, values in sorted(self._sorted.items())}


def best_so_far(accuracies: Sequence[float]) -> list[float]:
    """Return the highest accuracy up to each epoch; NaN counts for nothing.

    >>> best_so_far([0.5, 0.4, 0.6])
    [0.5, 0.5, 0.6]
    """
    best, bests = math.nan, []
    for accuracy in accuracies:
        best = accuracy if math.isnan(best) or accuracy > best else best
        bests.append(best)
    return bests


def _median(values: Sequence[float]) -> float:
    """Return the median of sorted values, to the bit of `numpy.percentile`, by which Optuna prunes."""
    low, high = values[(len(values) - 1) // 2], values[len(values) // 2]
    return high - (high - low) * 0.5
