"""The n-gram network of the text task: a linear model on word n-grams weighted by naive-Bayes log-count ratios.

NB-SVM of Wang & Manning (2012), "Baselines and Bigrams: Simple, Good Sentiment and Topic Classification", with two
changes: an n-gram's value is divided by the square root of how many a text has, and margins become probabilities by
a scale and a bias fitted on the validation split (after Platt, 1999).
"""

import time
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
import scipy.sparse as sparse  # type: ignore[import-untyped]
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from flowerml.engine.fit import Epoch, State

PRIME = 2**31 - 1
MULTIPLIER = 1_103_515_245  # any residue without structure; a product of two residues fits 63 bits
EMPTY = -1  # the key of a bucket that holds no n-gram

Integers = TypeVar("Integers", Tensor, NDArray[np.int64])


class NGrams(nn.Module):
    """The ids of a text's words -> logits [B, C], by a table of n-grams.

    `words` int64 [B, W] holds stateless 31-bit hashes of tokens, `word_lengths` int64 [B] how many of them are the
    text; what stands behind them is never read. An n-gram is looked up in the one bucket its id leads to and counts
    if the bucket's key is that id, once a text; all others say nothing. A text without any gets the bias.
    """

    reads = ("words", "word_lengths")

    def __init__(self, classes: int, *, order: int, buckets: int) -> None:
        super().__init__()
        self.order = order
        self.keys: Tensor
        self.table: Tensor
        self.bias: Tensor
        self.register_buffer("keys", torch.full((buckets,), EMPTY, dtype=torch.int32))
        self.register_buffer("table", torch.zeros(buckets, classes))
        self.register_buffer("bias", torch.zeros(classes))

    def forward(self, words: Tensor, word_lengths: Tensor) -> Tensor:
        ids = self._ids(words, word_lengths[:, None]).sort(dim=1).values
        before = torch.cat([torch.zeros_like(ids[:, :1]), ids[:, :-1]], dim=1)
        buckets = ids % len(self.keys)
        counted = (ids != before) & (self.keys[buckets] == ids)
        sums = (self.table[buckets] * counted[:, :, None]).sum(dim=1)
        return sums / counted.sum(dim=1, keepdim=True).clamp(min=1).sqrt() + self.bias

    def _ids(self, words: Tensor, lengths: Tensor) -> Tensor:
        """The n-grams that begin at each word, [B, order * W]; 0 where one would reach beyond the text."""
        positions = torch.arange(words.shape[1], device=words.device)
        hashes, ids = torch.zeros_like(words), []
        for length in range(1, self.order + 1):
            hashes = _extended(hashes, words)
            ids.append(hashes.clamp(min=1) * (positions + length <= lengths))
            # Shifted rather than sliced: a text shorter than an n-gram must not give a negative length.
            words = torch.cat([words[:, 1:], torch.zeros_like(words[:, :1])], dim=1)
        return torch.cat(ids, dim=1)


def ngram_ids(words: NDArray[Any], *, order: int) -> NDArray[np.int64]:
    """The ids, 1 to 2**31 - 2, of all n-grams of one text of up to `order` words, as the network computes them."""
    words = words.astype(np.int64)
    hashes, ids = np.zeros_like(words), []
    for length in range(1, order + 1):
        last = words[length - 1 :]
        hashes = _extended(hashes[: len(last)], last)
        ids.append(hashes.clip(min=1))
    return np.concatenate(ids)


def bucket_ids(words: NDArray[Any], *, order: int, buckets: int) -> NDArray[np.int64]:
    """The buckets the network looks into for the n-grams of one text."""
    return ngram_ids(words, order=order) % buckets


def fit_ngrams(
    network: NGrams,
    train: Iterable[NDArray[Any]],
    train_targets: NDArray[Any],
    valid: Iterable[NDArray[Any]],
    valid_targets: NDArray[Any],
    *,
    smoothing: float,
    penalty: float,
    minimum_count: int,
    seed: int,
    class_weights: Tensor | None = None,
) -> Generator[Epoch, None, None]:
    """Fill the network's table in place and yield the one Epoch that is.

    A text is the array of its words' hashes. `smoothing` is added to the counts of the log-count ratios, `penalty` is
    LinearSVC's C, and an n-gram found in fewer than `minimum_count` training texts is left out. `class_weights` [C] are
    those of the examples of each class, in training and in calibration.
    """
    started = time.perf_counter()
    grams = {"train": _distinct(train, network.order), "valid": _distinct(valid, network.order)}
    keys = _keys(grams["train"].ids, len(network.keys), minimum_count)
    features = {split: _features(found, keys) for split, found in grams.items()}
    classes = len(network.bias)
    weights, intercepts = _separate(features["train"], train_targets, classes, smoothing, penalty, seed, class_weights)
    margins = {split: matrix @ weights + intercepts for split, matrix in features.items()}
    scale, bias = calibrated(margins["valid"], valid_targets, class_weights)
    network.keys.copy_(torch.from_numpy(keys))
    network.table.copy_(torch.from_numpy(weights * scale))
    network.bias.copy_(torch.from_numpy(intercepts * scale + bias))
    scores = [
        _score(margins[split] * scale + bias, targets)
        for split, targets in (("train", train_targets), ("valid", valid_targets))
    ]
    yield Epoch(1, *scores[0], *scores[1], 0.0, time.perf_counter() - started)


