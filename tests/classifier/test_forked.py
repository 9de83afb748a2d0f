"""A loaded classifier answers in a process that was forked from its own."""

import os
import shutil
import signal
from pathlib import Path

import pytest

from flowerml import Classifier
from tests.classifier.test_old_classifiers import SAVED, THEN

SECONDS = 30


def answers_of_child(classifier: Classifier) -> bytes:
    """Return the bytes of the probabilities that a forked process computes; a child that hangs is ended."""
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        try:
            signal.alarm(SECONDS)
            os.write(writer, classifier.probabilities(THEN["texts"]).tobytes())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        content = pipe.read()
    _, status = os.waitpid(child, 0)
    assert status == 0, "the child hangs or fails"
    return content


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("answered", [True, False])
def test_a_child_answers_the_same(answered, threads):
    classifier = Classifier.load(SAVED, threads=threads)
    if answered:
        classifier.probabilities(THEN["texts"])
    children = [answers_of_child(classifier) for _ in range(3)]
    assert children == [classifier.probabilities(THEN["texts"]).tobytes()] * 3


def test_a_child_reads_a_deleted_folder(tmp_path):
    folder = Path(shutil.copytree(SAVED, tmp_path / "c"))
    classifier = Classifier.load(folder)
    expected = classifier.probabilities(THEN["texts"]).tobytes()
    shutil.rmtree(folder)
    assert answers_of_child(classifier) == expected
