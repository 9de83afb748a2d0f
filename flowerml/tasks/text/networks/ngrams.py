"""The n-gram network of the text task: a linear model on n-grams of words and of characters.

Linear SVMs (see `linear`), whose margins a scale and a bias turn into probabilities (after Platt, 1999). The penalty is
chosen, and scale and bias are fitted, on texts that the model has not seen (see `folds`).
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor, nn

from flowerml.engine.fit import Epoch
from flowerml.tasks.text.networks.at_once import AtOnce
from flowerml.tasks.text.networks.folds import HeldOut, folds_needed, hold_out, hold_out_parts
from flowerml.tasks.text.networks.linear import LinearFit, LinearModel
from flowerml.tasks.text.networks.lookup import LARGEST, Lookup
from flowerml.tasks.text.networks.ngram_counts import CHARACTERS, SHORTEST, SPACE, extend_hashes

USUAL_SCALE = 3.0  # of the margins of SVMs
PULL = 1.0  # loss of a scale e times the usual one, or of a bias of 1, in texts
# Values in the matrix of texts, times classes: where there are more, a fit takes over two seconds, and penalties are
# compared on a part of the texts.
WORK = 40_000_000
MOST_PARTS = 4  # the best penalty for a quarter of the texts is rarely more than a step from that for all
PENALTIES = (0.1, 0.3, 1.0, 3.0, 10.0)  # tried where none is given, from the middle towards the better side


class NGrams(nn.Module):
    """A table of n-grams: hashes of a text's words, and its characters -> logits [B, C].

    `words` int64 [B, W] holds stateless 31-bit hashes of tokens, `word_lengths` int64 [B] the lengths of the texts;
    padding is never read. With `longest` > 0 the n-grams of up to so many `characters` [B, T] count too. The vector of
    a text has 1 + log(count) for each of its n-grams that is in the table; a text without any gets the bias.

    >>> network = NGrams(2, order=2, longest=0)
    >>> network(torch.tensor([[101, 102, 0]]), torch.tensor([2])).tolist()
    [[0.0, 0.0]]
    """

    def __init__(self, classes: int, *, order: int, longest: int) -> None:
        super().__init__()
        self.classes, self.order, self.longest = classes, order, longest
        self.reads = ("words", "word_lengths", *(("characters", "character_lengths") if longest else ()))
        self.table: Tensor
        self.norms: Tensor
        self.bias: Tensor
        self.register_buffer("bias", torch.zeros(classes))
        self._make_table(np.empty(0, np.int64))

    def fill(self, ids: NDArray[np.int64], table: NDArray[Any], norms: NDArray[Any], bias: NDArray[Any]) -> None:
        """Set the n-grams: ascending ids [G], what each adds to the logits [G, C], and to the squared length [G]."""
        self._make_table(ids)
        self.table[:-1] = torch.from_numpy(table)
        self.norms[:-1] = torch.from_numpy(norms)
        self.bias.copy_(torch.from_numpy(bias))

    def forward(
        self,
        words: Tensor,
        word_lengths: Tensor,
        characters: Tensor | None = None,
        character_lengths: Tensor | None = None,
    ) -> Tensor:
        ids = self._word_ids(words, word_lengths[:, None])
        if characters is not None and character_lengths is not None:
            ids = torch.cat([ids, self._character_ids(characters, character_lengths[:, None])], dim=1)
        ids = ids.sort(dim=1).values
        first = ids != torch.cat([torch.full_like(ids[:, :1], -1), ids[:, :-1]], dim=1)
        # The counts of the text's distinct n-grams, each at the place of the first occurrence.
        numbers = first.long().cumsum(dim=1) - 1
        ones = torch.ones_like(ids, dtype=torch.float32)
        counts = torch.zeros_like(ones).scatter_add(1, numbers, ones).gather(1, numbers)
        values = torch.where(first, 1 + counts.log(), 0)
        rows = self.lookup(ids)
        lengths = (values * self.norms[rows].float()).square().sum(dim=1, keepdim=True).sqrt()
        sums = torch.matmul(values[:, None], self.table[rows].float())[:, 0]
        return sums / torch.where(lengths > 0, lengths, 1) + self.bias

    def _word_ids(self, words: Tensor, lengths: Tensor) -> Tensor:
        """Return the ids of the n-grams that start at each word, [B, order * W]; 0 where one would pass the end."""
        positions = torch.arange(words.shape[1], device=words.device)
        hashes, ids = torch.zeros_like(words), []
        for length in range(1, self.order + 1):
            hashes = extend_hashes(hashes, words)
            ids.append(hashes.clamp(min=1) * (positions + length <= lengths))
            words = _shift(words)
        return torch.cat(ids, dim=1)

    def _character_ids(self, characters: Tensor, lengths: Tensor) -> Tensor:
        """Return the ids of the n-grams that start at each character; 0 where one would pass the end or a space."""
        positions = torch.arange(characters.shape[1], device=characters.device)
        hashes, ids = torch.full_like(characters, CHARACTERS), []
        letters = characters != SPACE
        inside = torch.ones_like(letters)
        for length in range(1, self.longest + 1):
            hashes = extend_hashes(hashes, characters)
            characters = _shift(characters)
            if length > 2:  # all but the first and the last character must be within a word
                letters = _shift(letters)
                inside = inside & letters
            if length >= SHORTEST:
                ids.append(hashes.clamp(min=1) * (inside & (positions + length <= lengths)))
        return torch.cat(ids, dim=1)

    def _make_table(self, ids: NDArray[np.int64]) -> None:
        """Make an empty table of these n-grams; its last row is that of all others."""
        self.lookup = Lookup(ids).to(self.bias.device)
        shape = (len(ids) + 1, self.classes)
        # Half precision moves logits by about 1e-3, and keeps the file half as large.
        self.register_buffer("table", torch.zeros(shape, dtype=torch.float16, device=self.bias.device))
        self.register_buffer("norms", torch.zeros(shape[0], dtype=torch.float16, device=self.bias.device))

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *arguments: Any) -> None:
        """Load a table of any number of n-grams; of the hashed tables of version 0.1 nothing.

        Only blends are trained further, and count their n-grams anew.
        """
        if state_dict.pop(f"{prefix}keys", None) is not None:
            state_dict.update({prefix + name: tensor for name, tensor in self.state_dict().items()})
        ids = state_dict.get(f"{prefix}lookup.ids")
        if ids is not None:
            self._make_table(ids[ids < LARGEST].cpu().numpy().astype(np.int64))
        super()._load_from_state_dict(state_dict, prefix, *arguments)


@dataclass(frozen=True)
class FittedNGrams:
    """A model with the scale and the bias of its logits, and the logits [N, C] of all held-out texts."""

    model: LinearModel
    penalty: float
    scale: float
    bias: NDArray[np.float64]
    held_out: HeldOut[LinearModel]

    def logits(self, split: str, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the logits of texts, [len(rows), C]."""
        return self.model(split, rows) * self.scale + self.bias

    @property
    def loss(self) -> float:
        """The mean cross-entropy of held-out texts. It chooses: it varies less from sample to sample than accuracy."""
        return _score(self.held_out.margins, self.held_out.targets)[0]

    def fill(self, network: NGrams) -> None:
        """Put the model into the network."""
        model = self.model
        network.fill(
            model.counts.ids, model.weights * self.scale, model.norms, model.intercepts * self.scale + self.bias
        )


