import math
import os
import re
import subprocess
import sys
import zlib

import numpy as np
import onnxruntime
import pytest
import torch

from flowerml.engine import onnx
from flowerml.tasks.text.networks import ngrams
from flowerml.tasks.text.networks.batches import Sequences
from flowerml.tasks.text.networks.linear import LinearFit
from flowerml.tasks.text.networks.ngram_counts import SPACE, NGramCounts
from flowerml.tasks.text.networks.ngrams import (
    PENALTIES,
    NGrams,
    NGramsTrainer,
    fit_calibration,
    fit_ngrams,
)

# Each word occurs in as many good reviews as bad ones: only the order of the words decides.
GOOD = ["a good one", "a good film", "so good !", "not bad", "not bad film", "never bad at all"]
BAD = ["a bad one", "a bad film", "so bad !", "not good", "not good film", "never good at all"]
INPUTS = ("words", "word_lengths", "characters", "character_lengths")


def words(text: str) -> np.ndarray:
    tokens = re.findall(r"[a-z0-9]+|[^\w\s]", text)
    return np.array([(zlib.crc32(token.encode()) & 0x7FFFFFFF) or 1 for token in tokens], dtype=np.int64)


def characters(text: str) -> np.ndarray:
    return np.array([SPACE, *map(ord, text), SPACE])


def padded(rows: list[np.ndarray], width: int = 0) -> tuple[np.ndarray, np.ndarray]:
    lengths = np.array([len(row) for row in rows])
    array = np.zeros((len(rows), max(1, width, *lengths)), dtype=np.int64)
    for target, row in zip(array, rows, strict=True):
        target[: len(row)] = row
    return array, lengths


def batch(*texts: str, width: int = 0, longest: int = 0) -> dict[str, np.ndarray]:
    arrays = padded([words(text) for text in texts], width)
    if longest:
        arrays += padded([characters(text) for text in texts], 4 * width)
    return dict(zip(INPUTS, arrays, strict=False))


def logits(network: NGrams, *texts: str, width: int = 0) -> torch.Tensor:
    arrays = batch(*texts, width=width, longest=network.longest).values()
    return network(*(torch.from_numpy(array) for array in arrays))


def sequences(rows: list[np.ndarray]) -> Sequences:
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    return Sequences(np.concatenate(rows).astype(np.int32), offsets)


def counted(train: list[str], valid: list[str], *, order: int = 3, longest: int = 0, minimum_count: int | None = 1):
    texts = {"train": train, "valid": valid}
    word_rows = {split: sequences([words(text) for text in part]) for split, part in texts.items()}
    letters = {split: sequences([characters(text) for text in part]) for split, part in texts.items()}
    return NGramCounts.of(
        word_rows, letters if longest else None, order=order, longest=longest, minimum_count=minimum_count
    )


def linear(counts: NGramCounts, targets: np.ndarray, **changes) -> LinearFit:
    values = {"weighting": "ratios", "smoothing": 1.0, "seed": 0, "class_weights": None, **changes}
    return LinearFit(counts, targets, int(targets.max()) + 1, **values)


def fitted(
    *groups: list[str], order: int = 3, longest: int = 0, minimum_count: int = 1, penalty: float = 3.0, **changed
):
    """Fit a network on one class per group of texts, validated on the same texts; return it and its epoch."""
    texts = [text for group in groups for text in group]
    targets = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    fit = linear(counted(texts, texts, order=order, longest=longest, minimum_count=minimum_count), targets, **changed)
    network = NGrams(len(groups), order=order, longest=longest)
    both = {"train": targets, "valid": targets}
    (epoch,) = NGramsTrainer(network, lambda: fit_ngrams(fit, targets, penalty=penalty, folds=0), both)
    return network, epoch


@pytest.fixture(scope="module")
def network() -> NGrams:
    return fitted(GOOD, BAD)[0]


TEXTS = ["", "film", "so good", "never good at all !", "so bad ! so bad !", "words unseen", "badly goodness films"]


@pytest.mark.parametrize("weighting", ["ratios", "idf", "plain"])
@pytest.mark.parametrize("longest", [0, 5])
def test_network_and_numpy_agree(weighting, longest):
    fit = linear(counted([*GOOD, *BAD], TEXTS, longest=longest), np.repeat([0, 1], 6), weighting=weighting)
    model = fit_ngrams(fit, np.zeros(len(TEXTS), int), penalty=1.0, folds=0)
    network = NGrams(2, order=3, longest=longest)
    model.fill(network)
    expected = model.logits("valid", np.arange(len(TEXTS)))
    np.testing.assert_allclose(logits(network, *TEXTS), expected, atol=3e-3 * abs(expected).max())


