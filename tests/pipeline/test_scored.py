"""Scoring a split on workers gives the bits of one process; the cuts are where it would begin a pass."""

import numpy as np
import pytest

from flowerml import Classifier
from flowerml.core.errors import InputError
from flowerml.data.examples import Example, Examples, write
from flowerml.engine.executors import Place, local
from flowerml.pipeline import scored
from flowerml.pipeline.evaluate import PROPERTIES
from tests.support.project import REPOSITORY

MODEL = REPOSITORY / "tests/classifier/saved_by_0_1_0"  # of texts, in batches that pad to the longest
SPLITS = ("train", "test", "test", "valid")


def table(folder, *, empty=None):
    """Return 2,400 texts of different lengths, half of them in test; `empty` is the number of an unreadable one."""
    texts = (f"good film {number} {'dull ' * (number * 7 % 40)}" if number != empty else "" for number in range(2400))
    examples = (Example(f"{n}.txt", SPLITS[n % 4], "pos", text) for n, text in enumerate(texts))
    write(folder / "examples.parquet", examples, raw=str)
    return Examples(folder / "examples.parquet")


@pytest.fixture(autouse=True)
def no_slow_imports(monkeypatch):
    """Start workers without torch, which other tests may have imported here: a process that only scores has none."""
    monkeypatch.setattr(local, "SLOW_IMPORTS", ())


@pytest.fixture(scope="module")
def classifier():
    return Classifier.load(MODEL)


def scores(classifier, examples, **options):
    return scored.scores(classifier, examples, "test", **options)


@pytest.mark.parametrize("batch_size", [7, pytest.param(32, marks=pytest.mark.extended)])
def test_workers_give_the_bits_of_one_process(tmp_path, monkeypatch, classifier, batch_size):
    examples = table(tmp_path)
    alone = scores(classifier, examples, batch_size=batch_size, describe=PROPERTIES)
    direct = classifier.scored((example.raw for example in examples.of("test")), batch_size=batch_size)[0]
    assert np.array_equal(alone.probabilities, direct)
    monkeypatch.setenv("FLOWERML_WORKERS", "2")
    together = scores(classifier, examples, batch_size=batch_size, describe=PROPERTIES)
    assert together.keys == alone.keys == list(examples.keys("test")) and len(alone.keys) == 1200
    assert np.array_equal(together.probabilities, alone.probabilities)
    assert together.properties == alone.properties and "words" in str(alone.properties[0])


@pytest.mark.extended
def test_some_of_a_split_are_scored(tmp_path, monkeypatch, classifier):
    examples = table(tmp_path)
    monkeypatch.setattr(scored, "FEW", 10)
    wanted = {key.id for key in list(examples.keys("test"))[::3]}
    alone = scores(classifier, examples, where=lambda key: key.id in wanted)
    monkeypatch.setenv("FLOWERML_WORKERS", "2")
    together = scores(classifier, examples, where=lambda key: key.id in wanted)
    assert {key.id for key in together.keys} == wanted
    assert np.array_equal(together.probabilities, alone.probabilities)


def test_unreadable_example_is_an_input_error_on_workers_too(tmp_path, monkeypatch, classifier):
    examples = table(tmp_path, empty=1201)
    monkeypatch.setenv("FLOWERML_WORKERS", "2")
    with pytest.raises(InputError) as caught:
        scores(classifier, examples)
    assert caught.value.code == "empty_text"


def test_threads_of_a_worker(monkeypatch):
    monkeypatch.setenv("FLOWERML_THREADS", "6")
    assert Place("ray", None, 3).threads_of_worker == 6
    monkeypatch.delenv("FLOWERML_THREADS")
    monkeypatch.setattr("flowerml.engine.executors.place.thread_count", lambda: 8)
    assert Place("ray", None, 3).threads_of_worker == 1
    assert [Place("local", None, workers).threads_of_worker for workers in (2, 3, 20)] == [4, 2, 1]
