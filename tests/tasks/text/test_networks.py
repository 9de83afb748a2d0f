from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from flowerml.data.encodings import Encoded, write
from flowerml.data.examples import Key
from flowerml.engine import onnx
from flowerml.tasks.text.encoder import Encoder, Preprocessing
from flowerml.tasks.text.encoder.cleaning import Cleaning
from flowerml.tasks.text.encoder.vocabulary import Vocabulary
from flowerml.tasks.text.networks import Texts, build_network
from flowerml.tasks.text.networks.blend import blend_weights
from flowerml.tasks.text.networks.lstm import Lstm, reverse_sequences

SIZES = {"embedding_dim": 8, "hidden_dim": 6, "layers": 1, "bidirectional": False, "pooling": "last", "dropout": 0.0}
VARIANTS = [
    {},
    {"pooling": "mean_max"},
    {"bidirectional": True},
    {"bidirectional": True, "layers": 2, "pooling": "mean_max"},
]


def lstm(**changes):
    torch.manual_seed(0)
    return Lstm(30, 2, **{**SIZES, **changes}).eval()


def padded(*rows):
    lengths = torch.tensor([len(row) for row in rows])
    return torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True), lengths


@pytest.mark.parametrize("changes", VARIANTS)
def test_padding_does_not_change_logits(changes):
    network = lstm(**changes)
    short, long = [3, 7, 2], [5, 9, 11, 4, 8, 6, 21, 22]
    alone = network(*padded(short))
    stems, lengths = padded(short, long)
    torch.testing.assert_close(network(stems, lengths)[:1], alone)
    stems[0, 3:] = 29  # nor does the value of the padding
    torch.testing.assert_close(network(stems, lengths)[:1], alone)


def test_equals_packed_sequences():
    network = lstm()
    stems, lengths = padded([3, 7, 2], [5, 9, 11, 4, 8])
    packed = torch.nn.utils.rnn.pack_padded_sequence(
        network.embedding(stems), lengths, batch_first=True, enforce_sorted=False
    )
    expected = network.output(network.forwards[0](packed)[1][0][-1])
    torch.testing.assert_close(network(stems, lengths), expected)


def test_equals_bidirectional_lstm():
    network = lstm(bidirectional=True)
    whole = torch.nn.LSTM(8, 6, batch_first=True, bidirectional=True)
    state = dict(network.forwards[0].named_parameters())
    state |= {f"{name}_reverse": value for name, value in network.backwards[0].named_parameters()}
    whole.load_state_dict(state)
    stems, lengths = padded([3, 7, 2, 9], [5, 9, 11, 4])
    last = whole(network.embedding(stems))[1][0]
    torch.testing.assert_close(network(stems, lengths), network.output(torch.cat([last[0], last[1]], dim=1)))


def test_reversal_keeps_padding():
    states = torch.tensor([[1, 2, 3, 0], [4, 5, 6, 7]])[:, :, None]
    reverse = reverse_sequences(states, torch.tensor([3, 4]))[:, :, 0]
    assert reverse.tolist() == [[3, 2, 1, 0], [7, 6, 5, 4]]


@pytest.mark.parametrize("changes", VARIANTS)
def test_exported_graph_agrees(changes, tmp_path):
    inputs = [padded(*rows) for rows in ([[3, 7]], [[5, 9, 11, 4], [8, 6], [1]])]
    trace, check = ({"stems": stems.numpy(), "lengths": lengths.numpy()} for stems, lengths in inputs)
    onnx.export(lstm(**changes), tmp_path / "network.onnx", trace=trace, check=check, output="logits")