def test_padding_does_not_change_logits():
    network = fitted(GOOD, BAD, longest=4)[0]
    alone = logits(network, "not bad")
    beside = logits(network, "not bad", "bad", "never good at all", width=30)
    torch.testing.assert_close(beside[:1], alone)
    inputs = [torch.from_numpy(array) for array in batch("not bad film", longest=4).values()]
    torch.testing.assert_close(network(inputs[0], torch.tensor([2]), inputs[2][:, :9], torch.tensor([9])), alone)


def test_repeated_ngrams_count_by_the_logarithm():
    network = fitted(["good", "fine"], ["bad", "poor"], order=1)[0]
    value = network.table[network.lookup(torch.from_numpy(words("good bad"))), 0].float()
    norms = network.norms[network.lookup(torch.from_numpy(words("good bad")))].float()
    counts = torch.tensor([1 + math.log(3), 1])
    expected = (counts * value).sum() / (counts * norms).norm() + network.bias[0]
    torch.testing.assert_close(logits(network, "good bad good good")[0, 0], expected, rtol=1e-4, atol=1e-4)


def test_unseen_ngrams_are_ignored(network):
    torch.testing.assert_close(logits(network, "so good xylophone quartz"), logits(network, "so good"))


@pytest.mark.parametrize("longest", [0, 5])
def test_graph_agrees_with_torch(longest, tmp_path):
    network = fitted(GOOD, BAD, longest=longest)[0]
    path = tmp_path / "network.onnx"
    trace, check = batch("good", "not bad at all", longest=longest), batch("bad", longest=longest)
    onnx.export(network, path, trace=trace, check=check, output="logits")
    for texts in (["", "bad"], ["not bad"], [*GOOD, *BAD, "never so good a film ! never so bad a film !"]):
        outputs = onnxruntime.InferenceSession(path).run(None, batch(*texts, longest=longest))[0]
        np.testing.assert_allclose(outputs, logits(network, *texts), rtol=1e-4, atol=1e-5)


def test_bigrams_learn_negation():
    single, pairs = (fitted(GOOD, BAD, order=order)[1] for order in (1, 2))
    assert single.valid_accuracy == 0.5
    assert pairs.valid_accuracy == 1


def test_characters_know_misspelt_words():
    groups = (["printer", "printing", "print it"], ["password", "passwords", "my password"])
    answers = {longest: logits(fitted(*groups, longest=longest)[0], "pritner", "pasword") for longest in (0, 5)}
    assert answers[5].argmax(1).tolist() == [0, 1]
    torch.testing.assert_close(answers[0][0], answers[0][1])  # the words are unknown


def test_ngrams_of_characters_end_at_spaces():
    """The n-grams of 3 to 5 characters of " ab c " are " ab", "ab ", " ab " and " c "."""
    counts = counted(["ab c"], ["c"], order=1, longest=5)
    assert len(counts.ids) == 2 + 4
    assert counts.values["valid"].nnz == 1 + 1


@pytest.mark.parametrize("weighting", ["ratios", "idf"])
def test_three_classes_are_learned(weighting):
    network, epoch = fitted(
        ["good film", "a good one"], ["bad film", "a bad one"], ["a film", "one film"], weighting=weighting
    )
    assert epoch.valid_accuracy == 1
    assert logits(network, "so good", "so bad", "the one film").argmax(1).tolist() == [0, 1, 2]


def test_sizes_of_classes_cancel_in_ratios():
    """A word in the same share of the n-grams of both groups says nothing, however many texts each has."""
    texts = ["common rare"] * 2 + ["common other"] * 20
    counts = counted(texts, texts, order=1)
    targets = np.repeat([1, 0], [2, 20])
    fit = linear(counts, targets, smoothing=1e-9)
    ratios = dict(zip(counts.ids.tolist(), fit.fitter(np.arange(22), 1.0).log_count_ratios(targets == 1), strict=True))
    common, rare, other = (ratios[word] for word in words("common rare other"))
    assert common == pytest.approx(0, abs=1e-6)
    assert rare > 0 > other


