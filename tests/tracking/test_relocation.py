"""A project with its database is moved or copied: its artifacts are found, and no copy writes into another."""

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts

from flowerml.tracking import connection, database, relocation, runs

NAMES = ("moved", "a b", "job@feature%2Fx", "100% ü?#")


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    """Return a project with a run, a logged model and a registered version; each has a file."""
    folder = tmp_path_factory.mktemp("home") / "project"
    folder.mkdir()
    with at(folder) as client:
        experiment = connection.experiment_id(client, "birds")
        run = client.create_run(experiment).info.run_id
        client.log_text(run, "of the run", "note.txt")
        model = client.create_logged_model(experiment, "birds", source_run_id=run).model_id
        (folder / "note.txt").write_text("of the model")
        client.log_model_artifact(model, str(folder / "note.txt"))
        client.create_registered_model("birds")
        client.create_model_version("birds", f"models:/{model}", run, model_id=model)
        client.set_registered_model_alias("birds", "champion", "1")
    return folder


@contextlib.contextmanager
def at(folder: Path):
    """Work in a project as our commands do; yield a client of its database."""
    before = os.environ.pop("MLFLOW_TRACKING_URI", None)
    try:
        with contextlib.chdir(folder):
            os.environ["MLFLOW_TRACKING_URI"] = database.sqlite_uri(folder / "mlflow.db")
            connection.configure()
            connection.prepare()
            yield MlflowClient()
    finally:
        os.environ.pop("MLFLOW_TRACKING_URI")
        if before is not None:
            os.environ["MLFLOW_TRACKING_URI"] = before


def locations(folder: Path) -> set[str]:
    """Return all locations in a project's database."""
    with contextlib.closing(sqlite3.connect(folder / "mlflow.db")) as base:
        queries = (f"SELECT {column} FROM {table}" for table, column in relocation.COLUMNS)
        return {value for query in queries for (value,) in base.execute(query) if not value.startswith("models:")}


def read(folder: Path, tmp_path: Path) -> list[str]:
    """Return the texts of the version, of the logged model and of the run, as MLflow alone finds them."""
    with at(folder) as client:
        version = client.get_model_version_by_alias("birds", "champion")
        run = client.download_artifacts(version.run_id, "note.txt", str(tmp_path))
        return [
            Path(download_artifacts("models:/birds@champion"), "note.txt").read_text(),
            Path(download_artifacts(version.source), "note.txt").read_text(),
            Path(run).read_text(),
        ]


@pytest.mark.parametrize("name", NAMES)
def test_moved_project_has_its_models(original, tmp_path, name, capsys):
    shutil.copytree(original, tmp_path / "before")
    with at(tmp_path / "before"):
        pass
    folder = (tmp_path / "before").rename(tmp_path / name)
    assert read(folder, tmp_path) == ["of the model", "of the model", "of the run"]
    assert capsys.readouterr().err.count("moved here from") == 1
    assert all(str(relocation.local_path(value)).startswith(f"{folder}/mlruns") for value in locations(folder))


@pytest.mark.parametrize("name", NAMES)
def test_copy_never_writes_into_the_original(original, tmp_path, name):
    before = sorted(original.rglob("*"))
    folder = shutil.copytree(original, tmp_path / name)
    with at(folder) as client:
        run = client.create_run(connection.experiment_id(client, "birds")).info.run_id
        client.log_text(run, "of the copy", "new.txt")
    assert sorted(original.rglob("*")) == before
    assert [path.read_text() for path in folder.rglob("new.txt")] == ["of the copy"]


def test_original_is_left_alone(original, tmp_path, capsys):
    before = locations(original)
    shutil.copytree(original, tmp_path / "copy")
    with at(tmp_path / "copy"), at(original):
        assert locations(original) == before
    assert capsys.readouterr().err.count("copied here from") == 1


def test_copy_of_a_copy_and_back(original, tmp_path):
    first = shutil.copytree(original, tmp_path / "first")
    assert read(first, tmp_path)
    second = shutil.copytree(first, tmp_path / "second")
    shutil.rmtree(first)
    assert read(second, tmp_path)
    assert read(second.rename(tmp_path / "first"), tmp_path)


def test_files_that_were_not_copied_are_read_where_they_are(original, tmp_path):
    (tmp_path / "copy").mkdir()
    shutil.copy(original / "mlflow.db", tmp_path / "copy")
    before = sorted(original.rglob("*"))
    assert read(tmp_path / "copy", tmp_path) == ["of the model", "of the model", "of the run"]
    with at(tmp_path / "copy") as client:  # while what is new is the copy's own
        client.log_text(client.create_run(connection.experiment_id(client, "birds")).info.run_id, "", "new.txt")
    assert sorted(original.rglob("*")) == before


