"""The report page: complete, readable, and safe to open."""

import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from flowerml.classifier.calibration import Calibration, softmax
from flowerml.cli.app import app
from flowerml.evaluation import report
from flowerml.evaluation.evaluation import Evaluation
from flowerml.tasks.image.explanation import Explanation as HeatMap
from flowerml.tasks.text.explanation import Explanation as Words
from flowerml.tasks.text.explanation import Word

HOSTILE = '<script src="https://example.com/x.js">alert("1")</script><img src=x onerror=alert(1)>'
OUTSIDE = re.compile(
    r"""(?:src|href|action|data|srcset|poster)\s*=\s*(?!["']?(?:data:image/|#))|url\(|@import|<script"""
)


def random_evaluation(count=200, classes=4, *, names=None, served=False, sharp=2.0, ids=None):
    generator = np.random.default_rng(0)
    targets = generator.integers(classes, size=count)
    probabilities = softmax(generator.normal(size=(count, classes)) + sharp * np.eye(classes)[targets])
    labels = tuple(f"{number:03}" for number in range(classes))
    names = names or [f"flower {number}" for number in range(classes)]
    return Evaluation(
        classes=labels,
        names=dict(zip(labels, names, strict=True)),
        ids=tuple(ids or (f"test/{number}.jpg" for number in range(count))),
        targets=targets,
        probabilities=probabilities,
        calibration=None if served else Calibration(1.5, 0.5, 0.95),
        known=None if served else probabilities.max(axis=1) >= 0.5,
        properties=tuple({"brightness": float(value)} for value in generator.random(count)),
    )