def test_ngrams_that_do_not_occur_have_no_share():
    """With a million empty rows in the table the smoothing of each would drown the counts of a small class."""
    texts = ["common rare"] * 2 + ["common other"] * 20
    counts = counted(texts, texts, order=1)
    fit = linear(counts, np.repeat([1, 0], [2, 20]))
    expected = np.log(3 / (3 + 3 + 1)) - np.log(21 / (21 + 1 + 21))  # smoothing once for each of three words
    ratios = dict(
        zip(counts.ids.tolist(), fit.fitter(np.arange(22), 1.0).log_count_ratios(fit.targets == 1), strict=True)
    )
    assert ratios[words("common")[0]] == pytest.approx(expected)


def test_a_class_without_texts_gets_finite_margins():
    texts = [*GOOD, *BAD, "a third"]
    for weighting in ("ratios", "idf"):
        fit = linear(counted(texts, texts), np.array([0] * 6 + [1] * 6 + [2]), weighting=weighting)
        for rows in (np.arange(12), np.arange(6)):
            margins = fit(rows, penalty=1.0)("train", np.arange(13))
            assert np.isfinite(margins).all()
            assert (margins.argmax(1)[:6] == 0).all()


def test_epoch_metrics_match_logits():
    network, epoch = fitted(GOOD, BAD[:2])
    answers, truth = logits(network, *GOOD, *BAD[:2]), torch.tensor([0] * len(GOOD) + [1, 1])
    assert epoch.train_loss == pytest.approx(torch.nn.functional.cross_entropy(answers, truth).item(), rel=1e-2)
    assert epoch.train_accuracy == (answers.argmax(1) == truth).double().mean().item()


def test_folds_count_in_the_score():
    """Texts that repeat within a class are known to a model without their fold; noise is not."""
    rng = np.random.default_rng(0)
    noise = [" ".join(f"w{number}" for number in rng.integers(0, 50, 5)) for _ in range(60)]
    targets = np.arange(60) % 2
    fit = linear(counted(noise, ["good"] * 2), targets)
    alone = fit_ngrams(fit, np.array([0, 1]), penalty=1.0, folds=0)
    crossed = fit_ngrams(fit, np.array([0, 1]), penalty=1.0, folds=5)
    assert len(alone.held_out.targets) == 2
    assert len(crossed.held_out.targets) == 62
    assert (fit(np.arange(60), penalty=1.0)("train", np.arange(60)).argmax(1) == targets).mean() > 0.95
    assert crossed.held_out.accuracy < 0.75


def test_the_best_penalty_is_chosen():
    texts = [*GOOD, *BAD] * 3
    targets = np.tile(np.repeat([0, 1], 6), 3)
    fit = linear(counted(texts, texts), targets)
    losses = {penalty: fit_ngrams(fit, targets, penalty=penalty, folds=3).loss for penalty in PENALTIES}
    assert fit_ngrams(fit, targets, penalty=None, folds=3).loss == min(losses.values())


def test_penalties_are_compared_on_a_part_of_much_data(monkeypatch):
    class Recorded(LinearFit):
        def __call__(self, rows, *, penalty):
            sizes.append(len(rows))
            return super().__call__(rows, penalty=penalty)

    sizes: list[int] = []
    texts = [*GOOD, *BAD] * 4
    targets = np.tile(np.repeat([0, 1], 6), 4)
    fit = Recorded(**vars(linear(counted(texts, texts), targets)))
    monkeypatch.setattr(ngrams, "WORK", fit.work / 2.5)
    chosen = fit_ngrams(fit, targets, penalty=None, folds=0)
    assert {*sizes[:-1]} == {16}
    assert sizes[-1] == 48
    assert chosen.loss == fit_ngrams(fit, targets, penalty=chosen.penalty, folds=0).loss


def test_the_chosen_penalty_is_recorded():
    _, epoch = fitted(GOOD, BAD, penalty=0.3)
    assert epoch.chosen == {"penalty": 0.3}


def test_same_seed_gives_same_table():
    first, second = fitted(GOOD, BAD)[0], fitted(GOOD, BAD)[0]
    torch.testing.assert_close(first.state_dict(), second.state_dict(), rtol=0, atol=0)


def test_rare_ngrams_are_left_out():
    counts = counted([*GOOD, *BAD], GOOD, order=1, minimum_count=3)
    assert set(counts.ids.tolist()) == set(words("a good bad film not").tolist())


