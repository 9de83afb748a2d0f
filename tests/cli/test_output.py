"""Whatever names and messages a stranger chose, a terminal gets only characters that it shows."""

import json
import shutil
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from flowerml.classifier.prediction import ClassProbability, Prediction
from flowerml.cli import check, models, output, predict
from flowerml.cli.app import app
from flowerml.cli.inputs import Input
from flowerml.core.errors import InputError
from flowerml.core.urls import print_exception
from flowerml.registry.client import Version
from tests.classifier.test_old_classifiers import SAVED
from tests.support.properties import few

COMMANDS = "\x1b[2J\x1b]0;title\x07\x9b1m\x7f\r\x08\u202e\u2066\u2069\u200b\ufeff\u2028\x85\udcff\ud83d\U000e0041"
VALID = COMMANDS.replace("\udcff", "").replace("\ud83d", "")  # Unicode; a classifier with others is refused
HOSTILE = st.text(st.characters(exclude_categories=()) | st.sampled_from(COMMANDS), max_size=30)
NORMAL = "Größe 日本語 fleur\u00a0! 花\u3000園 👍 ½ — “x” \\n"


def shown(text: str) -> bool:
    return all(c.isprintable() or c == "\n" or unicodedata.category(c) == "Zs" for c in text)


def show_all(hostile: str) -> None:
    """Print with all that prints what a stranger chose."""
    top = tuple(ClassProbability(hostile, name, 0.5) for name in (hostile + "x", "b"))
    answers = [Prediction(top, known) for known in (True, False)]
    output.say(hostile)
    output.print_error(hostile)
    output.print_text(hostile)
    output.json_line({hostile: [hostile]})
    output.table((hostile, "b"), [(hostile, hostile)], title=hostile)
    predict._print_one(hostile, answers[0])
    predict._print_many([(hostile, answer) for answer in answers])
    predict._print_error(Input(hostile, hostile), InputError("code", hostile))
    version = Version(hostile, 1, (hostile,), 0.5, hostile, hostile, hostile, 0.0)
    output.table([""] * 7, [models._row(version)])
    finding = {"name": hostile, "severity": hostile, "count": 1, "text": hostile, "ids": [hostile]}
    check._print_findings({"findings": [finding]}, Path(hostile))
    print_exception(ValueError, ValueError(hostile), None)


@few
@given(hostile=HOSTILE)
def test_all_that_is_printed(hostile, capsys):
    show_all(hostile)
    captured = capsys.readouterr()
    assert shown(captured.out), ascii(captured.out)
    assert shown(captured.err), ascii(captured.err)


def test_normal_text_is_unchanged(capsys):
    output.print_text(f"{NORMAL}\nb")
    output.say(f"{NORMAL}\nb")
    output.json_line(NORMAL)
    captured = capsys.readouterr()
    assert captured.out == f"{NORMAL}\nb\n{json.dumps(NORMAL, ensure_ascii=False)}\n"
    assert captured.err == f"{NORMAL}\nb\n"


@few
@given(hostile=HOSTILE)
def test_json_keeps_its_value(hostile, capsys):
    output.json_line({hostile: hostile})
    line = capsys.readouterr().out
    assert shown(line) and line.count("\n") == 1
    assert json.loads(line) == json.loads(json.dumps({hostile: hostile}))


@pytest.fixture
def hostile_classifier(tmp_path):
    """Return a classifier whose classes, names, parameters and folder are hostile."""
    folder = Path(shutil.copytree(SAVED, tmp_path / f"c{VALID}"))
    description = json.loads((folder / "classifier.json").read_text())
    description["classes"] = [f"{label}{VALID}" for label in description["classes"]]
    description["names"] = {label: f"{label}{VALID}name" for label in description["classes"]}
    description["parameters"] |= {f"train.{VALID}": VALID}
    description["trained"] |= {VALID: VALID}
    (folder / "classifier.json").write_text(json.dumps(description))
    return folder


@pytest.mark.parametrize("options", [(), ("--json",)])
@pytest.mark.parametrize("command", ["predict", "info"])
def test_commands_with_a_hostile_classifier(hostile_classifier, tmp_path, command, options):
    path = tmp_path / f"a{VALID}.txt"
    path.write_text("a fine film")
    arguments = {"predict": [str(path), "b\x1b", "--model"], "info": []}[command]
    result = CliRunner().invoke(app, [command, *arguments, str(hostile_classifier), *options])
    assert result.exit_code == 0, result.output
    assert result.stdout and shown(result.stdout) and shown(result.stderr)


@pytest.mark.parametrize(
    "arguments", [("predict", f"--{COMMANDS}"), (COMMANDS,), ("info", COMMANDS), ("info", "a", COMMANDS)]
)
def test_messages_about_arguments(arguments):
    result = CliRunner().invoke(app, [argument.replace("\0", "") for argument in arguments])
    assert result.exit_code != 0
    assert result.stderr and shown(result.stderr), ascii(result.stderr)
