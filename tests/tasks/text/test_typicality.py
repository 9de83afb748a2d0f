"""The detector of texts unlike the training texts."""

from random import Random

import numpy as np
import pytest
import torch

from flowerml.engine import onnx
from flowerml.tasks.records import STRANGEST
from flowerml.tasks.text.encoder.preprocessing import hash_token
from flowerml.tasks.text.networks.batches import Sequences
from flowerml.tasks.text.networks.typicality import fit_text_detector
from flowerml.tasks.text.networks.word_pairs import PairCounts

THINGS, VERBS, VERDICTS = ("film", "story", "cast", "music"), ("is", "was", "seems"), ("good", "bad", "dull", "fine")
RANDOM = Random(0)


def sentence():
    return f"the {RANDOM.choice(THINGS)} {RANDOM.choice(VERBS)} so {RANDOM.choice(VERDICTS)} ."


def texts(count):
    return [" ".join(sentence() for _ in range(RANDOM.randint(1, 6))) for _ in range(count)]


def sequences(rows):
    words = [np.array([hash_token(token) for token in row.split()], np.int32) for row in rows]
    return Sequences(np.concatenate(words), np.append(0, np.cumsum([len(row) for row in words])))


@torch.inference_mode()
def strangeness(detector, rows):
    words = sequences(rows)
    return detector.module(*words.padded(np.arange(len(rows))))[0].numpy()


def auroc(inside, outside):
    """Return how often an outside score is above an inside one, ties counting half."""
    difference = outside[:, None] - inside[None]
    return float((difference > 0).mean() + (difference == 0).mean() / 2)


@pytest.fixture(scope="module")
def detector():
    return fit_text_detector(sequences(texts(300)), None)


def shuffled(row):
    words = row.split()
    RANDOM.shuffle(words)
    return " ".join(words)


NOISE = {
    "words in random order": lambda: shuffled(" ".join(sentence() for _ in range(4))),
    "half of the words are others": lambda: " ".join(f"{word} {hash_token(word)}x" for word in sentence().split()),
    "words that do not occur": lambda: "qwertz asdf yxcv",
}


@pytest.mark.parametrize("noise", NOISE.values(), ids=NOISE)
def test_noise_is_strange(detector, noise):
    inside, outside = strangeness(detector, texts(100)), strangeness(detector, [noise() for _ in range(50)])
    assert auroc(inside, outside) > 0.95


def test_texts_alike_are_not_strange(detector):
    threshold = np.quantile(detector.held_out, 0.95)
    assert np.mean(strangeness(detector, texts(200)) <= threshold) > 0.85
    assert np.mean(strangeness(detector, [sentence() for _ in range(200)]) <= threshold) > 0.85


@pytest.mark.parametrize("text", ["qwertz asdf", "今日 天气", "12 7 2026", ". . . !", "the1"])
def test_no_known_word_is_strangest(detector, text):
    (score,) = strangeness(detector, [text])
    assert score == STRANGEST
    assert strangeness(detector, [f"{text} film"])[0] < STRANGEST


def test_numbers_are_words_where_texts_have_no_others():
    numbers = fit_text_detector(sequences([f"{number} + 7 = 3" for number in range(10)] * 5), None)
    assert strangeness(numbers, ["4 + 7 = 3"])[0] < STRANGEST == strangeness(numbers, ["film"])[0]


def test_padding_changes_nothing(detector):
    together = strangeness(detector, ["the film is so good .", "film", "the cast was so fine . the music is so bad ."])
    alone = strangeness(detector, ["the film is so good ."])
    np.testing.assert_allclose(together[:1], alone, rtol=1e-6)


def test_graph_agrees_with_torch(detector, tmp_path):
    rows = [*texts(3), "film", "qwertz", " ".join(["film"] * 3000)]
    inputs = [
        dict(zip(detector.module.reads, (part.numpy() for part in sequences(chosen).padded(range_)), strict=True))
        for chosen, range_ in ((rows[:1], np.arange(1)), (rows, np.arange(len(rows))))
    ]
    onnx.export(
        detector.module,
        tmp_path / "a.onnx",
        trace=inputs[0],
        check=inputs[1],
        output="strangeness",
        others=["features"],
    )
    scores = onnx.runner(tmp_path / "a.onnx")(inputs[1])
    np.testing.assert_allclose(scores, strangeness(detector, rows), rtol=1e-4)


def test_held_out_counts_leave_the_text_out():
    """What a text has under the counts of the others is what it has under a model of the others."""
    rows = texts(20)
    whole, _ = PairCounts.of(sequences(rows)).held_out()
    for number in range(5):
        others = PairCounts.of(sequences(rows[:number] + rows[number + 1 :])).model()
        words = sequences(rows[number : number + 1]).values.astype(np.int64)
        known = {id: row for row, id in enumerate(others.words.tolist())}
        surprise = [others.surprise[known.get(word, -1)] for word in words.tolist()]
        assert whole.features[number, 0] == pytest.approx(np.mean(surprise))
        assert -whole.features[number, 1] == pytest.approx(_mean_gain(others, words, known))


def _mean_gain(model, words, known):
    from flowerml.tasks.text.networks.word_pairs import pair_ids

    pairs = {id: row for row, id in enumerate(model.pairs.tolist())}
    gains = [
        model.gain[pairs[pair]] if pair in pairs else -model.backoff[known.get(first, -1)]
        for first, pair in zip(words.tolist(), pair_ids(words[:-1], words[1:]).tolist(), strict=False)
    ]
    return np.mean(gains)


def test_five_texts_are_enough():
    few = fit_text_detector(sequences(texts(5)), None)
    assert len(few.held_out) == 5 and np.isfinite(few.held_out).all()
    assert np.isfinite(strangeness(few, [*texts(5), "qwertz", "film"])).all()


def test_features_are_judged_too():
    rng = np.random.default_rng(0)
    rows = texts(100)
    features = rng.normal(size=(100, 8)).astype(np.float32) + 5
    detector = fit_text_detector(sequences(rows), features)
    assert detector.module.reads == ("words", "word_lengths", "features")
    words = sequences(rows[:2]).padded(np.arange(2))
    here, elsewhere = (detector.module(*words, torch.from_numpy(sign * features[:2]))[0] for sign in (1, -1))
    assert (elsewhere > 2 * here).all()


def test_fit_is_deterministic():
    rows = sequences(texts(50))
    first, second = fit_text_detector(rows, None), fit_text_detector(rows, None)
    assert first.held_out.tobytes() == second.held_out.tobytes()
    for name, value in first.module.state_dict().items():
        assert torch.equal(value, second.module.state_dict()[name]), name
