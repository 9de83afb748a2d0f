import json

import pytest
from typer.testing import CliRunner

from flowerml.cli import extras, summary
from flowerml.cli.app import app
from flowerml.config.paths import Paths
from flowerml.core import files
from flowerml.pipeline.summary import standings
from flowerml.tracking import lineage

REASON = "accuracy 0.900 on test, 0.880 of version 2: the difference is within the margin, and no class lost recall"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Return a project with two pipelines, of which flowers is registered as version 3."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("pipelines: {flowers: image, reviews: text}\n")
    paths = Paths("flowers")
    paths.classifier.mkdir(parents=True)
    (paths.classifier / "weights.safetensors").write_bytes(b"weights")
    paths.reports.mkdir(parents=True)
    (paths.reports / "report.html").touch()
    files.write_json(paths.reports / "metrics.json", {"accuracy": 0.9})
    limits = {"accuracy": {"low": 0.8125, "high": 0.9625}}
    files.write_json(paths.reports / "intervals.json", {"examples": 1090, "intervals": limits})
    register(promoted=True)
    return tmp_path


def register(*, promoted: bool) -> None:
    paths = Paths("flowers")
    registration = {
        "name": "flowers",
        "version": "3",
        "alias": "champion",
        "promoted": promoted,
        "reason": REASON,
        "weights_digest": lineage.weights_digest(paths.classifier),
    }
    files.write_json(paths.registration, registration)


def printed() -> str:
    return CliRunner().invoke(app, ["summary"], catch_exceptions=False).stdout


def test_standing_has_accuracy_and_version(project):
    flowers, reviews = standings()
    assert (flowers.accuracy, flowers.low, flowers.high, flowers.examples) == (0.9, 0.8125, 0.9625, 1090)
    assert (flowers.version, flowers.promoted, flowers.current, flowers.reason) == ("3", True, True, REASON)
    assert reviews.accuracy is None and reviews.version is None


def test_table_fits_80_columns(project):
    lines = printed().splitlines()
    assert max(map(len, lines)) <= 80
    (row,) = [line.split() for line in lines if line.startswith("  flowers")]
    assert row == ["flowers", "0.900", "0.812", "to", "0.963", "1,090", "3,", "champion"]


def test_commands_go_on(project):
    output = printed()
    assert "flowerml serve models:/flowers@champion " in output
    assert "flowerml ui " in output and "flowerml web " in output and "reports/flowers/report.html " in output


@pytest.mark.parametrize("installed", [True, False])
def test_page_says_what_to_install_first(project, monkeypatch, installed):
    monkeypatch.setattr(extras, "find_spec", lambda name: installed and name)
    assert ("needs flowerml[web]" in printed()) is not installed


def test_version_without_alias_is_served_by_number(project):
    register(promoted=False)
    assert "serve models:/flowers/3 " in printed()
    assert "version 3 did not become champion: accuracy 0.900 on test" in " ".join(printed().split())


def test_registered_weights_that_were_replaced(project):
    (Paths("flowers").classifier / "weights.safetensors").write_bytes(b"others")
    assert standings()[0].current is False
    assert "3 (of other weights)" in printed()


def test_json_has_a_line_for_each_pipeline(project):
    result = CliRunner().invoke(app, ["summary", "--json"])
    flowers, reviews = map(json.loads, result.stdout.splitlines())
    assert flowers["report"] == "reports/flowers/report.html" and reviews["pipeline"] == "reviews"


def test_new_project_is_told_to_run(project, monkeypatch):
    (project / "params.yaml").write_text("pipelines: {birds: image}\n")
    assert "not evaluated" in printed() and "dvc repro " in printed()


def test_damaged_file_counts_as_missing(project):
    Paths("flowers").registration.write_text("{")
    assert standings()[0].version is None


def test_stage_leaves_the_table_to_its_caller(project, monkeypatch, capsys):
    monkeypatch.setenv(summary.LATER, "1")
    summary.of_stage()
    assert capsys.readouterr().out == ""


def test_outside_of_a_project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["summary"])
    assert result.exit_code == 1 and result.stderr.startswith("error: params.yaml: ")
