"""`kill -9` in the middle of each stage, then a re-run: the outputs are those of an uninterrupted run."""

import random

import pytest

from tests.support.killing import (
    delayed,
    digests,
    file_replaced,
    file_written,
    is_finished,
    kill_when,
    recorded_runs,
    stage_command,
    temporary_files,
)
from tests.support.project import Project

pytestmark = pytest.mark.slow

OUTPUTS = {
    "download": ["data/flowers/archive", "data/flowers/category_names.json", "data/flowers/split_table.csv"],
    "extract": ["data/flowers/examples.parquet", "data/flowers/checks.json"],
    "encode": ["data/flowers/encoded.arrow", "data/flowers/encoder"],
}
HALF_WRITTEN = {"download": ".archive.*", "extract": ".examples.parquet.*", "encode": "encoded.unfinished"}


@pytest.fixture(scope="module")
def project(reproduced, tmp_path_factory) -> Project:
    return reproduced.copy(tmp_path_factory.mktemp("killed") / "project")


@pytest.mark.parametrize(
    "stage",
    [
        pytest.param("download", marks=pytest.mark.extended),
        "extract",
        pytest.param("encode", marks=pytest.mark.extended),
    ],
)
def test_killed_stage_reruns_to_the_byte(project, stage):
    before = digests(project.folder, *OUTPUTS[stage])
    (project.folder / OUTPUTS[stage][0]).unlink()
    kill_when(
        project, stage_command(stage, "flowers"), file_written(project.folder / "data/flowers", HALF_WRITTEN[stage])
    )
    assert half_written(project, stage) and not (project.folder / OUTPUTS[stage][0]).exists()
    project.run(*stage_command(stage, "flowers"))
    assert digests(project.folder, *OUTPUTS[stage]) == before and not half_written(project, stage)


def half_written(project: Project, stage: str) -> list[str]:
    """Return what a killed stage leaves; encodings are not temporary, as the next run goes on with them."""
    left = [str(path) for path in (project.folder / "data/flowers").glob(HALF_WRITTEN[stage])]
    return [*temporary_files(project.folder), *(left if stage == "encode" else [])]


@pytest.mark.extended
def test_killed_evaluation_reruns_to_the_byte(project):
    before = digests(project.folder, "reports/flowers")
    kill_when(project, stage_command("evaluate", "flowers"), lambda now: now > 1.5)
    project.run(*stage_command("evaluate", "flowers"))
    assert digests(project.folder, "reports/flowers") == before and not temporary_files(project.folder)


def test_killed_export_leaves_no_running_run(project):
    begun = file_written(project.folder / ".flowerml/runs", "flowers.export.jsonl")
    kill_when(project, stage_command("export", "flowers"), delayed(begun, 1.0))
    project.run(*stage_command("export", "flowers"))
    assert [run["status"] for run in recorded_runs(project) if run["name"] == "export"][-2:] == ["KILLED", "FINISHED"]


@pytest.mark.extended
def test_search_killed_twice_resumes_to_the_bit(project, tmp_path):
    # Batches so small that a trial takes seconds: on a fast machine a search would end before the first kill.
    project.set({"flowers.train.epochs": 200, "flowers.train.batch_size": 4, "flowers.train.search.trials": 2})
    uninterrupted, train = project.copy(tmp_path / "uninterrupted"), stage_command("train", "flowers")
    uninterrupted.run(*train)
    checkpoint, generator = project.folder / "data/flowers/checkpoint", random.Random(0)
    count = len(recorded_runs(project))
    kill_when(project, train, delayed(file_written(checkpoint, "state.*"), generator.uniform(0, 1)))
    assert "RUNNING" in [run["status"] for run in recorded_runs(project)]
    kill_when(project, train, delayed(file_replaced(checkpoint, "state.*"), generator.uniform(0, 0.5)))
    project.run(*train)
    runs = recorded_runs(project)[count:]
    classifier = "models/flowers/classifier"
    assert digests(project.folder, classifier) == digests(uninterrupted.folder, classifier)
    assert sorted((run["name"], run["status"]) for run in runs) == [
        ("search", "FINISHED"),
        ("trial 0", "FINISHED"),
        ("trial 1", "FINISHED"),
    ]
    assert all(run["steps"] == list(range(1, 201)) for run in runs if run["name"] != "search")
    assert is_finished(checkpoint)