def pictures(ids):
    """Yield each id with a picture of its own."""
    for id in sorted(ids):
        buffer = io.BytesIO()
        pixels = np.random.default_rng(len(id)).integers(0, 255, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((600, 400)).save(buffer, "JPEG")
        yield id, buffer.getvalue()


def heat_map(raw, label):
    return HeatMap(label, Image.open(io.BytesIO(raw)).resize((224, 224)), np.eye(8))


def write_page(tmp_path, evaluation, *, kind="image", raws=pictures, explain=heat_map, gallery_size=6, title="flowers"):
    path = tmp_path / "report.html"
    subject = report.Subject(title, kind, {"model": "models/flowers"}, {"train.epochs": 3})
    metrics = evaluation.intervals(top_k=3, resamples=20)
    report.write(
        path, evaluation, metrics, subject, raws=raws, explain=explain, gallery_size=gallery_size, resamples=20
    )
    return path.read_text()


def test_the_page_loads_nothing(tmp_path):
    page = write_page(tmp_path, random_evaluation())
    assert page.startswith("<!DOCTYPE html>")
    assert page.count("<img ") > 12 and page.count("<img ") == page.count('<img src="data:image/jpeg;base64,')
    assert not OUTSIDE.search(page), OUTSIDE.search(page)
    assert "default-src 'none'" in page and "http://" not in page and "https://" not in page


def test_pages_are_reproducible(tmp_path):
    assert write_page(tmp_path, random_evaluation()) == write_page(tmp_path, random_evaluation())


def test_hostile_names_are_escaped(tmp_path):
    names = [HOSTILE, '"><svg onload=alert(1)>', "{{ 7 * 7 }}", "&lt;b&gt;"]
    page = write_page(
        tmp_path, random_evaluation(names=names, ids=[f"{HOSTILE}{n}" for n in range(200)]), title=HOSTILE
    )
    assert "&lt;script src=&#34;https://example.com/x.js&#34;&gt;" in page
    assert "<script" not in page and "<svg onload" not in page and "onerror=alert(1)>" not in page
    assert "{{ 7 * 7 }}" in page and "&amp;lt;b&amp;gt;" in page


def texts(ids):
    return ((id, f"A film{HOSTILE} I did not like. {id}") for id in ids)


def test_hostile_texts_are_escaped(tmp_path):
    def why(raw, label):
        return Words(label, (Word("A film ", 0.0), Word(HOSTILE, 1.0), Word(" bad", -0.8)))

    page = write_page(tmp_path, random_evaluation(classes=2), kind="text", raws=texts, explain=why)
    assert "<script" not in page and "<img" not in page
    assert page.count('<mark class="for"') == page.count('<mark class="against"') == 6


def test_long_texts_show_the_words_that_count(tmp_path):
    def why(raw, label):
        words = [Word(f"word{number} ", 1.0 if number == 700 else 0.01) for number in range(1000)]
        return Words(label, tuple(words))

    page = write_page(tmp_path, random_evaluation(classes=2), kind="text", raws=texts, explain=why)
    assert "word700" in page and "word695" in page and "word500" not in page
    assert len(page) < 100_000


def test_a_hundred_classes_fit(tmp_path):
    evaluation = random_evaluation(800, 102, sharp=3.0)
    page = write_page(tmp_path, evaluation, gallery_size=24)
    assert len(page) < 5_000_000
    assert page.count('<article class="card mistake">') == 24 and page.count("<article") == 24 + 12
    assert all(name in page for name in evaluation.names.values())
    assert "The other 92 classes" in page and 'class="card wide matrix"' not in page


def test_few_classes_have_a_matrix(tmp_path):
    evaluation = random_evaluation(classes=3)
    page = write_page(tmp_path, evaluation)
    matrix = page.partition('class="card wide matrix"')[2].partition("</table>")[0]
    counts = [int(count) for count in re.findall(r">(\d+|·)</td>", matrix.replace("·", "0"))]
    assert sum(counts) == 200 and sum(counts[::4]) == evaluation.hits.sum()


def test_served_ones_have_no_calibration(tmp_path):
    page = write_page(tmp_path, random_evaluation(served=True), explain=None)
    assert "The classifier never abstained" in page and "temperature scaling" not in page
    assert page.count('<article class="card mistake">') == 6 and "what spoke for" not in page


def test_a_served_threshold_is_not_guessed(tmp_path):
    evaluation = replace(random_evaluation(), calibration=None)
    page = write_page(tmp_path, evaluation, explain=None)
    assert "where it is confident" in page and "with a confidence of at least" not in page


def test_abstaining_on_everything_is_said(tmp_path):
    page = write_page(tmp_path, replace(random_evaluation(), known=np.zeros(200, bool)))
    assert "abstained on every example" in page and "never abstained" not in page


def test_inputs_unlike_the_training_are_counted(tmp_path):
    evaluation = random_evaluation()
    strange = np.where(evaluation.hits, 0.2, 0.9)
    evaluation = replace(evaluation, known=evaluation.known & evaluation.hits, out_of_distribution=strange)
    page = " ".join(write_page(tmp_path, evaluation).split())
    assert f"and {(~evaluation.hits).sum()} are unlike the training examples." in page
    assert page.count("abstained: unlike the training examples") >= 6
    assert "unlike the training" not in write_page(tmp_path, random_evaluation())


def test_no_mistakes_no_gallery(tmp_path):
    page = write_page(tmp_path, random_evaluation(40, sharp=50.0))
    assert "40 of 40 examples were classified correctly" in page and "100.0\N{NO-BREAK SPACE}%" in page
    assert "Worst mistakes" not in page and "Confusions" not in page
    assert "Wilson’s, which is wide" in page and not re.search(r"1\.000 to 1\.000|100\.0 to 100\.0", page)


def test_paths_lose_their_common_folder(tmp_path):
    ids = [f"flower_data/test/{number % 4}/{'x' * 90}_{number:03}.jpg" for number in range(200)]
    page = write_page(tmp_path, random_evaluation(ids=ids))
    shown = re.findall(r'<div class="id" title="([^"]+)">([^<·]+?)(?: ·[^<]*)?</div>', page)
    assert len(shown) == 6 and "Paths are below <code>flower_data/test/</code>" in page
    assert all(id in ids and len(text) <= 56 and text.endswith(id[-12:]) for id, text in shown)
    assert all(re.match(r"\d/x+…x+_", text) for _, text in shown)


def test_ids_without_folders_are_whole(tmp_path):
    page = write_page(tmp_path, random_evaluation(ids=[f"row {number}" for number in range(200)]))
    assert "Paths are below" not in page and '">row ' in page


def test_unreadable_examples_are_marked(tmp_path):
    def lost(ids):
        yield from ((id, b"no picture") for id in sorted(ids)[:1])

    page = write_page(tmp_path, random_evaluation(), raws=lost, explain=None)
    assert page.count("could not be read again") > 6


def test_passwords_are_not_shown(tmp_path):
    evaluation = random_evaluation()
    metrics = evaluation.intervals(top_k=3, resamples=5)
    address = "https://me:secret@host/data.zip?token=secret"
    subject = report.Subject(address, "image", {"tested on": address}, {"data.source": address})
    path = tmp_path / "report.html"
    report.write(path, evaluation, metrics, subject, raws=pictures, explain=None, gallery_size=0, resamples=5)
    page = path.read_text()
    assert "secret" not in page and "host/data.zip" in page


@pytest.fixture
def project(reproduced, monkeypatch):
    monkeypatch.chdir(reproduced.folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{reproduced.folder}/mlflow.db")
    return reproduced.folder


@pytest.mark.parametrize("name", ["flowers", "reviews"])
def test_the_stage_writes_page_and_intervals(project, name):
    page = (project / f"reports/{name}/report.html").read_text()
    assert f"<h1>{name}: evaluation report" in page and not OUTSIDE.search(page)
    metrics = json.loads((project / f"reports/{name}/metrics.json").read_text())
    limits = json.loads((project / f"reports/{name}/intervals.json").read_text())["intervals"]
    assert set(limits) == set(metrics)
    assert all(limits[key]["low"] <= value <= limits[key]["high"] for key, value in metrics.items())


def test_page_and_tables_are_logged(project):
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{project}/mlflow.db")
    experiment = client.get_experiment_by_name("flowers")
    runs = [run for run in client.search_runs([experiment.experiment_id]) if run.info.run_name == "export"]
    first = min(runs, key=lambda run: run.info.start_time)
    logged = {file.path for file in client.list_artifacts(first.info.run_id, "reports")}
    assert {"reports/report.html", "reports/intervals.json", "reports/slices.csv"} <= logged


def test_the_command_writes_a_page(project, tmp_path):
    path = tmp_path / "new" / "page.html"
    arguments = [
        "evaluate",
        "models/reviews/classifier",
        "data/reviews/archive",
        "--split",
        "all",
        "--report",
        str(path),
    ]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "95 % interval" in result.stdout and f"wrote {path}" in result.stderr
    page = path.read_text()
    assert "of 120 examples were classified correctly" in page
    assert not OUTSIDE.search(page)


def test_served_ones_are_not_explained(project, reviews_served, tmp_path):
    path = tmp_path / "page.html"
    arguments = ["evaluate", reviews_served.address, "data/reviews/examples.parquet", "--report", str(path)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    page = path.read_text()
    assert "of 24 examples were classified correctly" in page and "Selective accuracy" in page
    assert "ECE before calibration" not in page and "<mark" not in page


def test_a_folder_is_refused(project, tmp_path):
    arguments = ["evaluate", "models/reviews/classifier", "data/reviews/archive", "--report", str(tmp_path)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2 and "is a folder" in re.sub(r"[│\s]+", " ", result.stderr)