def fit_ngrams(fit: LinearFit, valid_targets: NDArray[np.int64], *, penalty: float | None, folds: int) -> FittedNGrams:
    """Fit n-grams, with the best of PENALTIES if `penalty` is None: the one with the lowest loss on held-out texts.

    Where a fit of all texts takes long, penalties are compared on a part of them.
    """
    targets = {"train": fit.targets, "valid": valid_targets}
    folds = folds_needed(folds, len(valid_targets))

    def fitted(penalty: float) -> FittedNGrams:
        return _calibrated(hold_out(lambda rows: fit(rows, penalty=penalty), targets, folds=folds), fit, penalty)

    if penalty is not None:
        return fitted(penalty)
    parts = min(math.ceil(fit.work / WORK), MOST_PARTS)
    if parts < 2:
        return _best(fitted)
    part = hold_out_parts(targets, parts=parts)
    return fitted(
        _best(lambda penalty: _calibrated(part(lambda rows: fit(rows, penalty=penalty)), fit, penalty)).penalty
    )


def _calibrated(held_out: HeldOut[LinearModel], fit: LinearFit, penalty: float) -> FittedNGrams:
    weights = None if fit.class_weights is None else torch.from_numpy(fit.class_weights)
    scale, bias = fit_calibration(held_out.margins, held_out.targets, weights)
    logits = HeldOut(held_out.model, held_out.margins * scale + bias, held_out.targets)
    return FittedNGrams(held_out.model, penalty, scale, bias, logits)


