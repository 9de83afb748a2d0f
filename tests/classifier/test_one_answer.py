"""One answer in the caller's thread, and explanations that end early: what a server with its own threads needs."""

import gc
import threading
import weakref

import pytest

from flowerml import Classifier
from flowerml.core.errors import InputError
from tests.classifier.test_old_classifiers import SAVED, THEN

TEXT = THEN["texts"][0]


class OutOfTime(Exception):
    """What a check raises."""


@pytest.fixture(scope="module")
def classifier():
    return Classifier.load(SAVED, threads=2)


def test_one_answer_has_the_same_bits(classifier):
    for text in THEN["texts"]:
        assert [classifier.answer_one(text, top_k=2)] == list(classifier.predict_each([text], top_k=2))


def test_one_answer_needs_no_other_thread():
    classifier = Classifier.load(SAVED)
    before = threading.active_count()
    classifier.answer_one(TEXT)
    assert threading.active_count() == before


def test_an_unreadable_input_is_its_answer(classifier):
    answer = classifier.answer_one("")
    assert isinstance(answer, InputError) and answer.code == "empty_text" and answer.__traceback__ is None


@pytest.mark.parametrize("top_k", [0, True, "2", None])
def test_one_answer_checks_top_k(classifier, top_k):
    with pytest.raises(InputError) as error:
        classifier.answer_one(TEXT, top_k=top_k)
    assert error.value.code == "bad_top_k"


def test_an_explanation_calls_its_check(classifier):
    calls = []
    checked = classifier.explain(TEXT, check=lambda: calls.append(threading.current_thread()))
    assert checked == classifier.explain(TEXT)
    assert len(calls) > len(checked.words) / 2 and set(calls) == {threading.current_thread()}


def test_a_check_ends_an_explanation(classifier, monkeypatch):
    passes, calls = [], []
    run = classifier._graph.run
    monkeypatch.setattr(classifier._graph, "run", lambda inputs: passes.append(1) or run(inputs))

    def check():
        calls.append(1)
        if len(calls) > 20:
            raise OutOfTime

    with pytest.raises(OutOfTime):
        classifier.explain(TEXT * 20, label=classifier.classes[0], check=check)
    assert len(passes) < 6  # of 48


def test_a_classifier_goes_with_its_last_user():
    """A server swaps versions: memory and threads of the old one are not to wait for the garbage collector."""
    gc.disable()
    try:
        classifier = Classifier.load(SAVED)
        classifier.predict([TEXT])
        reference = weakref.ref(classifier)
        del classifier
        assert reference() is None
    finally:
        gc.enable()
