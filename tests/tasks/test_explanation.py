import base64
import io
from collections import deque
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
from flowerml.tasks.text.encoder import MAX_CHARACTERS
from flowerml.tasks.text.explanation import CHARACTER_BUDGET, MAX_SPANS, MIN_SPANS
from flowerml.tasks.text.networks.ngrams import NGrams, fit_ngrams

GREY = {"interpolation": "bilinear", "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
PICTURES = image.Encoder("none", Transform(resize=64, crop=64, **GREY), features=1)
PLAIN = ("the", "a", "film", "story", "end", "brother", "nine", "I", "we", "saw", "left", "that", "was", "with", "my")
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
    """A classifier of texts that were composed without a mood, but for one word."""
    rng = Random(0)
    said = [" ".join([*rng.choices(PLAIN, k=9), mood, *rng.choices(PLAIN, k=9)]) for mood in MOODS * 50]
    encoder, targets = texts(), np.arange(len(said)) % len(MOODS)
    sequences = [encoder.prepare(one)["words"] for one in said]
    network = NGrams(2, order=2, buckets=2**12)
    fitting = {"smoothing": 1.0, "penalty": 1.0, "minimum_count": 2, "seed": 0}
    deque(fit_ngrams(network, sequences, targets, sequences, targets, **fitting), maxlen=0)
    saved = {"kind": "text", "encoder": encoder, "network": network, "classes": ("neg", "pos")}
    return Classifier.save(tmp_path_factory.mktemp("planted") / "c", **saved, names={}, parameters={}, trained={})


def texts(*, max_words: int = 1500) -> text.Encoder:
    """An encoder that knows "good", of words in a row."""
    section = SimpleNamespace(**STEPS, vocab_size=3, max_length=max_words, max_words=max_words)
    known = [Example("1", "train", "pos", "good")]
    return text.Encoder.fit(known, section, SimpleNamespace(characters=MAX_CHARACTERS))


def good_ones(prepared):
    """Log odds for a class: how often a text says "good"."""
    good = texts().prepare("good")["stems"][0]
    return np.array([(one["stems"] == good).sum() for one in prepared], float)


def weights(raw, **options):
    found = text.explain(raw, texts(**options), good_ones, label="pos").words
    assert "".join(word.text for word in found) == raw
    return [(word.text, word.weight) for word in found if word.weight]


def test_evidence_is_where_a_network_looks():
    picture = Image.new("RGB", (64, 64))
    picture.paste("white", (0, 0, 8, 8))  # spoke for
    picture.paste("white", (56, 56, 64, 64))  # spoke against

    def network(prepared):
        return np.array([one[:, :8, :8].mean() - one[:, -8:, -8:].mean() for one in prepared])

    evidence = image.explain(picture, PICTURES, network, label="1").evidence
    assert np.argmax(evidence) == 0
    assert np.argmin(evidence) == CELLS * CELLS - 1
    assert not evidence[2:-2].any()


def test_a_network_that_sees_nothing_leaves_the_picture_grey():
    picture = Image.effect_noise((64, 64), 200).convert("RGB")
    found = image.explain(picture, PICTURES, lambda prepared: np.zeros(len(list(prepared))), label="1")
    np.testing.assert_array_equal(found.heat(), 0)
    assert np.ptp(np.asarray(found.heat_map()), axis=2).max() == 0


def test_a_picture_may_be_wide():
    wide = image.Encoder("none", Transform(resize=30, crop=30, crop_width=70, fit="squash", **GREY), features=1)
    found = image.explain(
        Image.new("RGB", (90, 50)), wide, lambda all: np.arange(len(list(all)), dtype=float), label="1"
    )
    assert found.heat_map().size == (70, 30)
    assert found.evidence.shape == (CELLS, CELLS)


def test_heat_is_on_the_flower_and_not_on_the_ground(flowers):
    inside, outside = [], []
    for number, species in enumerate(("sunflower", "rose", "daisy", "tulip")):
        picture = soil((256, 256), Random(number))
        flower = sample.draw(species, rng=Random(number)).resize((112, 112))
        box = (16 if number % 2 else 128, 16 if number < 2 else 128)
        picture.paste(flower, box)
        heat = flowers.explain(picture).heat()
        left, top = (edge - 16 for edge in box)  # of 256 pixels the network sees the 224 in the middle
        inside.append(heat[top : top + 112, left : left + 112].mean())
        outside.append((heat.sum() - inside[-1] * 112**2) / (heat.size - 112**2))
    assert np.mean(inside) > 2 * np.mean(outside)


def test_a_picture_s_explanation_is_a_png_of_what_the_network_saw(flowers, picture):
    found = flowers.explain(picture)
    told = found.to_json()
    assert (told["kind"], told["label"]) == ("image", flowers.predict([picture])[0].top[0].label)
    with Image.open(io.BytesIO(base64.b64decode(told["heat_map"]))) as heat_map:
        assert (heat_map.format, heat_map.size) == ("PNG", found.picture.size)


def test_any_class_can_be_explained_and_no_other_word(flowers, reviews, picture):
    for label in flowers.classes[:2]:
        assert flowers.explain(picture, label=label).label == label
    for classifier, raw in ((flowers, picture), (reviews, "good")):
        with pytest.raises(InputError, match=f"one of the {len(classifier.classes)} classes"):
            classifier.explain(raw, label="dandelion")


@pytest.mark.parametrize(("planted", "label"), [("splendid", "pos"), ("dreadful", "neg")])
def test_the_word_that_was_planted_decides(planted_words, planted, label):
    found = planted_words.explain(f"The film that I saw with my brother was {planted}. We left at nine.")
    assert found.label == label
    assert max(found.words, key=lambda word: word.weight).text.startswith(planted)


def test_what_speaks_for_one_of_two_classes_speaks_against_the_other(reviews):
    raw = "A wonderful film with a terrible end."
    one, other = (reviews.explain(raw, label=label).words for label in reviews.classes)
    np.testing.assert_allclose([word.weight for word in one], [-word.weight for word in other], atol=1e-5)


def test_a_word_weighs_what_the_class_loses_without_it():
    assert weights("good, but not as good as it was.") == [("good,", 1), ("good", 1)]
    assert weights("It's bad.") == []


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
def test_the_pieces_of_a_text_are_the_text(raw):
    assert all(piece.strip(".!") in ("good", "¡good") for piece, _ in weights(raw))


def test_spaces_and_tags_weigh_nothing(reviews):
    words = reviews.explain("<b>good</b>\n<br />film").to_json()["words"]
    assert [word["text"] for word in words] == ["<b>", "good", "</b>\n<br />", "film"]
    assert [word["weight"] for word in words[::2]] == [0, 0]


def test_a_long_text_is_asked_about_a_bounded_number_of_times():
    asked = []

    def counting(prepared):
        asked.extend(good_ones(prepared))
        return np.array(asked)

    raw = "so " * 900 + "good " + "so " * 900
    found = text.explain(raw, texts(max_words=5000), counting, label="pos")
    assert MAX_SPANS / 2 < len(asked) <= MAX_SPANS + 1
    assert "".join(word.text for word in found.words) == raw
    assert [word.text.split().count("good") for word in found.words if word.weight] == [1]


def test_words_behind_those_that_are_read_are_not_asked_about():
    raw = "good " + "so " * 200 + "good " * 100_000
    assert weights(raw, max_words=100) == [("good", 1)]


def test_a_text_of_a_million_characters_is_read_a_few_times_only():
    asked = []

    def counting(prepared):
        asked.extend(1 for _ in prepared)
        return np.zeros(len(asked))

    raw = "a" * 300_000 + " good " * 50 + "a" * 600_000
    text.explain(raw, texts(), counting, label="pos")
    assert len(asked) <= 1 + max(MIN_SPANS, CHARACTER_BUDGET // len(raw))


def test_explanations_are_the_same_from_many_threads(flowers, reviews, picture):
    for classifier, raw in ((flowers, picture), (reviews, "A wonderful film with a terrible end.")):
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda _, c=classifier, r=raw: c.explain(r).to_json(), range(4)))
        assert all(one == found[0] for one in found)


def test_what_cannot_be_read_cannot_be_explained(flowers, reviews):
    for classifier, raw in ((flowers, b"no picture"), (reviews, " ")):
        for label in (None, classifier.classes[0]):
            with pytest.raises(InputError):
                classifier.explain(raw, label=label)
