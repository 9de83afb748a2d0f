"""The n-gram network of the text task: a linear model on word n-grams weighted by naive-Bayes log-count ratios.

NB-SVM of Wang & Manning (2012), "Baselines and Bigrams: Simple, Good Sentiment and Topic Classification", with two
changes: an n-gram's value is divided by the square root of the number of n-grams in its text, and a scale and a bias
fitted on the validation split turn margins into probabilities (after Platt, 1999).
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
    """A bounded table of n-grams: hashes of a text's words -> logits [B, C].

    `words` int64 [B, W] holds stateless 31-bit hashes of tokens, `word_lengths` int64 [B] the lengths of the texts;
    padding is never read. Each distinct n-gram is looked up in the one bucket given by its id, and counts once per
    text if the bucket's key is that id; other n-grams are ignored. A text without known n-grams gets the bias.

    >>> network = NGrams(2, order=2, buckets=16)
    >>> network(torch.tensor([[101, 102, 0]]), torch.tensor([2])).tolist()
    [[0.0, 0.0]]
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
        """Return the ids of the n-grams that start at each word, [B, order * W]; 0 where one would pass the end."""
        positions = torch.arange(words.shape[1], device=words.device)
        hashes, ids = torch.zeros_like(words), []
        for length in range(1, self.order + 1):
            hashes = _extend_hashes(hashes, words)
            ids.append(hashes.clamp(min=1) * (positions + length <= lengths))
            # Shift, not slice: a text shorter than an n-gram must not give a negative length.
            words = torch.cat([words[:, 1:], torch.zeros_like(words[:, :1])], dim=1)
        return torch.cat(ids, dim=1)


def ngram_ids(words: NDArray[Any], *, order: int) -> NDArray[np.int64]:
    """Return the ids, 1 to 2**31 - 2, of all n-grams of up to `order` words in a text, as the network computes them."""
    words = words.astype(np.int64)
    hashes, ids = np.zeros_like(words), []
    for length in range(1, order + 1):
        last = words[length - 1 :]
        hashes = _extend_hashes(hashes[: len(last)], last)
        ids.append(hashes.clip(min=1))
    return np.concatenate(ids)


def bucket_ids(words: NDArray[Any], *, order: int, buckets: int) -> NDArray[np.int64]:
    """Return the bucket that the network looks up for each n-gram of a text."""
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
    """Fill the network's table in place and yield its only Epoch.

    A text is the array of its words' hashes. `smoothing` is added to the counts of the log-count ratios, `penalty` is
    LinearSVC's C, and n-grams that occur in fewer than `minimum_count` training texts are dropped. `class_weights` [C]
    weight the examples of each class, in training and in calibration.
    """
    started = time.perf_counter()
    grams = {"train": _distinct_ngrams(train, network.order), "valid": _distinct_ngrams(valid, network.order)}
    keys = _keys(grams["train"].ids, len(network.keys), minimum_count)
    features = {split: _features(ngrams, keys) for split, ngrams in grams.items()}
    classes = len(network.bias)
    weights, intercepts = _fit_svms(features["train"], train_targets, classes, smoothing, penalty, seed, class_weights)
    margins = {split: matrix @ weights + intercepts for split, matrix in features.items()}
    scale, bias = fit_calibration(margins["valid"], valid_targets, class_weights)
    network.keys.copy_(torch.from_numpy(keys))
    network.table.copy_(torch.from_numpy(weights * scale))
    network.bias.copy_(torch.from_numpy(intercepts * scale + bias))
    scores = [
        _score(margins[split] * scale + bias, targets)
        for split, targets in (("train", train_targets), ("valid", valid_targets))
    ]
    yield Epoch(1, *scores[0], *scores[1], 0.0, time.perf_counter() - started)


class NGramsTrainer:
    """`fit_ngrams` as a `flowerml.engine.fit.Training` of one epoch."""

    def __init__(self, network: NGrams, epochs: Iterator[Epoch]) -> None:
        self._network, self._epochs = network, epochs

    def __iter__(self) -> Iterator[Epoch]:
        return self

    def __next__(self) -> Epoch:
        return next(self._epochs)

    def close(self) -> None:
        """End the training."""
        self._network.eval()

    def state(self) -> State:
        """See `Training`."""
        return {"network": self._network.state_dict()}

    def resume(self, state: State) -> None:
        """See `Training`."""
        self._network.load_state_dict(state["network"])
        self._epochs = iter(())


