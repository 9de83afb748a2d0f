"""What `pip install flowerml` can do, and what a command says that needs an extra."""

import re
import subprocess
import sys

import pytest

from flowerml.cli import extras
from tests.support.base_install import PROJECT
from tests.support.project import REPOSITORY

CLASSIFIER = str(REPOSITORY / "tests/classifier/saved_by_0_1_0")


def run(*arguments, extras=""):
    """Run `flowerml` in a process that can import only what pip installs with these extras."""
    command = [sys.executable, "-m", "tests.support.base_install", extras, *map(str, arguments)]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120)


def test_base_predicts_a_folder(tmp_path):
    for name in ("fine", "dull"):
        (tmp_path / f"{name}.txt").write_text(f"a {name} film")
    result = run("predict", tmp_path, "--model", CLASSIFIER, "--json")
    assert result.returncode == 0 and result.stdout.count('"top"') == 2


@pytest.mark.extended
def test_base_has_help_version_and_info():
    assert "predict" in run("--help").stdout
    assert re.fullmatch(r"flowerml \d+\.\d+\.\d+\n", run("--version").stdout)
    assert "neg" in run("info", CLASSIFIER).stdout


@pytest.mark.extended
def test_base_starts_a_project(tmp_path):
    result = run("init", tmp_path / "demo", "--image")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "demo/params.yaml").is_file()


@pytest.mark.extended
@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (("train", "sample", "--kind", "text"), "train"),
        (("predict", "x", "--model", "models:/a@b"), "serve"),
        (("serve", CLASSIFIER), "serve"),
        (("web", "--model", CLASSIFIER), "web"),
    ],
)
def test_commands_name_their_extra(arguments, extra):
    result = run(*arguments)
    assert result.returncode == 1 and result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert result.stderr.endswith(f"pip install 'flowerml[{extra}]'\n")


@pytest.mark.extended
def test_serve_scores_without_torch(tmp_path):
    for name in ("pos/a", "pos/b", "neg/a", "neg/b"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.txt").write_text(f"a film, {name}")
    assert "accuracy" in run("evaluate", CLASSIFIER, tmp_path, extras="serve").stdout


def test_message_is_one_line():
    assert extras.message("train", "torch") == "`flowerml train` needs torch; run: pip install 'flowerml[train]'"


def test_extras_of_commands_exist():
    assert {*extras.OF_COMMANDS.values()} <= {*PROJECT["optional-dependencies"]}


@pytest.mark.parametrize(
    ("module", "command", "extra"),
    [
        ("sklearn", "evaluate", "serve"),
        ("pyarrow", "train", "train"),
        ("ray", "score", "ray"),
        ("tokenizers", "predict", "texts"),
        ("part_of_mlflow", "models", "serve"),
    ],
)
def test_extra_has_the_package(module, command, extra):
    assert extras.extra_with(extras.PACKAGES.get(module, module), command) == extra
