import random
import tarfile
from pathlib import Path

import pytest

from flowerml.tasks.text import sample


@pytest.fixture(scope="module")
def texts() -> list[str]:
    labels = ("pos", "neg") * 1000
    return [sample.compose(label, rng=random.Random(f"0/{label}/{i}")) for i, label in enumerate(labels)]


def _reviews(archive: Path) -> dict[str, bytes]:
    with tarfile.open(archive) as tar:
        return {entry.name: tar.extractfile(entry).read() for entry in tar}


def test_bytes_depend_on_seed_only(tmp_path):
    for name, seed in (("one", 7), ("two", 7), ("three", 8)):
        sample.write(tmp_path / name, per_class=5, seed=seed)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert not set(_reviews(tmp_path / "one").values()) & set(_reviews(tmp_path / "three").values())
    assert {file.name for file in tmp_path.iterdir()} == {"one", "two", "three"}


def test_review_ignores_sample_size(tmp_path):
    sample.write(tmp_path / "few.tar", per_class=3, seed=0)
    sample.write(tmp_path / "many.tar", per_class=20, seed=0)
    few, many = _reviews(tmp_path / "few.tar"), _reviews(tmp_path / "many.tar")
    assert set(few) == {f"reviews/{label}/{label}_000{i}.txt" for label in ("neg", "pos") for i in (1, 2, 3)}
    assert few.items() < many.items()


def test_review_lengths_vary(texts):
    lengths = sorted(len(text.split()) for text in texts)
    assert lengths[0] < 15 and lengths[-1] > 200
    assert 40 < lengths[len(lengths) // 2] < 80
    assert max(text.count("<br /><br />") for text in texts) >= 3


def test_reviews_are_complete_sentences(texts):
    assert len(set(texts)) > 0.98 * len(texts)
    for text in texts:
        assert not set(text) & set("{}|*_")
        assert text.endswith((".", "!", "?", '"'))


def test_sentiment_words_in_both_classes(texts):
    for word in ("good", "bad", "funny", "boring"):
        counts = [sum(word in text for text in texts[start::2]) for start in (0, 1)]
        assert min(counts) > 0.5 * max(counts)


def test_unknown_label_names_labels():
    with pytest.raises(ValueError, match=r"'good'.*pos, neg"):
        sample.compose("good", rng=random.Random(0))