def encoded_texts(tmp_path, count=200):
    """Return texts whose class is whether 5 comes before 6; each word is both hash and stem."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(count):
        words = rng.integers(7, 12, rng.integers(4, 9))
        label = number % 2
        words[:2] = (5, 6) if label else (6, 5)
        split = "valid" if number % 5 == 4 else "train"
        values = {"stems": words.astype(np.int32), "words": words.astype(np.int32)}
        rows.append((Key(str(number), split, ("neg", "pos")[label], ""), values))
    write(tmp_path / "encoded.arrow", rows, columns=encoder().columns)
    return Texts(Encoded.read(tmp_path / "encoded.arrow"), ("neg", "pos"), codes=encoder().preprocessing.codes)


def encoder():
    steps = {"strip_html": True, "lower_case": True, "letters_and_digits": True, "stop_words": "drop", "stem": True}
    vocabulary = Vocabulary(tuple(f"stem{code}" for code in range(10)))
    return Encoder(Preprocessing(Cleaning(**steps), vocabulary, 50, 100))


def section(network, **changes):
    arguments = {
        "learning_rate": 0.03,
        "batch_size": 16,
        "epochs": 12,
        "optimizer": "adam",
        "weight_decay": 0.0,
        "schedule": "constant",
        "label_smoothing": 0.0,
        "patience": None,
        "class_weights": None,
    }
    grams = {"order": 2, "characters": 0, "weighting": "ratios", "smoothing": 1.0, "penalty": 1.0, "minimum_count": 1}
    grams |= {"folds": 0}
    values = {"network": network, "seed": 0, **SIZES, **grams, **changes}
    return SimpleNamespace(**values, class_weights=None, trainer_arguments=lambda: arguments)


@pytest.mark.parametrize("kind", ["lstm", "ngrams", "blend"])
def test_networks_learn_word_order(kind, tmp_path):
    network, training = build_network(encoded_texts(tmp_path), section(kind))
    epochs = list(training)
    assert max(epoch.valid_accuracy for epoch in epochs) == 1
    graph = encoder().graph(network)
    inputs = [encoder().preprocessing.random_inputs(count, seed=count) for count in (1, 3)]
    onnx.export(graph, tmp_path / "network.onnx", trace=inputs[0], check=inputs[1], output="logits")


def test_unigrams_cannot_learn_order(tmp_path):
    _, training = build_network(encoded_texts(tmp_path), section("ngrams", order=1))
    assert max(epoch.valid_accuracy for epoch in training) < 0.8


@pytest.mark.parametrize("kind", ["lstm", "ngrams", "blend"])
def test_same_seed_gives_same_weights(kind, tmp_path):
    data = encoded_texts(tmp_path)
    states = []
    for _ in range(2):
        network, training = build_network(data, section(kind))
        list(training)
        states.append(network.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_blend_ends_at_best_epoch(tmp_path):
    data = encoded_texts(tmp_path)
    network, training = build_network(data, section("blend"))
    best = max(list(training), key=lambda epoch: (epoch.valid_accuracy, -epoch.valid_loss))
    rows = np.arange(len(data.targets["valid"]))
    inputs = (*data.stems["valid"].padded(rows), *data.words["valid"].padded(rows))
    with torch.inference_mode():
        loss = torch.nn.functional.cross_entropy(network(*inputs), torch.from_numpy(data.targets["valid"]))
    assert loss.item() == pytest.approx(best.valid_loss, rel=1e-4)


def test_noise_gets_little_weight():
    targets = torch.tensor([0, 1] * 200)
    informed = torch.nn.functional.one_hot(targets, 2) * 2.0 + torch.randn(400, 2, generator=torch.manual_seed(0))
    noise = torch.randn(400, 2, generator=torch.manual_seed(1))
    weights = blend_weights(informed, noise, targets)
    assert weights[0] > 5 * weights[1] > 0


def test_unseen_code_has_an_embedding(tmp_path):
    data = encoded_texts(tmp_path)
    network, training = build_network(data, section("lstm", max_length=2))
    list(training)
    last = torch.tensor([[encoder().preprocessing.codes - 1]])
    assert network(last, torch.tensor([1])).shape == (1, 2)


@pytest.mark.parametrize("characters", [0, 50])
def test_random_inputs_hit_ngrams(characters):
    preprocessing = replace(encoder().preprocessing, characters=characters)
    inputs = preprocessing.random_inputs(3, seed=0)
    for name in ("words", *(["characters"] if characters else [])):
        known = {number for text in preprocessing.vocabulary.stems for number in preprocessing.transform(text)[name]}
        assert known & set(inputs[name].ravel().tolist())


def test_ngrams_are_fitted_once_for_equal_trials(tmp_path):
    data = encoded_texts(tmp_path)
    first = data.fitted(section("ngrams", characters=5))
    assert data.fitted(section("ngrams", characters=0)) is first  # these texts keep no characters
    assert data.fitted(section("ngrams", weighting="idf")) is not first