def test_the_most_frequent_ngrams_are_kept(monkeypatch):
    monkeypatch.setattr("flowerml.tasks.text.networks.ngram_counts.MOST", 5)
    counts = counted([*GOOD, *BAD], GOOD, order=1, minimum_count=None)
    assert counts.minimum_count == 3
    assert len(counts.ids) == 5


def test_a_network_is_loaded_with_its_table():
    network = fitted(GOOD, BAD, longest=4)[0]
    empty = NGrams(2, order=3, longest=4)
    empty.load_state_dict(network.state_dict())
    torch.testing.assert_close(logits(empty, *TEXTS), logits(network, *TEXTS), rtol=0, atol=0)


def test_a_hashed_table_is_counted_anew():
    """A blend saved by version 0.1 can be trained further."""
    network = NGrams(2, order=3, longest=0)
    old = {"keys": torch.full((16,), -1, dtype=torch.int32), "table": torch.ones(16, 2), "bias": torch.ones(2)}
    network.load_state_dict(old)
    assert len(network.table) == 1
    assert logits(network, "good").tolist() == [[0.0, 0.0]]


def test_size_is_that_of_the_ngrams_found():
    """Eleven n-grams of two classes: an id, a norm and two values of each; the directory and padding are bounded."""
    network = fitted(["a b c d"], ["a e"], order=2)[0]
    stored = sum(tensor.nbytes for tensor in network.state_dict().values())
    assert len(network.table) == 1 + len(set(words("a b c d e").tolist())) + 4
    assert stored < 250


def test_calibration_recovers_scale():
    generator = np.random.default_rng(0)
    margins = generator.normal(size=(20_000, 2))
    chance = 1 / (1 + np.exp(margins @ [3.0, -3.0] - 1))
    scale, bias = fit_calibration(margins, (generator.random(20_000) < chance).astype(int))
    assert scale == pytest.approx(3, rel=0.05)
    assert bias[1] - bias[0] == pytest.approx(1, rel=0.1)


def test_margins_of_a_few_texts_are_not_calibrated_away():
    """Held-out texts of a balanced handful are worse than chance, as their class is the rarer one among the others."""
    margins = np.array([[-0.1, 0.1], [0.1, -0.1]] * 8)
    scale, bias = fit_calibration(margins, np.array([0, 1] * 8))
    assert scale > 1
    assert abs(bias).max() < 0.01


def test_class_weights_favor_rare_class():
    rng = np.random.default_rng(0)
    # Each word only shifts the odds; without weights the frequent class wins nearly everywhere.
    targets = np.repeat([0, 1], [380, 20])
    drawn = ([rng.integers(*(20, 80) if label else (1, 60), 8) for label in targets] for _ in range(2))
    texts = dict(zip(("train", "valid"), map(sequences, drawn), strict=True))
    recalls = {}
    for name, weights in {"none": None, "balanced": np.array([400 / 760, 10.0])}.items():
        counts = NGramCounts.of(texts, None, order=1, longest=0, minimum_count=1)
        network = NGrams(2, order=1, longest=0)
        fit_ngrams(linear(counts, targets, class_weights=weights), targets, penalty=4.0, folds=0).fill(network)
        fresh = torch.from_numpy(np.stack([rng.integers(20, 80, 8) for _ in range(200)]))
        recalls[name] = network(fresh, torch.full((200,), 8)).argmax(1).double().mean().item()
    assert recalls["none"] < 0.85 < recalls["balanced"]


OF_MANY = """
import hashlib, numpy, scipy.sparse
from flowerml.tasks.text.networks.linear import Fitter
size = 10_400
features = scipy.sparse.random(size, size, density=0.0005, random_state=0, format="csr")
targets = numpy.random.default_rng(0).integers(0, 2, size)
fitter = Fitter(features, targets, numpy.ones(size), numpy.ones(size, numpy.int64), 1.0, 1.0, 0, None)
print(hashlib.sha256(fitter.together(2)[0].tobytes()).hexdigest())
"""


@pytest.mark.extended
def test_the_threads_of_blas_change_no_bit():
    def digest(threads: int) -> str:
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": str(threads)}
        done = subprocess.run([sys.executable, "-c", OF_MANY], env=environment, capture_output=True, check=True)
        return done.stdout.decode()

    assert digest(1) == digest(2)