def fit_calibration(
    margins: NDArray[Any], targets: NDArray[Any], class_weights: Tensor | None = None
) -> tuple[float, NDArray[np.float64]]:
    """Return the scale > 0 and the bias [C] that minimize the cross-entropy of softmax(scale * margins + bias).

    margins [N, C], targets [N], class_weights [C]: the weights of each class's examples. As in Platt (1999), each
    class gets one extra example, spread evenly over all texts; otherwise perfectly separated classes would give an
    infinite scale.
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
class _DistinctNGrams:
    """The distinct n-grams of texts, concatenated and ascending within each text, and their number per text."""

    ids: NDArray[np.int64]
    counts: NDArray[np.int64]


def _extend_hashes(hashes: Integers, words: Integers) -> Integers:
    """Extend the hashes of n-grams by one word; the arithmetic of NumPy and the graph is the same, exact in 63 bits."""
    return (hashes * MULTIPLIER + words) % PRIME


def _distinct_ngrams(texts: Iterable[NDArray[Any]], order: int) -> _DistinctNGrams:
    ids = [np.unique(ngram_ids(words, order=order)) for words in texts]
    return _DistinctNGrams(np.concatenate(ids), np.array([len(row) for row in ids]))


def _keys(ids: NDArray[np.int64], buckets: int, minimum_count: int) -> NDArray[np.int32]:
    """Return the key of each bucket: its most frequent n-gram among those with at least `minimum_count` texts."""
    ids, counts = np.unique(ids, return_counts=True)
    ids, counts = ids[counts >= minimum_count], counts[counts >= minimum_count]
    ascending = ids[np.argsort(counts, kind="stable")]
    keys = np.full(buckets, EMPTY, dtype=np.int32)
    keys[ascending % buckets] = ascending  # where several share a bucket the last assignment wins
    return keys


def _features(grams: _DistinctNGrams, keys: NDArray[np.int32]) -> sparse.csr_matrix:
    """Return [N, buckets]: 1 / sqrt(K) for each of the K distinct n-grams of a text that are in the table."""
    columns = grams.ids % len(keys)
    in_table = keys[columns] == grams.ids
    texts = np.repeat(np.arange(len(grams.counts)), grams.counts)[in_table]
    values = 1 / np.sqrt(np.bincount(texts)[texts])
    return sparse.csr_matrix((values, (texts, columns[in_table])), shape=(len(grams.counts), len(keys)))


def _fit_svms(
    features: sparse.csr_matrix,
    targets: NDArray[Any],
    classes: int,
    smoothing: float,
    penalty: float,
    seed: int,
    class_weights: Tensor | None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return weights [buckets, C] and intercepts [C] of a linear SVM per class; two classes share one, negated."""
    sample_weights = None if class_weights is None else class_weights.numpy()[targets]
    fit = partial(
        _fit_one_vs_rest, features, smoothing=smoothing, penalty=penalty, seed=seed, sample_weights=sample_weights
    )
    if classes == 2:
        weights, intercept = fit(targets == 1)
        return np.stack([-weights, weights], axis=1), np.array([-intercept, intercept])
    fits = [fit(targets == label) for label in range(classes)]
    return np.stack([weights for weights, _ in fits], axis=1), np.array([intercept for _, intercept in fits])


def _fit_one_vs_rest(
    features: sparse.csr_matrix,
    positive: NDArray[np.bool_],
    *,
    smoothing: float,
    penalty: float,
    seed: int,
    sample_weights: NDArray[Any] | None,
) -> tuple[NDArray[np.float64], float]:
    from sklearn.svm import LinearSVC  # a second to import, and only fitting needs it

    ratios = _log_count_ratios(features, positive, smoothing)
    # With scikit-learn's default tol of 1e-4 the fit takes three times as long and is no better.
    svm = LinearSVC(C=penalty, tol=0.01, random_state=seed)
    svm.fit(features @ sparse.diags(ratios), positive, sample_weight=sample_weights)
    return svm.coef_[0] * ratios, float(svm.intercept_[0])


def _log_count_ratios(
    features: sparse.csr_matrix, positive: NDArray[np.bool_], smoothing: float
) -> NDArray[np.float64]:
    """Return the log ratio of each n-gram's share in the positive texts to its share in the rest, [buckets]."""
    occurs = features != 0
    inside, outside = (np.asarray(occurs[mask].sum(axis=0)).ravel() + smoothing for mask in (positive, ~positive))
    return np.log(inside / inside.sum()) - np.log(outside / outside.sum())


def _score(logits: NDArray[np.float64], targets: NDArray[Any]) -> tuple[float, float]:
    """Return the mean cross-entropy and the accuracy."""
    truth = torch.from_numpy(targets).long()
    loss = nn.functional.cross_entropy(torch.from_numpy(logits), truth).item()
    return loss, float((logits.argmax(axis=1) == targets).mean())
