"""The networks of the text task, and the encoded texts that train them."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from flowerml.data.encodings import Encoded
from flowerml.engine.fit import Trainer, Training, balanced_class_weights, device
from flowerml.tasks.text.networks.batches import Sequences, StemBatches
from flowerml.tasks.text.networks.blend import Blend, BlendTrainer
from flowerml.tasks.text.networks.lstm import Lstm
from flowerml.tasks.text.networks.ngrams import NGrams, NGramsTrainer, fit_ngrams

if TYPE_CHECKING:
    from flowerml.tasks.text.sections import Train


class Texts:
    """The encodings of the train and valid splits: stems (`codes` codes) for the LSTM, words for the n-grams."""

    def __init__(self, encoded: Encoded, classes: tuple[str, ...], *, codes: int) -> None:
        self.classes = len(classes)
        self.codes = codes
        self.targets = {split: encoded.targets(split, classes) for split in ("train", "valid")}
        self.stems = {split: Sequences.of(encoded, split, "stems") for split in ("train", "valid")}
        self.words = {split: Sequences.of(encoded, split, "words") for split in ("train", "valid")}


def build_network(data: Texts, section: "Train") -> tuple[nn.Module, Training]:
    """Return the network that the section names, initialized from its seed, and the iteration that trains it."""
    torch.manual_seed(section.seed)
    builders: dict[str, Callable[[Texts, Train], tuple[nn.Module, Training]]] = {
        "lstm": _build_lstm,
        "ngrams": _build_ngrams,
        "blend": _build_blend,
    }
    return builders[section.network](data, section)


def _build_lstm(data: Texts, section: "Train") -> tuple[Lstm, Trainer]:
    network = Lstm(
        data.codes,
        data.classes,
        embedding_dim=section.embedding_dim,
        hidden_dim=section.hidden_dim,
        layers=section.layers,
        bidirectional=section.bidirectional,
        pooling=section.pooling,
        dropout=section.dropout,
    )
    batches = StemBatches(data.stems, data.targets, classes=data.classes)
    return network, Trainer(network, batches, **section.trainer_arguments())


def _build_ngrams(data: Texts, section: "Train") -> tuple[NGrams, NGramsTrainer]:
    network = NGrams(data.classes, order=section.order, buckets=section.buckets)
    epochs = fit_ngrams(
        network,
        data.words["train"],
        data.targets["train"],
        data.words["valid"],
        data.targets["valid"],
        smoothing=section.smoothing,
        penalty=section.penalty,
        minimum_count=section.minimum_count,
        seed=section.seed,
        class_weights=_class_weights(data, section),
    )
    return network, NGramsTrainer(network, epochs)


def _build_blend(data: Texts, section: "Train") -> tuple[Blend, BlendTrainer]:
    lstm, lstm_epochs = _build_lstm(data, section)
    ngrams, ngrams_epochs = _build_ngrams(data, section)
    network = Blend(lstm, ngrams)
    targets = torch.from_numpy(data.targets["valid"])
    return network, BlendTrainer(
        network,
        ngrams_epochs,
        lstm_epochs,
        valid_logits=partial(_valid_logits, data),
        valid_targets=targets,
        class_weights=_class_weights(data, section),
    )


def _class_weights(data: Texts, section: "Train") -> Tensor | None:
    if section.class_weights is None:
        return None
    return balanced_class_weights(torch.bincount(torch.from_numpy(data.targets["train"]), minlength=data.classes))


@torch.inference_mode()
def _valid_logits(data: Texts, network: nn.Module, batch_size: int = 256) -> Tensor:
    """Return the logits [N, C] of one part of the blend on the validation texts, in their order."""
    sequences = (data.stems if network.reads == Lstm.reads else data.words)["valid"]
    network.eval().to(device())
    order = np.argsort(sequences.lengths, kind="stable")
    logits = torch.empty(len(order), data.classes)
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        logits[rows] = network(*(tensor.to(device()) for tensor in sequences.padded(rows))).cpu()
    return logits
