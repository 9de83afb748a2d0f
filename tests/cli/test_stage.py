"""`flowerml stage`, which a project's dvc.yaml calls, and `python -m stages.NAME`, which this repository's calls."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from flowerml.cli.app import app
from flowerml.cli.stage_table import STAGES
from flowerml.config import pin
from flowerml.project.templated import dvc_yaml
from tests.support.project import REPOSITORY


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Return a folder with a params.yaml of one pipeline, to run commands in."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("pipelines: {tickets: {kind: text, data: {source: tickets.csv}}}\n")
    return tmp_path


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a command of this interpreter."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.run([sys.executable, "-m", *command], env=environment, capture_output=True, text=True)


def test_params_writes_every_parameter(here):
    assert CliRunner().invoke(app, ["stage", "params", "tickets"]).exit_code == 0
    written = yaml.safe_load((here / "reports/tickets/params.yaml").read_text(encoding="utf-8"))
    assert (written["flowerml"], written["kind"]) == (pin.installed(), "text")
    assert written["train"]["learning_rate"] == 0.003
    assert written["export"]["registered_model"] == "tickets"


def test_the_query_of_a_source_is_noticed_and_not_written(here):
    texts = []
    for query in ("token=first", "token=second"):
        source = f"{{source: 'https://host/a.zip?{query}'}}"
        (here / "params.yaml").write_text(f"pipelines: {{tickets: {{kind: text, data: {source}}}}}\n")
        CliRunner().invoke(app, ["stage", "params", "tickets"])
        texts.append((here / "reports/tickets/params.yaml").read_text(encoding="utf-8"))
    assert texts[0] != texts[1] and "first" not in texts[0]


def test_stages_are_those_of_the_dvc_yaml_of_a_project():
    called = [stage["do"]["cmd"].split() for stage in yaml.safe_load(dvc_yaml())["stages"].values() if "do" in stage]
    assert called == [["flowerml", "stage", name, "${key}"] for name in STAGES]


@pytest.mark.extended
def test_both_entrances_fail_alike(here):
    ours, theirs = run("flowerml", "stage", "download", "tickts"), run("stages.download", "tickts")
    assert (ours.returncode, ours.stdout, ours.stderr) == (theirs.returncode, theirs.stdout, theirs.stderr)
    assert ours.stderr.endswith("no pipeline 'tickts' under `pipelines:`; did you mean 'tickets'?\n")


def test_an_unknown_stage_gets_a_suggestion(here):
    result = CliRunner().invoke(app, ["stage", "trian", "tickets"])
    assert result.exit_code == 2
    assert "no stage 'trian'; did you mean 'train'?" in result.output


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_every_stage_refuses_another_version(here, stage):
    path = here / "params.yaml"
    path.write_text(f"flowerml: 9.9.9\n{path.read_text()}")
    result = CliRunner().invoke(app, ["stage", stage, "tickets"])
    assert result.exit_code == 1
    assert "expected flowerml 9.9.9, which this project is pinned to" in result.output
    assert not Path("reports").exists()


def test_shards_are_for_encode_alone(here):
    result = CliRunner().invoke(app, ["stage", "train", "tickets", "--join"])
    assert result.exit_code == 2


def test_the_repository_says_which_section_dvc_lacks(here):
    done = run("stages.download", "tickets")
    assert done.returncode == 1
    assert "tickets.data: missing, and a parameter of a stage in dvc.yaml; write at least `data: {}`" in done.stderr
