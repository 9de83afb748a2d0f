"""The whole pipeline, run by DVC in a small copy of the project."""

import json
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from mlflow import MlflowClient

from flowerml import Classifier
from flowerml.core.errors import InputError, ModelError
from flowerml.data.examples import Examples
from flowerml.evaluation.evaluation import evaluate
from tests.support.project import Project
from tests.support.recorded_runs import key_of

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def client(reproduced):
    return MlflowClient(f"sqlite:///{reproduced.folder}/mlflow.db")


@pytest.fixture(scope="module")
def runs(client):
    experiment = client.get_experiment_by_name("flowers")
    return {key_of(run): run for run in client.search_runs([experiment.experiment_id])}


@pytest.fixture(scope="module")
def classifier(reproduced):
    return Classifier.load(reproduced.folder / "models/flowers/classifier")


@pytest.fixture(scope="module")
def test_examples(reproduced):
    return list(Examples(reproduced.folder / "data/flowers/examples.parquet").of("test"))


def dvc_status(project: Project) -> str:
    return project.run("dvc", "status").stdout


def test_second_repro_runs_nothing(reproduced):
    assert "Running stage" not in reproduced.run("dvc", "repro").stdout


def test_train_parameter_keeps_earlier_stages(reproduced):
    before = (reproduced.folder / "params.yaml").read_text()
    reproduced.set({"flowers.train.learning_rate": 0.01})
    stale = dvc_status(reproduced)
    (reproduced.folder / "params.yaml").write_text(before)
    assert "train@flowers" in stale
    assert not any(stage in stale for stage in ("download@flowers", "extract@flowers", "encode@flowers"))


def test_network_module_makes_train_stale(reproduced):
    module = reproduced.folder / "flowerml/tasks/image/networks/__init__.py"
    before = module.read_text()
    module.write_text(before + "\n# changed\n")
    stale = dvc_status(reproduced)
    module.write_text(before)
    assert "train@flowers" in stale
    assert "encode@flowers" not in stale


@pytest.mark.parametrize(
    ("changed", "stale_stage"),
    [("flowerml/tasks/text/networks/lstm.py", "train@reviews"), ("flowerml/tasks/text/reading.py", "extract@reviews")],
)
def test_text_module_keeps_flowers_fresh(reproduced, changed, stale_stage):
    module = reproduced.folder / changed
    before = module.read_text()
    module.write_text(before + "\n# changed\n")
    stale = dvc_status(reproduced)
    module.write_text(before)
    assert stale_stage in stale
    assert "flowers" not in stale


def test_reviews_parameters_keep_flowers_fresh(reproduced):
    before = (reproduced.folder / "params.yaml").read_text()
    reproduced.set({"reviews.encode.vocab_size": 100, "reviews.data.seed": 1})
    stale = dvc_status(reproduced)
    (reproduced.folder / "params.yaml").write_text(before)
    assert "download@reviews" in stale
    assert "flowers" not in stale


def test_reported_reviews_metrics_hold(reproduced):
    folder = reproduced.folder
    reported = json.loads((folder / "reports/reviews/metrics.json").read_text())
    assert {"accuracy", "loss", "macro_f1", "roc_auc", "ece"} <= set(reported)
    examples = list(Examples(folder / "data/reviews/examples.parquet").of("test"))
    result = evaluate(Classifier.load(folder / "models/reviews/classifier"), examples, batch_size=5)
    assert result.metrics(top_k=1) == pytest.approx(reported, abs=1e-6)
    assert reported["accuracy"] > 0.55  # of two classes, after two epochs on a hundred texts


def test_unknown_words_get_an_answer(reproduced):
    classifier = Classifier.load(reproduced.folder / "models/reviews/classifier")
    strange, empty, plain = classifier.predict_each(["xyzzy", " ", "It was wonderful."])
    assert sum(candidate.probability for candidate in strange.top) == pytest.approx(1)
    assert isinstance(empty, InputError) and empty.code == "empty_text"
    assert {candidate.name for candidate in plain.top} == {"positive", "negative"}


