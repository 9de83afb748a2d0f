"""`flowerml register`, and what a registered version says of itself."""

import contextlib
import filecmp
import json
import shutil
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from typer.testing import CliRunner

from flowerml import Classifier
from flowerml.cli.app import app
from flowerml.core.errors import ModelError
from flowerml.data.examples import Example, Examples, write
from flowerml.registry import card, register
from flowerml.registry.gate import Candidate, Decision, Rule
from flowerml.registry.locate import resolve_model
from tests.support.registered import registry, text_classifier

TEXTS = {"neg": "A dull film.", "pos": "A splendid film."}


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def registered(tmp_path_factory):
    """Return a folder with a registry in which a bare folder was registered twice, and the output of the first time."""
    folder = tmp_path_factory.mktemp("registry")
    text_classifier(folder / "theirs")
    with registry(folder):
        results = [run("register", "theirs", "films") for _ in range(2)]
    assert [result.exit_code for result in results] == [0, 0], results[0].output
    return folder, results[0].stdout


@pytest.fixture
def client(registered):
    with registry(registered[0]):
        yield MlflowClient()


def logged(client, number):
    version = client.get_model_version("films", number)
    return register.Logged("films", number, version.source.removeprefix("models:/"))


def test_bare_folder_is_registered_and_not_judged(registered, client):
    version = client.get_model_version("films", "1")
    assert version.tags["verdict"] == "not judged" and "accuracy" not in version.tags
    assert version.tags["pipeline"] == "reviews"
    assert client.get_registered_model("films").aliases == {}
    assert version.description.startswith("v1\n\n# films, version 1")
    assert "`flowerml promote films 1 --force` promotes it anyway" in registered[1]
    assert "flowerml serve models:/films/1" in registered[1]


def test_bare_version_has_a_page(client):
    (model, *_) = client.search_logged_models(["1"], order_by=[{"field_name": "creation_timestamp"}])
    (version,) = json.loads(model.tags["mlflow.modelVersions"])
    assert version["name"] == "films" and model.tags["mlflow.note.content"].startswith("**films v")
    assert client.get_registered_model("films").description.startswith("Classifiers of texts into 2 classes: neg, pos")


def test_version_answers_without_the_folder(registered, client, monkeypatch):
    monkeypatch.chdir(registered[0])
    with resolve_model("models:/films/2") as folder:
        assert Classifier.load(folder).predict(["A film."])[0].top[0].label in TEXTS


def test_files_of_others_are_not_handed_on(tmp_path):
    folder = text_classifier(tmp_path / "classifier").folder
    (tmp_path / "key").write_text("secret")
    names = {path.name for path in folder.iterdir()}
    (folder / "notes.txt").symlink_to(tmp_path / "key")
    (folder / "lost.txt").symlink_to(tmp_path / "nowhere")
    with registry(tmp_path):
        assert run("register", "classifier", "films").exit_code == 0
        with resolve_model("models:/films/1") as handed_on:
            assert {path.name for path in handed_on.iterdir()} == names


def test_copy_is_the_same_bytes(registered, client, tmp_path):
    copies, model = [], Path("models/films/mlflow")
    classifier = Classifier.load(registered[0] / "theirs")
    for number in ("1", "2"):
        version = client.get_model_version("films", number)
        facts = card.facts(
            classifier,
            None,
            source="flowers102",
            reports=None,
            name="films",
            version=number,
            tags={**version.tags, "git_commit": number * 40, "git_dirty": "true"},
        )
        (tmp_path / number).mkdir()
        with contextlib.chdir(tmp_path / number):
            register.copy(logged(client, number), model, facts)
        folder = tmp_path / number / model
        copies.append({path.relative_to(folder): path for path in folder.rglob("*")})
    different = [name for name, path in copies[0].items() if path.is_file() and not filecmp.cmp(path, copies[1][name])]
    assert copies[0].keys() == copies[1].keys() and different == []
    loaded = mlflow.pyfunc.load_model(str(tmp_path / "1" / model))
    assert loaded.predict([{"text": "A film."}])[0]["model"]["version"] is None


def test_files_that_are_gone_are_those_of_the_copy_in_models(registered, client, tmp_path, monkeypatch, capsys):
    shutil.copytree(registered[0] / "mlruns", tmp_path / "away")
    register.copy(logged(client, "1"), Path("models/films/mlflow"))
    shutil.rmtree(registered[0] / "mlruns")
    try:
        with resolve_model("models:/films/1") as folder:
            assert folder == Path("models/films/mlflow/artifacts/classifier")
        assert "the registry has lost its files" in capsys.readouterr().err
        shutil.rmtree("models")
        with pytest.raises(ModelError, match="models:/films/1: "), resolve_model("models:/films/1"):
            pass
    finally:
        shutil.copytree(tmp_path / "away", registered[0] / "mlruns", dirs_exist_ok=True)


@pytest.mark.parametrize("name", ["", " ", "a/b", "a:b", "a.b", "50%", "a'b", "x" * 300, "a\nb"])
def test_bad_name_is_refused_before_anything_is_logged(tmp_path, name):
    with registry(tmp_path):
        text_classifier(tmp_path / "c")
        result = run("register", "c", name)
    assert result.exit_code == 1 and "is no name for a registered model" in result.stderr
    assert not (tmp_path / "mlruns").exists()


def test_folder_without_a_classifier(tmp_path):
    with registry(tmp_path):
        result = run("register", "nothing", "films")
    assert result.exit_code == 1 and "does not exist" in result.stderr


@pytest.mark.parametrize(
    ("accuracy", "rules", "title"),
    [
        (0.956, [Rule("accuracy", True, 0.956, 0.953, "")], "v2 · test 0.956 · +0.003"),
        (0.956, [], "v2 · test 0.956"),
        (None, [], "v2"),
    ],
)
def test_title_tells_versions_apart(accuracy, rules, title):
    new = Candidate("2", accuracy, "a", ("x",), None, None, 1)
    assert register.title(new, Decision(True, "", tuple(rules))) == title


@pytest.mark.extended
def test_folder_with_its_examples_is_evaluated_and_promoted(tmp_path):
    with registry(tmp_path):
        examples = Path(".flowerml/data/reviews/examples.parquet")
        rows = [
            Example(f"{split}{n}", split, label, f"{text} {n}")
            for split in ("train", "valid", "test")
            for n in range(4)
            for label, text in TEXTS.items()
        ]
        write(examples, rows, raw=str)
        text_classifier(tmp_path / "theirs", digest=Examples(examples).digest())
        result = run("register", "theirs", "films ü")
        assert result.exit_code == 0, result.output
        client = MlflowClient()
        version = client.get_model_version_by_alias("films ü", "champion")
        assert version.tags["test_digest"] == Examples(examples).digest("test")
        (model,) = client.search_logged_models(["1"], filter_string="metrics.accuracy >= 0")
        metric = next(metric for metric in model.metrics if metric.key == "accuracy")
        assert (metric.dataset_name, metric.value) == ("reviews test", float(version.tags["accuracy"]))
        assert {artifact.path for artifact in client.list_artifacts(version.run_id, "reports")} >= {
            "reports/report.html"
        }
        assert "was registered from a folder" in run("reproduce", "1", "--name", "films ü").stderr
        shutil.rmtree("mlruns")
        assert "the files of its run are gone" in run("reproduce", "1", "--name", "films ü").stderr