class NGramsFit:
    """`fit_ngrams` as a `flowerml.engine.fit.Training`, of one epoch."""

    def __init__(self, network: NGrams, epochs: Iterator[Epoch]) -> None:
        self._network, self._epochs = network, epochs

    def __iter__(self) -> Iterator[Epoch]:
        return self

    def __next__(self) -> Epoch:
        return next(self._epochs)

    def close(self) -> None:
        """End here."""
        self._network.eval()

    def state(self) -> State:
        """See `Training`."""
        return {"network": self._network.state_dict()}

    def resume(self, state: State) -> None:
        """See `Training`."""
        self._network.load_state_dict(state["network"])
        self._epochs = iter(())


def calibrated(
    margins: NDArray[Any], targets: NDArray[Any], class_weights: Tensor | None = None
) -> tuple[float, NDArray[np.float64]]:
    """The scale > 0 and the bias [C] for which softmax(scale * margins + bias) is the best estimate of the targets.

    margins [N, C], targets [N], class_weights [C]: of the examples of each class. As in Platt (1999),
    each class gets one example more than it has, evenly spread, or classes that are told apart without an error would
    ask for an infinite scale.
    """
    count, classes = margins.shape
    log_scale = torch.zeros((), dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(classes, dtype=torch.float64, requires_grad=True)
    values = torch.from_numpy(margins).double()
    truth = nn.functional.one_hot(torch.from_numpy(targets).long(), classes).double()
    truth = (truth * count + 1) / (count + classes)
    weight = None if class_weights is None else class_weights.double()
    optimizer = torch.optim.LBFGS([log_scale, bias], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = nn.functional.cross_entropy(log_scale.exp() * values + bias, truth, weight=weight)
        value.backward()
        return value

    optimizer.step(loss)
    return log_scale.exp().item(), bias.detach().numpy()


@dataclass(frozen=True)
class _Distinct:
    """The distinct n-grams of texts one after the other, ascending in each, and how many each text has."""

    ids: NDArray[np.int64]
    counts: NDArray[np.int64]


def _extended(hashes: Integers, words: Integers) -> Integers:
    """The hashes of n-grams one word longer: one arithmetic for NumPy and the graph, exact in 63 bits."""
    return (hashes * MULTIPLIER + words) % PRIME


def _distinct(texts: Iterable[NDArray[Any]], order: int) -> _Distinct:
    found = [np.unique(ngram_ids(words, order=order)) for words in texts]
    return _Distinct(np.concatenate(found), np.array([len(ids) for ids in found]))


def _keys(ids: NDArray[np.int64], buckets: int, minimum_count: int) -> NDArray[np.int32]:
    """The n-gram each bucket holds: of those found often enough, the most frequent that leads there."""
    known, counts = np.unique(ids, return_counts=True)
    known, counts = known[counts >= minimum_count], counts[counts >= minimum_count]
    rising = known[np.argsort(counts, kind="stable")]
    keys = np.full(buckets, EMPTY, dtype=np.int32)
    keys[rising % buckets] = rising  # where several lead to one bucket the last assigned stays
    return keys


def _features(grams: _Distinct, keys: NDArray[np.int32]) -> sparse.csr_matrix:
    """[N, buckets]: for each of a text's distinct n-grams that a bucket holds, 1 / sqrt(how many those are)."""
    columns = grams.ids % len(keys)
    held = keys[columns] == grams.ids
    texts = np.repeat(np.arange(len(grams.counts)), grams.counts)[held]
    values = 1 / np.sqrt(np.bincount(texts)[texts])
    return sparse.csr_matrix((values, (texts, columns[held])), shape=(len(grams.counts), len(keys)))


def _separate(
    features: sparse.csr_matrix,
    targets: NDArray[Any],
    classes: int,
    smoothing: float,
    penalty: float,
    seed: int,
    class_weights: Tensor | None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights [buckets, C] and intercepts [C] of one linear SVM a class; two classes share one, with either sign."""
    weigh = None if class_weights is None else class_weights.numpy()[targets]
    fit = partial(_one_against_rest, features, smoothing=smoothing, penalty=penalty, seed=seed, weigh=weigh)
    if classes == 2:
        weights, intercept = fit(targets == 1)
        return np.stack([-weights, weights], axis=1), np.array([-intercept, intercept])
    each = [fit(targets == label) for label in range(classes)]
    return np.stack([weights for weights, _ in each], axis=1), np.array([intercept for _, intercept in each])


def _one_against_rest(
    features: sparse.csr_matrix,
    positive: NDArray[np.bool_],
    *,
    smoothing: float,
    penalty: float,
    seed: int,
    weigh: NDArray[Any] | None,
) -> tuple[NDArray[np.float64], float]:
    from sklearn.svm import LinearSVC  # a second to import, and only fitting needs it

    ratios = _log_count_ratios(features, positive, smoothing)
    # With the library's tol of 1e-4 the fit takes three times as long and is no better.
    machine = LinearSVC(C=penalty, tol=0.01, random_state=seed)
    machine.fit(features @ sparse.diags(ratios), positive, sample_weight=weigh)
    return machine.coef_[0] * ratios, float(machine.intercept_[0])


def _log_count_ratios(
    features: sparse.csr_matrix, positive: NDArray[np.bool_], smoothing: float
) -> NDArray[np.float64]:
    """How much more often the positive texts have each n-gram than the others, as a logarithm, [buckets]."""
    ones = features != 0
    inside, outside = (np.asarray(ones[mask].sum(axis=0)).ravel() + smoothing for mask in (positive, ~positive))
    return np.log(inside / inside.sum()) - np.log(outside / outside.sum())


def _score(logits: NDArray[np.float64], targets: NDArray[Any]) -> tuple[float, float]:
    """Mean cross-entropy and accuracy."""
    truth = torch.from_numpy(targets).long()
    loss = nn.functional.cross_entropy(torch.from_numpy(logits), truth).item()
    return loss, float((logits.argmax(axis=1) == targets).mean())