def test_reported_flowers_metrics_hold(reproduced, classifier, test_examples):
    reported = json.loads((reproduced.folder / "reports/flowers/metrics.json").read_text())
    assert evaluate(classifier, test_examples, batch_size=7).metrics(top_k=5) == pytest.approx(reported, abs=1e-6)
    assert reported["accuracy"] > 0.3  # ten species


def test_every_class_is_in_every_split(reproduced):
    table = pq.read_table(reproduced.folder / "data/flowers/examples.parquet", columns=["split", "label"])
    counts = table.to_pandas().value_counts().unstack()
    assert counts.loc["train"].tolist() == [10] * 10
    assert counts.loc["valid"].tolist() == counts.loc["test"].tolist() == [2] * 10


def test_path_bytes_and_image_agree(classifier, test_examples, tmp_path):
    from PIL import Image

    path = tmp_path / "flower.jpg"
    path.write_bytes(test_examples[0].raw)
    answers = classifier.predict([path, str(path), path.read_bytes(), Image.open(path)], top_k=3)
    assert len(answers[0].top) == 3
    assert all(answer == answers[0] for answer in answers)


def test_single_input_is_a_type_error(classifier):
    with pytest.raises(TypeError, match="expected a list of inputs"):
        classifier.predict("flower.jpg")


def test_folder_without_classifier_is_refused(tmp_path, reproduced):
    for text in (None, "[]", "{", '{"format": 0}'):
        if text is not None:
            (tmp_path / "classifier.json").write_text(text)
        with pytest.raises(ModelError, match=r"not a saved classifier|this version reads 1"):
            Classifier.load(tmp_path)
    (tmp_path / "classifier.json").write_text(
        (reproduced.folder / "models/flowers/classifier/classifier.json").read_text()
    )
    with pytest.raises(ModelError, match=r"network\.onnx cannot be read"):
        Classifier.load(tmp_path)


def test_unreadable_input_spares_the_others(classifier, test_examples):
    raws = [test_examples[0].raw, b"no picture", test_examples[1].raw]
    first, broken, last = classifier.predict_each(raws)
    assert isinstance(broken, InputError)
    assert [first, last] == classifier.predict([raws[0], raws[2]])


def test_top_k_is_within_one_and_classes(classifier, test_examples):
    (answer,) = classifier.predict([test_examples[0].raw], top_k=99)
    assert len(answer.top) == 10
    assert sum(candidate.probability for candidate in answer.top) == pytest.approx(1)
    with pytest.raises(InputError, match="from 1 to 10"):
        classifier.predict([test_examples[0].raw], top_k=0)


def test_trial_is_a_run_under_the_search(runs):
    parent = runs["search"]
    trials = [run for name, run in runs.items() if name.startswith("trial")]
    assert len(trials) == 3
    for run in trials:
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert run.info.status == "FINISHED"
        assert {"train.learning_rate", "data.source", "encode.backbone"} <= set(run.data.params)
        assert {"data_digest", "git_commit"} <= set(run.data.tags)


def test_parent_run_names_the_best_trial(runs):
    parent = runs["search"]
    best = runs[f"trial {parent.data.tags['best_trial']}"]
    assert parent.data.tags["best_run_id"] == best.info.run_id
    assert parent.data.params == best.data.params
    scores = [run.data.metrics["best_valid_accuracy"] for name, run in runs.items() if name.startswith("trial")]
    assert parent.data.metrics["best_valid_accuracy"] == max(scores)


def test_every_epoch_is_logged(client, runs):
    history = client.get_metric_history(runs["trial 0"].info.run_id, "valid_accuracy")
    assert [metric.step for metric in history] == [1, 2, 3, 4]
    assert max(metric.value for metric in history) == runs["trial 0"].data.metrics["best_valid_accuracy"]


def test_first_version_is_promoted(client, runs):
    version = client.get_model_version("flowers", "1")
    assert version.tags["verdict"] == "promoted"
    assert version.tags["reason"] == "there was no champion to compare with"
    assert float(version.tags["accuracy"]) == runs["export"].data.metrics["accuracy"]


