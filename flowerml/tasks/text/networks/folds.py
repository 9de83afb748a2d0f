"""Held-out margins: of the validation texts, and of the training texts by cross-validation.

A split of a few hundred texts is too small to choose a penalty, to calibrate or to weight a blend on. Where it is, the
training texts are cross-validated too: a model fitted without a fold answers for the texts of the fold.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

ENOUGH = 2000  # held-out texts; their accuracy has a standard error of less than 0.01

Rows = NDArray[np.int64]


class Model(Protocol):
    """A fitted model: rows of a split -> margins [len(rows), C]."""

    def __call__(self, split: str, rows: Rows, /) -> NDArray[Any]: ...


M = TypeVar("M", bound=Model)


@dataclass(frozen=True)
class HeldOut(Generic[M]):
    """The model of all training texts, and the margins [N, C] and targets [N] of all held-out texts.

    The validation texts come first, then the training texts that were cross-validated, in their order.
    """

    model: M
    margins: NDArray[Any]
    targets: NDArray[np.int64]

    @property
    def accuracy(self) -> float:
        """The share of texts whose target has the highest margin."""
        return float((self.margins.argmax(axis=1) == self.targets).mean())


def folds_needed(folds: int, valid: int) -> int:
    """Return the folds to cross-validate in: none where `valid` validation texts are ENOUGH.

    >>> folds_needed(5, 381), folds_needed(5, 2500), folds_needed(0, 381)
    (5, 0, 0)
    """
    return folds if valid < ENOUGH else 0


def fold_numbers(targets: NDArray[Any], folds: int) -> NDArray[np.int64]:
    """Return the fold of each text, [N]; the texts of a class are spread evenly. The same targets give the same folds.

    >>> fold_numbers(np.array([0, 0, 0, 0, 1, 1]), 2).tolist()
    [0, 1, 1, 0, 1, 0]
    """
    shuffled = np.random.default_rng(0).permutation(len(targets))  # a source may be sorted by author or date
    by_class = shuffled[np.argsort(targets[shuffled], kind="stable")]
    numbers = np.empty(len(targets), np.int64)
    numbers[by_class] = np.arange(len(targets)) % folds
    return numbers


def hold_out(fit: Callable[[Rows], M], targets: Mapping[str, NDArray[Any]], *, folds: int) -> HeldOut[M]:
    """Fit a model of all training texts, and one without each fold; return the first and all held-out margins.

    Folds are left out one after the other, until ENOUGH texts are held out. `fit` takes ascending rows of the train
    split and returns a model of them. A rare class may be missing from these: its margins must still be finite.
    `targets` are those of train and valid; with 0 folds only valid is held out.
    """
    everything = np.arange(len(targets["train"]))
    model = fit(everything)
    valid = model("valid", np.arange(len(targets["valid"])))
    numbers = fold_numbers(targets["train"], folds) if folds else np.full(len(everything), -1)
    crossed = np.full((len(everything), valid.shape[1]), np.nan)
    held_out = np.zeros(len(everything), bool)
    for fold in range(folds):
        rest, rows = everything[numbers != fold], everything[numbers == fold]
        if len(rest) and len(rows) and len(valid) + held_out.sum() < ENOUGH:
            crossed[rows] = fit(rest)("train", rows)
            held_out[rows] = True
    return HeldOut(
        model,
        np.concatenate([valid, crossed[held_out]]),
        np.concatenate([targets["valid"], targets["train"][held_out]]),
    )


def hold_out_parts(targets: Mapping[str, NDArray[Any]], *, parts: int) -> Callable[[Callable[[Rows], M]], HeldOut[M]]:
    """Return a function that fits a model of the first of `parts` of the training texts, for comparing fits quickly.

    It holds out the validation texts, then the second part.
    """
    numbers = fold_numbers(targets["train"], parts)
    rows, others = np.flatnonzero(numbers == 0), np.flatnonzero(numbers == 1)

    def held_out(fit: Callable[[Rows], M]) -> HeldOut[M]:
        model = fit(rows)
        margins = [model("valid", np.arange(len(targets["valid"]))), model("train", others)]
        return HeldOut(model, np.concatenate(margins), np.concatenate([targets["valid"], targets["train"][others]]))

    return held_out