def test_database_used_from_another_folder_stays(original, tmp_path, capsys):
    folder = shutil.copytree(original, tmp_path / "project")
    (tmp_path / "elsewhere").mkdir()
    with at(folder):
        connection.prepare()
        with contextlib.chdir(tmp_path / "elsewhere"):
            # As MLflow does it for a process that starts there.
            theirs = MlflowClient().create_experiment("theirs", f"{tmp_path}/elsewhere/mlruns/2")
            MlflowClient().log_text(MlflowClient().create_run(theirs).info.run_id, "theirs", "new.txt")
        before = locations(folder)
        connection.prepare()
        assert locations(folder) == before
    assert [path.read_text() for path in (tmp_path / "elsewhere/mlruns").rglob("new.txt")] == ["theirs"]
    assert capsys.readouterr().err.count("elsewhere") == 0


def test_link_to_the_project_changes_nothing(original, tmp_path):
    before = locations(original)
    (tmp_path / "link").symlink_to(original)
    with at(tmp_path / "link"):
        assert locations(original) == before


def test_place_that_a_person_chose_stays(original, tmp_path):
    folder = shutil.copytree(original, tmp_path / "copy")
    chosen = (f"{original}/artifacts/1", "s3://bucket/mlruns/1", f"{tmp_path}/mlrunsx/1")
    with at(folder) as client:
        for number, place in enumerate(chosen):
            client.create_experiment(f"chosen {number}", place)
        connection.prepare()
    assert set(chosen) <= locations(folder)


def test_read_only_database_is_still_read(original, tmp_path, capsys):
    folder = shutil.copytree(original, tmp_path / "copy")
    with contextlib.closing(sqlite3.connect(folder / "mlflow.db")) as base:
        base.execute("PRAGMA query_only = 1")
        with pytest.raises(sqlite3.OperationalError, match="readonly") as raised:
            base.execute("UPDATE runs SET name = ''")
    relocation._report_failure(folder / "mlflow.db", raised.value)
    assert "not writable" in capsys.readouterr().err


@pytest.mark.extended
def test_killed_half_way_and_two_at_once(original, tmp_path):
    folder = shutil.copytree(original, tmp_path / "copy")
    with contextlib.closing(sqlite3.connect(folder / "mlflow.db")) as base:
        row = base.execute("SELECT * FROM runs").fetchone()
        marks = ", ".join("?" * len(row))
        rows = ((f"{number:032x}", *row[1:]) for number in range(30_000))
        base.executemany(f"INSERT INTO runs VALUES ({marks})", rows)
        base.execute("UPDATE runs SET artifact_uri = replace(artifact_uri, '/mlruns/1/', '/mlruns/1/' || run_uuid)")
        base.commit()
    program = (
        "import sys, pathlib; from flowerml.tracking import relocation; relocation.mend(pathlib.Path(sys.argv[1]))"
    )
    command = [sys.executable, "-c", program, str(folder / "mlflow.db")]
    for delay in (0.05, 0.1, 0.2, 0.4):
        with subprocess.Popen(command) as process:
            wait_for_change(folder / "mlflow.db-journal", delay)
            process.send_signal(signal.SIGKILL)
        assert len({str(relocation.local_path(value)).partition("/mlruns")[0] for value in locations(folder)}) == 1
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    messages = [process.communicate(timeout=120)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert "".join(messages).count("copied here from") <= 1
    assert all(value.startswith(f"{folder}/mlruns") for value in locations(folder))


def wait_for_change(journal: Path, delay: float) -> None:
    """Wait until a transaction has begun, and a little longer."""
    end = time.monotonic() + 60
    while not journal.exists() and time.monotonic() < end:
        time.sleep(0.005)
    time.sleep(delay)


def test_run_that_was_interrupted_before_the_move_goes_on(tmp_path):
    folder = tmp_path / "before"
    folder.mkdir()
    with at(folder), contextlib.suppress(KeyboardInterrupt), runs.run("birds", "search", {}, resume="key") as run:
        before = run.run_id
        raise KeyboardInterrupt
    folder.rename(tmp_path / "after")
    with at(tmp_path / "after") as client:
        with runs.run("birds", "search", {}, resume="key") as run:
            run.metrics({"accuracy": 1.0})
        assert [run.info.run_id for run in client.search_runs(["1"])] == [before]
        assert client.get_run(before).info.status == "FINISHED"
