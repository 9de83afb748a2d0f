"""Blends of the n-gram network with the LSTM, or with the head on a pretrained encoder."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from flowerml.engine.averaging import BestWeights
from flowerml.engine.fit import Epoch, State, Training
from flowerml.tasks.text.networks.at_once import AtOnce
from flowerml.tasks.text.networks.folds import HeldOut
from flowerml.tasks.text.networks.head import Head, HeadTrainer, losses, score
from flowerml.tasks.text.networks.lstm import Lstm
from flowerml.tasks.text.networks.ngrams import NGrams, NGramsTrainer

PULL = 3.0  # texts that speak for equal weights, when those of a head and n-grams are fitted


class Blend(nn.Module):
    """A weighted sum of the logits of an Lstm and of an n-gram network, [B, C].

    The two read different inputs (stems in order; raw words with their neighbors) and make different mistakes, as in
    Mesnil et al. (2015), "Ensemble of Generative and Discriminative Techniques for Sentiment Analysis".
    """

    reads = ("stems", "stem_lengths", "words", "word_lengths")

    def __init__(self, lstm: Lstm, ngrams: NGrams) -> None:
        super().__init__()
        self.lstm, self.ngrams = lstm, ngrams
        self.weights: Tensor
        self.register_buffer("weights", torch.ones(2))

    def forward(self, stems: Tensor, stem_lengths: Tensor, words: Tensor, word_lengths: Tensor) -> Tensor:
        lstm_logits = self.lstm(stems, stem_lengths)
        return self.weights[0] * lstm_logits + self.weights[1] * self.ngrams(words, word_lengths)


class BlendTrainer:
    """The training of both parts. After each epoch of the Lstm the blend weights are refitted on the validation texts.

    An epoch reports the blend's validation loss and accuracy, and the Lstm's training loss and accuracy. The network
    ends with the weights of its best epoch, as `flowerml.engine.fit.Training` promises.
    """

    def __init__(
        self,
        network: Blend,
        ngrams: Iterable[Epoch],
        lstm: Training,
        *,
        valid_logits: Callable[[nn.Module], Tensor],
        valid_targets: Tensor,
        class_weights: Tensor | None = None,
    ) -> None:
        self._network, self._ngrams, self._lstm = network, ngrams, lstm
        self._valid_logits, self._valid_targets = valid_logits, valid_targets
        self._class_weights = class_weights
        self._ngrams_logits: Tensor | None = None
        self._best = BestWeights(network)

    def __iter__(self) -> Iterator[Epoch]:
        return self

    def __next__(self) -> Epoch:
        try:
            epoch = self._epoch()
        except BaseException:  # StopIteration too
            self.close()
            raise
        self._best.update(epoch)
        return epoch

    def close(self) -> None:
        """Restore the best weights and end the training."""
        self._lstm.close()
        self._best.restore()

    def state(self) -> State:
        """See `Training`. The n-grams, trained in one epoch, are saved whole."""
        return {
            "ngrams": self._network.ngrams.state_dict(),
            "lstm": self._lstm.state(),
            "best": self._best.state(),
        }

    def resume(self, state: State) -> None:
        """See `Training`."""
        self._network.ngrams.load_state_dict(state["ngrams"])
        self._ngrams = ()
        self._lstm.resume(state["lstm"])
        self._best.resume(state["best"])

    def _epoch(self) -> Epoch:
        network, targets = self._network, self._valid_targets
        if self._ngrams_logits is None:
            for _ in self._ngrams:
                pass
            self._ngrams_logits = self._valid_logits(network.ngrams)
        epoch = next(self._lstm)
        lstm_logits = self._valid_logits(network.lstm)
        network.weights.copy_(blend_weights(lstm_logits, self._ngrams_logits, targets, self._class_weights))
        blended = network.weights[0] * lstm_logits + network.weights[1] * self._ngrams_logits
        loss = nn.functional.cross_entropy(blended, targets).item()
        accuracy = (blended.argmax(1) == targets).double().mean().item()
        return replace(epoch, valid_loss=loss, valid_accuracy=accuracy)


class HeadBlend(nn.Module):
    """A weighted sum of the logits of a head on a pretrained encoder and of an n-gram network, [B, C].

    The encoder knows the language, also from texts without labels; n-grams learn the words of these classes. From 200
    labels on the blend is better than both.
    """

    def __init__(self, head: Head, ngrams: NGrams) -> None:
        super().__init__()
        self.head, self.ngrams = head, ngrams
        self.reads = (*head.reads, *ngrams.reads)
        self.weights: Tensor
        self.register_buffer("weights", torch.ones(2))

    def forward(self, features: Tensor, *texts: Tensor) -> Tensor:
        return self.weights[0] * self.head(features) + self.weights[1] * self.ngrams(*texts)


class HeadBlendTrainer(AtOnce):
    """The training of both parts in one epoch; then the weights are fitted on the held-out texts.

    It reports the blend's loss and accuracy on these, and the head's on the training texts.
    """

    def __init__(
        self,
        network: HeadBlend,
        head: HeadTrainer,
        ngrams: NGramsTrainer,
        *,
        class_weights: Tensor | None = None,
    ) -> None:
        self._network = network
        super().__init__(network, self._fit(head, ngrams, class_weights))

    def _fit(self, head: HeadTrainer, ngrams: NGramsTrainer, class_weights: Tensor | None) -> Iterator[Epoch]:
        started = time.perf_counter()
        epoch = next(head)
        penalties = (epoch.chosen["penalty"], next(ngrams).chosen["penalty"])
        first, second = head.held_out, ngrams.held_out
        assert first is not None and second is not None, "both have been trained"
        weights = held_out_weights(first, second, class_weights)
        self._network.weights.copy_(torch.from_numpy(weights))
        loss, accuracy = score(weights[0] * first.margins + weights[1] * second.margins, first.targets)
        seconds = time.perf_counter() - started
        chosen = {
            f"{name}_{part}": float(value)
            for name, values in (("penalty", penalties), ("weight", weights))
            for part, value in zip(("head", "ngrams"), values, strict=True)
        }
        yield replace(epoch, valid_loss=loss, valid_accuracy=accuracy, seconds=seconds, chosen=chosen)


def held_out_weights(
    head: HeldOut[Any], ngrams: HeldOut[Any], class_weights: Tensor | None = None
) -> NDArray[np.float64]:
    """Return the weights [2] of the logits of the two parts on the same held-out texts.

    Those with the lowest cross-entropy, pulled towards equal ones; each is then multiplied by its part's `evidence`.
    With 16 labels a part may be no better than chance, and would only add noise to the other: of n-grams and a head on
    multilingual-e5-small (IMDB) the blend then has 0.75 without that factor, 0.77 with it, as the head alone has. If
    neither part shows any evidence the head answers alone, as it has learned most from other texts.
    """
    evidence = np.array([_evidence(part.margins, part.targets) for part in (head, ngrams)])
    if not evidence.any():
        return np.array([1.0, 0.0])
    targets = torch.from_numpy(head.targets)
    first, second = torch.from_numpy(head.margins), torch.from_numpy(ngrams.margins)
    return evidence * blend_weights(first, second, targets, class_weights, pull=PULL / len(targets)).numpy()


def _evidence(logits: NDArray[Any], targets: NDArray[np.int64]) -> float:
    """Return from 0 to 1 how sure it is that logits [N, C] tell the classes: 1 - 1 / z^2, as James & Stein shrink.

    z is the mean gain in cross-entropy over equal probabilities, in standard errors. A bias is no evidence: even the
    smallest, in favor of the largest class, gains a little with most texts.
    """
    gains = np.log(logits.shape[1]) - losses(logits - logits.mean(axis=0), targets)
    error = gains.std() / np.sqrt(len(gains))
    return float(max(0.0, 1 - (error / gains.mean()) ** 2)) if gains.mean() > 0 else 0.0


def blend_weights(
    first: Tensor, second: Tensor, targets: Tensor, class_weights: Tensor | None = None, *, pull: float = 1e-3
) -> Tensor:
    """Return the two positive weights [2] that minimize the cross-entropy of the summed logits.

    Both logits are [N, C], targets [N], and class_weights [C] the weights of each class's examples. `pull` is the
    penalty on the squared logarithm of a weight.
    """
    weight = None if class_weights is None else class_weights.double()
    logits = torch.stack([first, second]).double()
    log_weights = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([log_weights], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = nn.functional.cross_entropy((log_weights.exp()[:, None, None] * logits).sum(0), targets, weight=weight)
        # Without a penalty the weights would be infinite where every text is classified correctly.
        value = value + pull * log_weights.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    return log_weights.detach().exp().float()
