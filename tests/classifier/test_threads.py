"""The threads of a loaded classifier: bounded by an argument or by FLOWERML_THREADS, and without effect on answers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flowerml import Classifier
from flowerml.classifier.prediction import Prediction
from flowerml.core.errors import FlowermlError, InputError
from flowerml.engine.parallel import MOST_THREADS, THREADS_VARIABLE, thread_count
from tests.classifier.test_old_classifiers import SAVED, THEN

TEXTS = [text[:length] for text in THEN["texts"] for length in (None, 40, 7)] * 20


@pytest.fixture(autouse=True)
def no_variable(monkeypatch):
    monkeypatch.delenv(THREADS_VARIABLE, raising=False)


def test_all_cores_by_default():
    assert thread_count() == len(os.sched_getaffinity(0))


def test_the_variable_is_the_default(monkeypatch):
    monkeypatch.setenv(THREADS_VARIABLE, " 3 ")
    assert Classifier.load(SAVED).threads == 3
    assert Classifier.load(SAVED, threads=2).threads == 2


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5", str(MOST_THREADS + 1), "9" * 5000, "\x1b[31m", "²"])
def test_a_wrong_variable_is_one_line(monkeypatch, value):
    monkeypatch.setenv(THREADS_VARIABLE, value)
    with pytest.raises(FlowermlError, match=r"^FLOWERML_THREADS: expected a whole number from 1 to 1,024, found ") as e:
        Classifier.load(SAVED)
    assert str(e.value).isprintable() and len(str(e.value)) < 200


@pytest.mark.parametrize("value", [0, -1, True, 1.0, "2", MOST_THREADS + 1])
def test_a_wrong_argument_is_one_line(value):
    with pytest.raises(FlowermlError, match=r"^threads: expected a whole number"):
        Classifier.load(SAVED, threads=value)


def test_answers_do_not_depend_on_threads():
    expected = Classifier.load(SAVED, threads=1).probabilities(TEXTS).tobytes()
    assert all(
        Classifier.load(SAVED, threads=threads).probabilities(TEXTS).tobytes() == expected for threads in (2, 3, 16)
    )


def test_explanations_do_not_depend_on_threads():
    words = [Classifier.load(SAVED, threads=threads).explain(TEXTS[0]).to_json() for threads in (1, 4)]
    assert words[0] == words[1]


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="counts threads in /proc")
@pytest.mark.parametrize("threads", [1, 3])
def test_no_more_threads_than_asked_for(threads):
    """Count the process's threads as the system sees them, ONNX Runtime's included."""
    program = (
        "import os\n"
        "from time import sleep\n"
        "from flowerml import Classifier\n"
        "count = lambda: len(os.listdir('/proc/self/task'))\n"
        f"classifier = Classifier.load({str(SAVED)!r})\n"
        "sleep(0.5)  # until threads of loading have ended\n"
        "before = count()\n"
        "classifier.probabilities(['a text'] * 500)\n"
        "print(before, count())\n"
    )
    output = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, THREADS_VARIABLE: str(threads)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    before, after = map(int, output.split())
    assert 0 <= after - before <= threads


def test_the_command_line_checks_the_variable_first(monkeypatch, tmp_path):
    from typer.testing import CliRunner

    from flowerml.cli.app import app

    monkeypatch.setenv(THREADS_VARIABLE, "many")
    result = CliRunner().invoke(app, ["info", str(tmp_path)])
    assert result.exit_code == 1
    assert "FLOWERML_THREADS: expected a whole number" in result.stderr


def test_an_unread_input_keeps_its_place():
    """The last bits of a text's probability depend on the texts that share its pass through the network."""
    classifier = Classifier.load(SAVED)
    texts = TEXTS[:40]
    unread = [text if number % 5 else InputError("not_a_text", "null") for number, text in enumerate(texts)]
    empty = [text if number % 5 else "" for number, text in enumerate(texts)]
    expected, answers = (list(classifier.predict_each(inputs)) for inputs in (empty, unread))
    assert [isinstance(answer, InputError) for answer in answers] == [number % 5 == 0 for number in range(40)]
    assert [answer for answer in answers if isinstance(answer, Prediction)] == [
        answer for answer in expected if isinstance(answer, Prediction)
    ]
