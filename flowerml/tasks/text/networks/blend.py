"""The recurrent network and the n-grams together."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from flowerml.engine.fit import BestWeights, Epoch, State, Training
from flowerml.tasks.text.networks.lstm import Lstm
from flowerml.tasks.text.networks.ngrams import NGrams


class Blend(nn.Module):
    """Logits of an Lstm and of n-grams, each times a weight of its own and added: [B, C].

    The two read different things (stems in order; raw words with their neighbours) and err on different texts, as in
    Mesnil et al. (2015), "Ensemble of Generative and Discriminative Techniques for Sentiment Analysis".
    """

    reads = ("stems", "stem_lengths", "words", "word_lengths")

    def __init__(self, lstm: Lstm, ngrams: NGrams) -> None:
        super().__init__()
        self.lstm, self.ngrams = lstm, ngrams
        self.weights: Tensor
        self.register_buffer("weights", torch.ones(2))

    def forward(self, stems: Tensor, stem_lengths: Tensor, words: Tensor, word_lengths: Tensor) -> Tensor:
        recurrent = self.lstm(stems, stem_lengths)
        return self.weights[0] * recurrent + self.weights[1] * self.ngrams(words, word_lengths)


class BlendFit:
    """The training of both parts; after each epoch of the Lstm they are weighed by what is best on validation texts.

    The epochs tell of the blend's validation loss and accuracy, and of the Lstm's training. At the end the network has
    the weights of its best epoch, as `flowerml.engine.fit.Training` promises.
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
        self._counted: Tensor | None = None
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
        """Put the best weights back; no epoch follows."""
        self._lstm.close()
        self._best.restore()

    def state(self) -> State:
        """See `Training`; the n-grams are kept as they are, for they have one epoch."""
        parts = {"ngrams": self._network.ngrams.state_dict(), "lstm": self._lstm.state()}
        return {**parts, "best": self._best.state()}

    def resume(self, state: State) -> None:
        """See `Training`."""
        self._network.ngrams.load_state_dict(state["ngrams"])
        self._ngrams = ()
        self._lstm.resume(state["lstm"])
        self._best.resume(state["best"])

    def _epoch(self) -> Epoch:
        network, targets = self._network, self._valid_targets
        if self._counted is None:
            for _ in self._ngrams:
                pass
            self._counted = self._valid_logits(network.ngrams)
        epoch = next(self._lstm)
        recurrent = self._valid_logits(network.lstm)
        network.weights.copy_(mixed(recurrent, self._counted, targets, self._class_weights))
        blended = network.weights[0] * recurrent + network.weights[1] * self._counted
        loss = nn.functional.cross_entropy(blended, targets).item()
        accuracy = (blended.argmax(1) == targets).double().mean().item()
        return replace(epoch, valid_loss=loss, valid_accuracy=accuracy)


def mixed(one: Tensor, other: Tensor, targets: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """The two positive weights [2] with which the logits [N, C], added, are the best estimate of the targets [N].

    `class_weights` [C] are those of the examples of each class.
    """
    weight = None if class_weights is None else class_weights.double()
    logits = torch.stack([one, other]).double()
    logarithms = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([logarithms], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = nn.functional.cross_entropy((logarithms.exp()[:, None, None] * logits).sum(0), targets, weight=weight)
        # Data that are told apart without an error would ask for infinite weights.
        value = value + 1e-3 * logarithms.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    return logarithms.detach().exp().float()
