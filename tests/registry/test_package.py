"""The code that a registered model carries: two files, from which MLflow loads the model wherever it is."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from flowerml.registry.package import ARCHIVE, write_package
from flowerml.registry.register import Logged, copy
from tests.support.registered import register_version, registry, text_classifier

TEXTS = ["A good film.", "", "Never dull."]
MOST_FILES = 15  # of a version; each is a request to S3
PROGRAM = """
import json, shutil, sys, traceback
import mlflow, pandas
first, second = (mlflow.pyfunc.load_model(folder) for folder in sys.argv[1:3])
import flowerml
frame = pandas.DataFrame({"text": json.load(sys.stdin)})
answers = [first.predict(frame), second.predict(frame)]
try:
    flowerml.Classifier.load("missing")
except ValueError:
    trace = traceback.format_exc()
shutil.rmtree(sys.argv[1])
answers.append(first.predict(frame, params={"explain": True}))
print(json.dumps([flowerml.__file__, answers, trace]))
"""


@pytest.fixture(scope="module")
def logged(tmp_path_factory) -> tuple[Path, Logged]:
    """Return the folder of a registry, in which version 1 of reviews is."""
    folder = tmp_path_factory.mktemp("registry")
    classifier = text_classifier(folder / "reviews/classifier")
    with registry(folder), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "dont_write_bytecode", False)  # else no byte code could get into the version
        version = register_version(classifier, TEXTS[0], "reviews")
        for name in ("one", "two"):
            copy(version, folder / name)
    return folder, version


def test_the_same_code_gives_the_same_bytes(tmp_path):
    contents = []
    for name in "ab":
        (tmp_path / name).mkdir()
        package = write_package(tmp_path / name)
        assert sorted(path.name for path in package.iterdir()) == ["__init__.py", ARCHIVE]
        contents.append([path.read_bytes() for path in sorted(package.iterdir())])
    assert contents[0] == contents[1]


def test_a_version_has_few_files(logged):
    assert len([path for path in (logged[0] / "one").rglob("*") if path.is_file()]) < MOST_FILES


def test_two_models_answer_in_one_process(logged, tmp_path):
    folder, _ = logged
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder / "one"), str(folder / "two")],
        input=json.dumps(TEXTS),
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    file, (first, second, after), trace = json.loads(done.stdout.splitlines()[-1])
    assert file == str(folder / "one/code/flowerml/__init__.py")
    assert first == second
    assert [answer["error"]["code"] for answer in first] == [None, "empty_text", None]
    # The folder is gone, as a temporary one may be: nothing is imported later than the first answer.
    assert [answer["top"] for answer in after] == [answer["top"] for answer in first]
    assert after[0]["explanation"]["words"]
    assert "files.read_version(" in trace, "a stack trace shows lines of the archive's modules"
