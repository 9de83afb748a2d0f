"""A fresh clone writes the dvc.lock that was committed: the same hashes elsewhere, later, and of another commit."""

import shutil

import pytest

from tests.support.project import Project

pytestmark = pytest.mark.extended
COMMIT = ("git", "-c", "user.name=test", "-c", "user.email=test@example.com", "-c", "commit.gpgsign=false", "commit")


@pytest.fixture(scope="module")
def clone(reproduced, tmp_path_factory) -> Project:
    """Return a project elsewhere with the committed results of another one, none of its data, models or runs."""
    folder = tmp_path_factory.mktemp("another folder")
    project = Project(folder)
    changed = reproduced.run("git", "ls-files", "--modified", "--others", "--exclude-standard").stdout.splitlines()
    for name in changed:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(reproduced.folder / name, folder / name)
    project.run("git", "add", "-A")
    project.run(*COMMIT, "-q", "-m", "results")
    return project


@pytest.fixture(scope="module")
def output(clone) -> str:
    return clone.run("sh", "-c", "dvc repro 2>&1").stdout


def test_clone_is_clean_after_repro(clone, output):
    assert clone.run("git", "status", "--porcelain").stdout == ""
    assert "up to date" in clone.run("dvc", "status").stdout


def test_log_is_readable(output):
    lines = output.splitlines()
    assert "\r" not in output
    assert [line for line in lines if "warning" in line.lower()] == []
    assert len(lines) < 150
    assert max(map(len, lines)) <= 120


def test_last_stage_prints_the_table(clone, output):
    assert "Stage 'summary' didn't change" in output.partition("Running stage 'export@reviews':")[2]  # same results
    table = clone.run("dvc", "repro", "--force", "--single-item", "summary").stdout
    assert "95 % interval" in table and "models:/flowers@champion" in table
