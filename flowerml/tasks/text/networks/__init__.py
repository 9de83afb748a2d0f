"""The networks of the text task, and the encoded texts that train them."""

import copy
import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from flowerml.core.errors import ParamsError
from flowerml.data.encodings import Encoded, Vectors
from flowerml.engine.devices import device
from flowerml.engine.feed_forward import FeatureBatches, Views
from flowerml.engine.fit import Trainer, Training, balanced_class_weights
from flowerml.tasks.text.networks.batches import Sequences, StemBatches
from flowerml.tasks.text.networks.blend import Blend, BlendTrainer, HeadBlend, HeadBlendTrainer
from flowerml.tasks.text.networks.folds import HeldOut
from flowerml.tasks.text.networks.head import Features, Head, HeadFit, HeadModel, HeadTrainer, HiddenHead, fit_head
from flowerml.tasks.text.networks.linear import LinearFit
from flowerml.tasks.text.networks.lstm import Lstm
from flowerml.tasks.text.networks.ngram_counts import NGramCounts
from flowerml.tasks.text.networks.ngrams import FittedNGrams, NGrams, NGramsTrainer, fit_ngrams

if TYPE_CHECKING:
    from flowerml.tasks.text.sections import Train


# The parameters that fits depend on, of n-grams besides their lengths.
HEAD = ("penalty", "folds", "class_weights")
NGRAMS = ("weighting", "smoothing", "penalty", "minimum_count", "folds", "class_weights", "seed")
# Training texts of two classes from which on up to four words in a row are counted: on 22,500 film reviews the
# test accuracy is 0.920 with four, 0.919 with three and 0.913 with two. Topics gain nothing, and have more classes.
MANY = 10_000


class Texts:
    """The encodings of the train and valid splits: stems (`codes` codes) for the LSTM, the rest for the n-grams.

    `characters` are None where the encoder keeps none, `features` [N, D] where it has no pretrained encoder. What is
    large stays on the disk, until n-grams are counted or a linear head is fitted: their solvers need all in memory.
    """

    def __init__(self, encoded: Encoded, classes: tuple[str, ...], *, codes: int) -> None:
        self.classes = len(classes)
        self.codes = codes
        self.targets = {split: encoded.targets(split, classes) for split in ("train", "valid")}
        self.stems = {split: Sequences.of(encoded, split, "stems") for split in ("train", "valid")}
        self.words = {split: Sequences.of(encoded, split, "words") for split in ("train", "valid")}
        self.characters: dict[str, Sequences] | None = None
        if "characters" in encoded.table.column_names:
            self.characters = {split: Sequences.of(encoded, split, "characters") for split in ("train", "valid")}
        self._counts: dict[tuple[int | None, ...], NGramCounts] = {}
        self._fitted: dict[str, FittedNGrams] = {}
        self.features: dict[str, Features] | None = None
        if "features" in encoded.table.column_names:
            features = encoded.vectors_to_train_on("features")
            self.features = {split: vectors for split, (vectors, _) in features.items()}
        self._heads: dict[str, HeldOut[HeadModel]] = {}

    def with_valid(self) -> "Texts":
        """Return the texts of both splits as training texts, with none left for validation."""
        joined = copy.copy(self)
        joined.targets = _joined(self.targets)
        joined.stems, joined.words = _joined_sequences(self.stems), _joined_sequences(self.words)
        joined.characters = None if self.characters is None else _joined_sequences(self.characters)
        joined.features = None if self.features is None else _joined_features(self.features)
        joined._counts, joined._fitted, joined._heads = {}, {}, {}
        return joined

    def counts(self, *, order: int, longest: int, minimum_count: int | None) -> NGramCounts:
        """Return the n-grams of both splits; those of the last call are remembered."""
        key = (order, longest, minimum_count)
        if key not in self._counts:
            characters = self.characters if longest else None
            self._counts = {
                key: NGramCounts.of(self.words, characters, order=order, longest=longest, minimum_count=minimum_count)
            }
        return self._counts[key]

    def ngram_lengths(self, section: "Train") -> tuple[int, int]:
        """Return the longest n-gram of words, and that of characters, 0 where there are none."""
        order = section.order or (4 if self.classes == 2 and len(self.words["train"]) >= MANY else 2)
        return order, section.characters if self.characters is not None else 0

    def fitted(self, section: "Train") -> FittedNGrams:
        """Return the n-grams that the section describes; the last ones are remembered, as trials may repeat them."""
        order, longest = self.ngram_lengths(section)
        key = json.dumps([order, longest, *(getattr(section, name) for name in NGRAMS)])
        if key not in self._fitted:
            weights = class_weights(self, section)
            fit = LinearFit(
                self.counts(order=order, longest=longest, minimum_count=section.minimum_count),
                self.targets["train"],
                self.classes,
                section.weighting,
                section.smoothing,
                section.seed,
                None if weights is None else weights.numpy(),
            )
            fitted = fit_ngrams(fit, self.targets["valid"], penalty=section.penalty, folds=section.folds)
            self._fitted = {key: fitted}
        return self._fitted[key]

    def fitted_head(self, section: "Train") -> HeldOut[HeadModel]:
        """Return the linear head that the section describes; the last one is remembered, as trials may repeat it."""
        assert self.features is not None, "there is a pretrained encoder"
        key = json.dumps([getattr(section, name) for name in HEAD])
        if key not in self._heads:
            balanced = section.class_weights is not None
            fit = HeadFit(self.features, self.targets["train"], self.classes, balanced)
            self._heads = {key: fit_head(fit, self.targets["valid"], penalty=section.penalty, folds=section.folds)}
        return self._heads[key]


