import base64
import io
from concurrent.futures import ThreadPoolExecutor
from random import Random
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from flowerml import Classifier
from flowerml.core.errors import InputError
from flowerml.data.examples import Example
from flowerml.tasks import image, text
from flowerml.tasks.image import sample
from flowerml.tasks.image.encoder.pictures import Transform
from flowerml.tasks.image.explanation import CELLS
from flowerml.tasks.image.sample.grounds import soil
from flowerml.tasks.text.encoder.preprocessing import MAX_CHARACTERS
from flowerml.tasks.text.explanation import CHARACTER_BUDGET, MAX_SPANS, MAX_SPANS_PRETRAINED, MIN_SPANS
from flowerml.tasks.text.networks.batches import Sequences
from flowerml.tasks.text.networks.linear import LinearFit
from flowerml.tasks.text.networks.ngram_counts import NGramCounts
from flowerml.tasks.text.networks.ngrams import NGrams, fit_ngrams
from flowerml.tasks.text.sections import Encode
from tests.support.encoders import fit, write_encoder

HALVES = {"interpolation": "bilinear", "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
PICTURES = image.Preprocessing(Transform(resize=64, crop=64, **HALVES))
NEUTRAL = ("the", "a", "film", "story", "end", "brother", "nine", "I", "we", "saw", "left", "that", "was", "with", "my")
MOODS = ("dreadful", "splendid")
STEPS = {"strip_html": True, "lower_case": True, "letters_and_digits": True, "stop_words": "keep", "stem": False}


@pytest.fixture(scope="module")
def flowers(reproduced):
    return Classifier.load(reproduced.folder / "models/flowers/classifier")


@pytest.fixture(scope="module")
def reviews(reproduced):
    return Classifier.load(reproduced.folder / "models/reviews/classifier")


@pytest.fixture(scope="module")
def planted_words(tmp_path_factory):
    """A classifier of texts of neutral words, except for one."""
    rng = Random(0)
    raws = [" ".join([*rng.choices(NEUTRAL, k=9), mood, *rng.choices(NEUTRAL, k=9)]) for mood in MOODS * 50]
    encoder, targets = text_encoder(), np.arange(len(raws)) % len(MOODS)
    rows = [encoder.preprocessing.transform(raw)["words"] for raw in raws]
    words = Sequences(np.concatenate(rows), np.cumsum([0, *map(len, rows)]))
    counts = NGramCounts.of({"train": words, "valid": words}, None, order=2, longest=0, minimum_count=2)
    fit = LinearFit(counts, targets, 2, "ratios", smoothing=1.0, seed=0, class_weights=None)
    network = NGrams(2, order=2, longest=0)
    fit_ngrams(fit, targets, penalty=1.0, folds=0).fill(network)
    saved = {"kind": "text", "encoder": encoder, "network": network, "classes": ("neg", "pos")}
    return Classifier.save(tmp_path_factory.mktemp("planted") / "c", **saved, names={}, parameters={}, trained={})


def text_encoder(*, max_words: int = 1500) -> text.Encoder:
    """Return an encoder whose dictionary is "good"."""
    section = Encode(**STEPS, vocab_size=3, max_length=max_words, max_words=max_words)
    examples = [Example("1", "train", "pos", "good")]
    return text.Encoder.fit(examples, section, SimpleNamespace(characters=MAX_CHARACTERS))


def good_count(prepared):
    """Return log odds for a class: how often each text says "good"."""
    good = text_encoder().preprocessing.transform("good")["stems"][0]
    return np.array([(sequences["stems"] == good).sum() for sequences in prepared], float)


def weighted_words(raw, **options):
    """Return the words of a text whose weight is not 0, and their weights."""
    words = text.explain(raw, text_encoder(**options).preprocessing, good_count, label="pos").words
    assert "".join(word.text for word in words) == raw
    return [(word.text, word.weight) for word in words if word.weight]


def test_a_pretrained_encoder_sees_fewer_shortened_texts(tmp_path):
    preprocessing = fit(write_encoder(tmp_path), max_length=2000, max_words=2000).preprocessing
    seen = []

    def log_odds(prepared):
        seen.extend(prepared)
        return np.zeros(len(seen))

    words = text.explain("good film " * 400, preprocessing, log_odds, label="pos").words
    assert MAX_SPANS_PRETRAINED / 2 < len(seen) <= MAX_SPANS_PRETRAINED + 1
    assert "".join(word.text for word in words) == "good film " * 400


def test_evidence_is_where_a_network_looks():
    picture = Image.new("RGB", (64, 64))
    picture.paste("white", (0, 0, 8, 8))  # supports the class
    picture.paste("white", (56, 56, 64, 64))  # contradicts it

    def network(prepared):
        return np.array([pixels[:, :8, :8].mean() - pixels[:, -8:, -8:].mean() for pixels in prepared])

    evidence = image.explain(picture, PICTURES, network, label="1").evidence
    assert np.argmax(evidence) == 0
    assert np.argmin(evidence) == CELLS * CELLS - 1
    assert not evidence[2:-2].any()


def test_no_evidence_is_no_heat():
    picture = Image.effect_noise((64, 64), 200).convert("RGB")
    explanation = image.explain(picture, PICTURES, lambda prepared: np.zeros(len(list(prepared))), label="1")
    np.testing.assert_array_equal(explanation.heat(), 0)
    assert np.ptp(np.asarray(explanation.heat_map()), axis=2).max() == 0


def test_a_picture_may_be_wide():
    wide = image.Preprocessing(Transform(resize=30, crop=30, crop_width=70, fit="squash", **HALVES))

    def network(prepared):
        return np.arange(len(list(prepared)), dtype=float)

    explanation = image.explain(Image.new("RGB", (90, 50)), wide, network, label="1")
    assert explanation.heat_map().size == (70, 30)
    assert explanation.evidence.shape == (CELLS, CELLS)


def test_heat_is_on_the_flower(flowers):
    inside, outside = [], []
    for number, species in enumerate(("sunflower", "rose", "daisy", "tulip")):
        picture = soil((256, 256), Random(number))
        flower = sample.draw(species, rng=Random(number)).resize((112, 112))
        box = (16 if number % 2 else 128, 16 if number < 2 else 128)
        picture.paste(flower, box)
        heat = flowers.explain(picture).heat()
        left, top = (edge - 16 for edge in box)  # the network sees the center 224 of 256 pixels
        inside.append(heat[top : top + 112, left : left + 112].mean())
        outside.append((heat.sum() - inside[-1] * 112**2) / (heat.size - 112**2))
    assert np.mean(inside) > 2 * np.mean(outside)


def test_a_heat_map_travels_as_a_png(flowers, picture):
    explanation = flowers.explain(picture)
    answer = explanation.to_json()
    assert (answer["kind"], answer["label"]) == ("image", flowers.predict([picture])[0].top[0].label)
    with Image.open(io.BytesIO(base64.b64decode(answer["heat_map"]))) as heat_map:
        assert (heat_map.format, heat_map.size) == ("PNG", explanation.picture.size)


def test_any_class_can_be_explained(flowers, reviews, picture):
    for label in flowers.classes[:2]:
        assert flowers.explain(picture, label=label).label == label
    for classifier, raw in ((flowers, picture), (reviews, "good")):
        with pytest.raises(InputError, match=f"one of the {len(classifier.classes)} classes"):
            classifier.explain(raw, label="dandelion")


@pytest.mark.parametrize(("planted", "label"), [("splendid", "pos"), ("dreadful", "neg")])
def test_the_planted_word_decides(planted_words, planted, label):
    explanation = planted_words.explain(f"The film that I saw with my brother was {planted}. We left at nine.")
    assert explanation.label == label
    assert max(explanation.words, key=lambda word: word.weight).text.startswith(planted)


def test_weights_of_two_classes_are_opposite(reviews):
    raw = "A wonderful film with a terrible end."
    negative, positive = (reviews.explain(raw, label=label).words for label in reviews.classes)
    np.testing.assert_allclose([word.weight for word in negative], [-word.weight for word in positive], atol=1e-5)


def test_a_weight_is_the_loss_without_a_word():
    assert weighted_words("good, but not as good as it was.") == [("good,", 1), ("good", 1)]
    assert weighted_words("It's bad.") == []


@pytest.mark.parametrize(
    "raw",
    [
        "good",
        " good\n",
        "<p class='good'>good</p>",
        "\u200bgood 👍🏽 ¡good!",
        "good<br /><br />good",
        "<good",
        "a < good",
    ],
)
def test_the_pieces_make_up_the_text(raw):
    assert all(piece.strip(".!") in ("good", "¡good") for piece, _ in weighted_words(raw))


def test_spaces_and_tags_weigh_nothing(reviews):
    words = reviews.explain("<b>good</b>\n<br />film").to_json()["words"]
    assert [word["text"] for word in words] == ["<b>", "good", "</b>\n<br />", "film"]
    assert [word["weight"] for word in words[::2]] == [0, 0]


def test_a_long_text_takes_bounded_predictions():
    log_odds = []

    def network(prepared):
        log_odds.extend(good_count(prepared))
        return np.array(log_odds)

    raw = "so " * 900 + "good " + "so " * 900
    words = text.explain(raw, text_encoder(max_words=5000).preprocessing, network, label="pos").words
    assert MAX_SPANS / 2 < len(log_odds) <= MAX_SPANS + 1
    assert "".join(word.text for word in words) == raw
    assert [word.text.split().count("good") for word in words if word.weight] == [1]


def test_words_past_the_limit_have_no_weight():
    raw = "good " + "so " * 200 + "good " * 100_000
    assert weighted_words(raw, max_words=100) == [("good", 1)]


def test_a_huge_text_takes_few_predictions():
    count = 0

    def network(prepared):
        nonlocal count
        batch = len(list(prepared))
        count += batch
        return np.zeros(batch)

    raw = "a" * 300_000 + " good " * 50 + "a" * 600_000
    text.explain(raw, text_encoder().preprocessing, network, label="pos")
    assert count <= 1 + max(MIN_SPANS, CHARACTER_BUDGET // len(raw))


def test_explanations_from_many_threads(flowers, reviews, picture):
    for classifier, raw in ((flowers, picture), (reviews, "A wonderful film with a terrible end.")):
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda _, c=classifier, r=raw: c.explain(r).to_json(), range(4)))
        assert all(answer == answers[0] for answer in answers)


def test_unreadable_input_is_not_explained(flowers, reviews):
    for classifier, raw in ((flowers, b"no picture"), (reviews, " ")):
        for label in (None, classifier.classes[0]):
            with pytest.raises(InputError):
                classifier.explain(raw, label=label)
