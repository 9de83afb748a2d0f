"""The blend of the LSTM and the n-gram network."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from flowerml.engine.fit import BestWeights, Epoch, State, Training
from flowerml.tasks.text.networks.lstm import Lstm
from flowerml.tasks.text.networks.ngrams import NGrams


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


def blend_weights(first: Tensor, second: Tensor, targets: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """Return the two positive weights [2] that minimize the cross-entropy of the summed logits.

    Both logits are [N, C], targets [N], and class_weights [C] the weights of each class's examples.
    """
    weight = None if class_weights is None else class_weights.double()
    logits = torch.stack([first, second]).double()
    log_weights = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([log_weights], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = nn.functional.cross_entropy((log_weights.exp()[:, None, None] * logits).sum(0), targets, weight=weight)
        # Without a penalty the weights would be infinite where every text is classified correctly.
        value = value + 1e-3 * log_weights.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    return log_weights.detach().exp().float()