def _joined(splits: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return arrays of train and valid as those of train, and an empty one of valid."""
    return {"train": np.concatenate([splits["train"], splits["valid"]]), "valid": splits["valid"][:0]}


def _joined_features(splits: Mapping[str, Features]) -> dict[str, Features]:
    train, valid = splits["train"], splits["valid"]
    if isinstance(train, Vectors) and isinstance(valid, Vectors):
        return {"train": train.followed_by(valid), "valid": valid[:0]}
    return {"train": np.concatenate([train[:], valid[:]]), "valid": valid[:0]}


def _joined_sequences(splits: Mapping[str, Sequences]) -> dict[str, Sequences]:
    train, valid = splits["train"], splits["valid"]
    return {"train": train.followed_by(valid), "valid": Sequences(valid.values[:0], np.zeros(1, np.int64))}


def build_network(data: Texts, section: "Train") -> tuple[nn.Module, Training]:
    """Return the network that the section names, initialized from its seed, and the iteration that trains it."""
    torch.manual_seed(section.seed)
    builders: dict[str, Callable[[Texts, Train], tuple[nn.Module, Training]]] = {
        "lstm": _build_lstm,
        "ngrams": _build_ngrams,
        "head": _build_head,
        "blend": _build_blend if data.features is None else _build_head_blend,
    }
    return builders[section.network or ("ngrams" if data.features is None else "blend")](data, section)


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
    order, longest = data.ngram_lengths(section)
    network = NGrams(data.classes, order=order, longest=longest)
    return network, NGramsTrainer(network, lambda: data.fitted(section), data.targets)


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
        class_weights=class_weights(data, section),
    )


def _build_head(data: Texts, section: "Train") -> tuple[nn.Module, Training]:
    if data.features is None:
        raise ParamsError("train.network: head reads a pretrained encoder; name one in encode.backbone (--backbone)")
    width = data.features["train"].shape[1]
    if not section.hidden_units:
        network = Head(width, data.classes)
        return network, HeadTrainer(network, lambda: data.fitted_head(section), data.targets["train"])
    hidden = HiddenHead(width, data.classes, hidden_units=section.hidden_units, dropout=section.dropout)
    views = {split: Views.of(values, np.arange(len(values) + 1)) for split, values in data.features.items()}
    batches = FeatureBatches(views, data.targets, classes=data.classes)
    return hidden, Trainer(hidden, batches, **section.trainer_arguments())


def _build_head_blend(data: Texts, section: "Train") -> tuple[HeadBlend, HeadBlendTrainer]:
    if section.hidden_units:
        raise ParamsError(
            "train.hidden_units: n-grams are blended with a linear head; set it to [], or train.network to head"
        )
    head, head_epochs = _build_head(data, section)
    ngrams, ngrams_epochs = _build_ngrams(data, section)
    assert isinstance(head, Head) and isinstance(head_epochs, HeadTrainer)
    network = HeadBlend(head, ngrams)
    return network, HeadBlendTrainer(network, head_epochs, ngrams_epochs, class_weights=class_weights(data, section))


def class_weights(data: Texts, section: "Train") -> Tensor | None:
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
