import re
import zlib

import numpy as np
import onnxruntime
import pytest
import torch

from flowerml.engine import onnx
from flowerml.tasks.text.networks.ngrams import EMPTY, NGrams, bucket_ids, fit_calibration, fit_ngrams, ngram_ids

# Each word occurs in as many good reviews as bad ones: only the order of the words decides.
GOOD = ["a good one", "a good film", "so good !", "not bad", "not bad film", "never bad at all"]
BAD = ["a bad one", "a bad film", "so bad !", "not good", "not good film", "never good at all"]
SECTION = {"smoothing": 1.0, "penalty": 4.0, "minimum_count": 1, "seed": 0}


def words(text: str) -> np.ndarray:
    tokens = re.findall(r"[a-z0-9]+|[^\w\s]", text)
    return np.array([(zlib.crc32(token.encode()) & 0x7FFFFFFF) or 1 for token in tokens], dtype=np.int64)


def batch(*texts: str, width: int = 0) -> dict[str, np.ndarray]:
    lengths = np.array([len(words(text)) for text in texts])
    padded = np.zeros((len(texts), max(1, width, *lengths)), dtype=np.int64)
    for row, text in zip(padded, texts, strict=True):
        row[: len(words(text))] = words(text)
    return {"words": padded, "word_lengths": lengths}


def logits(network: NGrams, *texts: str, width: int = 0) -> torch.Tensor:
    return network(*(torch.from_numpy(array) for array in batch(*texts, width=width).values()))


def fitted(*groups: list[str], order: int = 3, buckets: int = 2**12, **changed):
    """Fit a network on one class per group of texts, validated on the same texts; return it and its epoch."""
    texts = [words(text) for group in groups for text in group]
    targets = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    network = NGrams(len(groups), order=order, buckets=buckets)
    (epoch,) = fit_ngrams(network, texts, targets, texts, targets, **{**SECTION, **changed})
    return network, epoch


@pytest.fixture(scope="module")
def network() -> NGrams:
    return fitted(GOOD, BAD)[0]


def by_hand(network: NGrams, text: str) -> torch.Tensor:
    """Return the logits of one text, summed n-gram by n-gram."""
    buckets = bucket_ids(words(text), order=3, buckets=len(network.keys)).tolist()
    ngrams = set(zip(ngram_ids(words(text), order=3).tolist(), buckets, strict=True))
    known = [bucket for ngram, bucket in ngrams if network.keys[bucket] == ngram]
    return network.table[known].sum(0) / max(1, len(known)) ** 0.5 + network.bias


@pytest.mark.parametrize("text", ["", "film", "so good", "never good at all !", "so bad ! so bad !", "words unseen"])
def test_network_and_numpy_agree(network, text):
    torch.testing.assert_close(logits(network, text)[0], by_hand(network, text))


def test_padding_does_not_change_logits(network):
    alone = logits(network, "not bad")
    beside = logits(network, "not bad", "bad", "never good at all", width=30)
    torch.testing.assert_close(beside[:1], alone)
    behind = torch.from_numpy(words("not bad film"))[None]
    torch.testing.assert_close(network(behind, torch.tensor([2])), alone)


def test_repeated_ngram_counts_once(network):
    once, twice = "so bad so bad", "so bad so bad so bad"
    assert len(ngram_ids(words(twice), order=3)) > len(ngram_ids(words(once), order=3))
    torch.testing.assert_close(logits(network, twice), logits(network, once))


def test_unseen_ngrams_are_ignored(network):
    torch.testing.assert_close(logits(network, "so good xylophone quartz"), logits(network, "so good"))


def test_graph_agrees_with_torch(network, tmp_path):
    path = tmp_path / "network.onnx"
    onnx.export(network, path, trace=batch("good", "not bad at all"), check=batch("bad"), output="logits")
    for texts in (["", "bad"], ["not bad"], [*GOOD, *BAD, "never so good a film ! never so bad a film !"]):
        outputs = onnxruntime.InferenceSession(path).run(None, batch(*texts))[0]
        np.testing.assert_allclose(outputs, logits(network, *texts), rtol=1e-5, atol=1e-6)


def test_bigrams_learn_negation():
    single, pairs = (fitted(GOOD, BAD, order=order)[1] for order in (1, 2))
    assert single.valid_accuracy == 0.5
    assert pairs.valid_accuracy == 1


def test_three_classes_are_learned():
    network, epoch = fitted(["good film", "a good one"], ["bad film", "a bad one"], ["a film", "one film"])
    assert epoch.valid_accuracy == 1
    assert logits(network, "so good", "so bad", "the one film").argmax(1).tolist() == [0, 1, 2]


def test_epoch_metrics_match_logits():
    network, epoch = fitted(GOOD, BAD[:2], buckets=16)
    answers, truth = logits(network, *GOOD, *BAD[:2]), torch.tensor([0] * len(GOOD) + [1, 1])
    assert epoch.train_loss == pytest.approx(torch.nn.functional.cross_entropy(answers, truth).item(), rel=1e-5)
    assert epoch.train_accuracy == (answers.argmax(1) == truth).double().mean().item()


def test_same_seed_gives_same_table():
    first, second = fitted(GOOD, BAD)[0], fitted(GOOD, BAD)[0]
    torch.testing.assert_close(first.state_dict(), second.state_dict(), rtol=0, atol=0)


def test_rare_ngrams_get_no_bucket():
    network, _ = fitted(GOOD, BAD, order=1, minimum_count=3)
    kept = {*words("a good bad film not").tolist(), EMPTY}
    assert set(network.keys.tolist()) == kept


def test_frequent_ngram_wins_bucket():
    network, _ = fitted(["common", "common one", "other"], ["common other"], order=1, buckets=1)
    assert network.keys.tolist() == words("common").tolist()


def test_calibration_recovers_scale():
    generator = np.random.default_rng(0)
    margins = generator.normal(size=(20_000, 2))
    chance = 1 / (1 + np.exp(margins @ [3.0, -3.0] - 1))
    scale, bias = fit_calibration(margins, (generator.random(20_000) < chance).astype(int))
    assert scale == pytest.approx(3, rel=0.05)
    assert bias[1] - bias[0] == pytest.approx(1, rel=0.1)


def test_class_weights_favor_rare_class():
    rng = np.random.default_rng(0)
    # Each word only shifts the odds; without weights the frequent class wins nearly everywhere.
    texts = {0: [rng.integers(1, 60, 8) for _ in range(380)], 1: [rng.integers(20, 80, 8) for _ in range(20)]}
    sequences, targets = [*texts[0], *texts[1]], np.repeat([0, 1], [380, 20])
    recalls = {}
    for name, weights in {"none": None, "balanced": torch.tensor([400 / 760, 10.0])}.items():
        network = NGrams(2, order=1, buckets=2**12)
        list(fit_ngrams(network, sequences, targets, sequences, targets, **SECTION, class_weights=weights))
        fresh = torch.from_numpy(np.stack([rng.integers(20, 80, 8) for _ in range(200)]))
        recalls[name] = network(fresh, torch.full((200,), 8)).argmax(1).double().mean().item()
    assert recalls["none"] < 0.75 < recalls["balanced"]