@pytest.mark.extended
def test_experiment_faces_the_champion(reproduced, client):
    reproduced.run("dvc", "exp", "run", "--temp", "export@flowers", "-S", "flowers.train.search.trials=1")
    assert "flowers.train.search.trials" in reproduced.run("dvc", "exp", "show", "--csv").stdout
    newest = max(client.search_model_versions("name='flowers'"), key=lambda version: int(version.version))
    assert int(newest.version) == 2
    first = float(client.get_model_version("flowers", "1").tags["accuracy"])
    promoted = newest.tags["verdict"] == "promoted"
    accuracy = float(newest.tags["accuracy"])
    assert newest.tags["reason"].startswith(
        "better: " if accuracy > first else "as good: " if accuracy == first else "worse: "
    )
    assert newest.tags["gate.accuracy"] == ("passed" if accuracy >= first else "failed")
    champion = client.get_model_version_by_alias("flowers", "champion")
    assert int(champion.version) == (2 if promoted else 1)


@pytest.fixture
def with_real_champion(reproduced, tmp_path):
    """Return a copy of the project, whose champion was trained on real data; and a client of its registry."""
    project = reproduced.copy(tmp_path / "project")
    client = MlflowClient(f"sqlite:///{project.folder}/mlflow.db")
    champion = client.get_model_version_by_alias("flowers", "champion").version
    client.set_model_version_tag("flowers", champion, "data_source", "their/pictures")
    client.set_model_version_tag("flowers", champion, "accuracy", "0")
    return project, client


def export_again(project, client, *arguments):
    """Export the same classifier by an experiment; return the version, and the one that has the alias."""
    project.run("dvc", "exp", "run", "export@flowers", *arguments)
    version = max(client.search_model_versions("name='flowers'"), key=lambda version: int(version.version))
    return version, client.get_model_version_by_alias("flowers", "champion").version


@pytest.mark.extended
@pytest.mark.parametrize("where", [[], ["--temp"]], ids=["workspace", "temp"])
def test_experiment_spares_real_data(with_real_champion, where):
    version, champion = export_again(*with_real_champion, *where, "-S", "flowers.export.gate.margin=0.03")
    assert version.tags["verdict"] == "not promoted" and champion != version.version
    assert version.tags["reason"].endswith(
        "but this is an experiment, and export.promote is repro: "
        f"`flowerml promote flowers {version.version}` promotes it"
    )


@pytest.mark.extended
def test_experiment_may_take_the_alias(with_real_champion):
    version, champion = export_again(*with_real_champion, "-S", "flowers.export.promote=always")
    assert version.tags["verdict"] == "promoted" and champion == version.version


def test_dvc_shows_metrics_and_plots(reproduced):
    metrics = json.loads(reproduced.run("dvc", "metrics", "show", "--json").stdout)
    assert "reports/flowers/metrics.json" in metrics[""]["data"]
    page = Path(reproduced.run("dvc", "plots", "show").stdout.strip().removeprefix("file://")).read_text()
    assert all(f'"{column}"' in page for column in ("predicted", "measure", "best_valid_accuracy", "f1"))


def test_no_pickle_is_written(reproduced):
    files = {path for folder in ("models", "mlruns", "data") for path in (reproduced.folder / folder).rglob("*")}
    assert any(path.name == "network.onnx" for path in files)
    assert not [path for path in files if path.suffix in (".pkl", ".pickle", ".pt", ".pth")]


def test_tables_have_all_classes_and_trials(reproduced):
    reports = reproduced.folder / "reports/flowers"
    per_class = pd.read_csv(reports / "per_class.csv")
    assert per_class["support"].sum() == len(pd.read_csv(reports / "predictions.csv")) == 20
    assert len(pd.read_csv(reports / "trials.csv")) == 3


@pytest.mark.extended
def test_mlflow_run_finds_all_up_to_date(reproduced):
    process = reproduced.run("mlflow", "run", ".", "--env-manager", "local")
    assert "Data and pipelines are up to date" in process.stdout + process.stderr
