"""The recurrent network and the n-grams together."""

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import replace

import torch
from torch import Tensor, nn

from flowerml.fit import Best, Epoch
from flowerml.text.networks.lstm import Lstm
from flowerml.text.networks.ngrams import NGrams


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


def fit_blend(
    network: Blend,
    ngrams: Generator[Epoch, None, None],
    lstm: Generator[Epoch, None, None],
    *,
    valid_logits: Callable[[nn.Module], Tensor],
    valid_targets: Tensor,
    class_weights: Tensor | None = None,
) -> Generator[Epoch, None, None]:
    """Train both parts; after each epoch of the Lstm weigh them by what is best on the validation split.

    The epochs tell of the blend's validation loss and accuracy, and of the Lstm's training. At the end the network has
    the weights of its best epoch, as `flowerml.fit.fit` promises.
    """
    with closing(ngrams):
        for _ in ngrams:
            pass
    counted = valid_logits(network.ngrams)
    best = Best(network)
    try:
        with closing(lstm):
            for epoch in lstm:
                recurrent = valid_logits(network.lstm)
                network.weights.copy_(mixed(recurrent, counted, valid_targets, class_weights))
                blended = network.weights[0] * recurrent + network.weights[1] * counted
                loss = nn.functional.cross_entropy(blended, valid_targets).item()
                accuracy = (blended.argmax(1) == valid_targets).double().mean().item()
                epoch = replace(epoch, valid_loss=loss, valid_accuracy=accuracy)
                best.see(epoch)
                yield epoch
    finally:
        best.restore()


def mixed(one: Tensor, other: Tensor, targets: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """The two positive weights [2] with which the logits [N, C], added, are the best estimate of the targets [N].

    `class_weights` [C] are those of the examples of each class.
    """
    weight = None if class_weights is None else class_weights.double()
    logits = torch.stack([one, other]).double()
    logarithms = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([logarithms], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = nn.functional.cross_entropy((logarithms.exp()[:, None, None] * logits).sum(0), targets, weight=weight)
        # Data that are told apart without an error would ask for infinite weights.
        value = value + 1e-3 * logarithms.square().sum()
        value.backward()
        return value

    optimiser.step(loss)
    return logarithms.detach().exp().float()