def _best(fitted: Callable[[float], FittedNGrams]) -> FittedNGrams:
    """Return the fit with the best penalty: a climb from the middle of PENALTIES, as the score has one peak."""

    def climb(number: int, step: int, best: FittedNGrams) -> FittedNGrams:
        while 0 <= number + step < len(PENALTIES):
            number += step
            candidate = fitted(PENALTIES[number])
            if candidate.loss >= best.loss:
                break
            best = candidate
        return best

    middle = len(PENALTIES) // 2
    start = fitted(PENALTIES[middle])
    best = climb(middle, -1, start)
    return best if best is not start else climb(middle, 1, start)


class NGramsTrainer(AtOnce):
    """The fit of n-grams as a `flowerml.engine.fit.Training` of one epoch.

    Its validation loss and accuracy are those of all held-out texts. `held_out` has their logits, after the epoch.
    """

    def __init__(self, network: NGrams, fit: Callable[[], FittedNGrams], targets: dict[str, NDArray[np.int64]]) -> None:
        self._network, self._targets = network, targets
        super().__init__(network, self._fit(fit))
        self.held_out: HeldOut[LinearModel] | None = None

    def _fit(self, fit: Callable[[], FittedNGrams]) -> Iterator[Epoch]:
        started = time.perf_counter()
        fitted = fit()
        fitted.fill(self._network)
        self.held_out = fitted.held_out
        train = self._targets["train"]
        scores = (
            *_score(fitted.logits("train", np.arange(len(train))), train),
            *_score(fitted.held_out.margins, fitted.held_out.targets),
        )
        yield Epoch(1, *scores, 0.0, time.perf_counter() - started, {"penalty": fitted.penalty})


def fit_calibration(
    margins: NDArray[Any], targets: NDArray[Any], class_weights: Tensor | None = None
) -> tuple[float, NDArray[np.float64]]:
    """Return the scale > 0 and the bias [C] that minimize the cross-entropy of softmax(scale * margins + bias).

    margins [N, C], targets [N], class_weights [C]: the weights of each class's examples. As in Platt (1999), each
    class gets one extra example, spread evenly over all texts; otherwise perfectly separated classes would give an
    infinite scale. With a handful of texts, whose margins may be worse than chance, the scale stays near USUAL_SCALE
    and the bias near 0.
    """
    count, classes = margins.shape
    weights = np.ones(classes) if class_weights is None else class_weights.double().numpy()
    truth = (np.eye(classes)[targets] * count + 1) / (count + classes) * weights
    usual, total = np.array([np.log(USUAL_SCALE), *np.zeros(classes)]), truth.sum()

    def loss(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        scaled = np.exp(parameters[0]) * margins
        logits = scaled + parameters[1:]
        logits = logits - logits.max(axis=1, keepdims=True)
        logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        residuals = np.exp(logs) * truth.sum(axis=1, keepdims=True) - truth
        distance = parameters - usual
        value = -(truth * logs).sum() + PULL * distance @ distance
        gradient = np.concatenate([[(residuals * scaled).sum()], residuals.sum(axis=0)]) + 2 * PULL * distance
        return value / total, gradient / total

    # Not torch.optim.LBFGS: it imports a compiler, which takes two to three seconds.
    parameters = minimize(loss, usual, jac=True, method="L-BFGS-B", options={"maxiter": 500, "ftol": 1e-12}).x
    return float(np.exp(parameters[0])), parameters[1:]


def _shift(items: Tensor) -> Tensor:
    """Return the items one place to the left: a slice of a text shorter than an n-gram would have a negative length."""
    return torch.cat([items[:, 1:], torch.zeros_like(items[:, :1])], dim=1)


def _score(logits: NDArray[np.float64], targets: NDArray[Any]) -> tuple[float, float]:
    """Return the mean cross-entropy and the accuracy."""
    truth = torch.from_numpy(targets).long()
    loss = nn.functional.cross_entropy(torch.from_numpy(logits), truth).item()
    return loss, float((logits.argmax(axis=1) == targets).mean())
