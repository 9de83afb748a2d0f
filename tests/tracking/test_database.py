"""MLflow's SQLite database: created whole, by several processes at once, and repaired after a kill."""

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from mlflow import MlflowClient

from flowerml.core.errors import FlowermlError, cause_message
from flowerml.core.os_errors import explain_os_error
from flowerml.registry import client as registry
from flowerml.tracking import connection, database, runs

REVISION = "cc1f77228345"  # the one before "creation_time_last_update_time_experiments"
EXPERIMENT = (
    "INSERT INTO experiments (experiment_id, name, artifact_location, lifecycle_stage) "
    "VALUES (0, 'Default', '', 'active'), (1, 'old', '', 'active')"
)
RUN = (
    "INSERT INTO runs (run_uuid, name, user_id, source_type, start_time, status, lifecycle_stage, experiment_id) "
    "VALUES ('r', 'kept', 'me', 'LOCAL', 1, 'FINISHED', 'active', 1)"
)


@pytest.fixture
def path(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(database, "QUIET", 0.2)
    return tmp_path / "mlflow.db"


@pytest.fixture
def half_made(path) -> Path:
    """Return a database whose migrations were killed at REVISION."""
    import sqlalchemy
    from alembic import command
    from mlflow.store.db.utils import _get_alembic_config
    from mlflow.store.tracking.dbmodels.initial_models import Base

    engine = sqlalchemy.create_engine(f"sqlite:///{path}")
    Base.metadata.create_all(engine)
    command.upgrade(_get_alembic_config(f"sqlite:///{path}"), REVISION)
    engine.dispose()
    execute(path, "CREATE TABLE _alembic_tmp_runs (run_uuid VARCHAR(32))")
    return path


def execute(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def experiments(path: Path) -> list[str]:
    client = MlflowClient(database.sqlite_uri(path))
    return sorted(experiment.name for experiment in client.search_experiments())


def names(path: Path) -> set[str]:
    return {file.name.partition("-2")[0] for file in path.parent.iterdir()}


def test_database_is_created_whole(path):
    (path.parent / "mlflow.db.new").write_bytes(b"left by a process that was killed")
    database.prepare(f"sqlite:///{path}")
    assert names(path) == {"mlflow.db", "mlflow.db.lock"}
    assert experiments(path) == ["Default"]


def test_ready_database_is_left_alone(path):
    database.prepare(f"sqlite:///{path}")
    before = path.stat().st_mtime_ns, path.stat().st_ino
    database.prepare(f"sqlite:///{path}")
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == before


def test_journal_of_a_deleted_database(path):
    Path(f"{path}-journal").write_bytes(b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + bytes(504))
    database.prepare(f"sqlite:///{path}")
    assert names(path) == {"mlflow.db", "mlflow.db.lock", "mlflow.db.broken-journal"}
    assert experiments(path) == ["Default"]


def test_half_made_without_runs(half_made, capsys):
    database.prepare(f"sqlite:///{half_made}")
    assert names(half_made) == {"mlflow.db", "mlflow.db.lock", "mlflow.db.broken"}
    assert experiments(half_made) == ["Default"]
    assert "left half-made by a process that was killed; repaired, and the former" in capsys.readouterr().err


def test_half_migrated_keeps_its_runs(half_made):
    execute(half_made, EXPERIMENT, RUN)
    database.prepare(f"sqlite:///{half_made}")
    assert names(half_made) == {"mlflow.db", "mlflow.db.lock", "mlflow.db.backup"}
    assert experiments(half_made) == ["Default", "old"]
    assert MlflowClient(f"sqlite:///{half_made}").get_run("r").info.run_name == "kept"


def test_half_migrated_beyond_repair(half_made):
    execute(half_made, EXPERIMENT, RUN, "ALTER TABLE experiments ADD COLUMN creation_time BIGINT")
    before = half_made.read_bytes()
    with pytest.raises(FlowermlError, match=r"killed half-way and cannot be completed .* restore a backup"):
        database.prepare(f"sqlite:///{half_made}")
    assert half_made.read_bytes() == before
    assert names(half_made) == {"mlflow.db", "mlflow.db.lock"}


def test_foreign_database_is_refused(path):
    execute(path, "CREATE TABLE customers (name TEXT)")
    before = path.read_bytes()
    with pytest.raises(FlowermlError, match=r"not a database of MLflow's \(it has the table 'customers'\)"):
        database.prepare(f"sqlite:///{path}")
    assert path.read_bytes() == before


def test_damaged_file_is_refused(path):
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(FlowermlError, match="found a damaged file or another kind"):
        database.prepare(f"sqlite:///{path}")


def test_error_of_the_system_has_a_remedy(path):
    path.mkdir()
    (path / "file").touch()
    with pytest.raises(sqlite3.OperationalError) as raised:
        database.prepare(f"sqlite:///{path}")
    assert cause_message(raised.value) == "unable to open database file"
    assert "check that you may write there" in (explain_os_error(raised.value) or "")


def test_lock_that_is_never_released(path, monkeypatch):
    database.prepare(f"sqlite:///{path}")
    monkeypatch.setattr(database, "BUSY", 0.1)
    with closing(sqlite3.connect(path)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        with pytest.raises(FlowermlError, match=r"another process has kept this database locked for 0\.1 s"):
            database.prepare(f"sqlite:///{path}")


def test_empty_file_is_filled(path):
    path.touch()
    database.prepare(f"sqlite:///{path}")
    assert experiments(path) == ["Default"]


def test_reading_repairs_too(half_made, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{half_made}")
    assert registry.versions() == []


@pytest.mark.extended
def test_four_processes_at_once(path):
    command = [sys.executable, "-m", "flowerml.tracking"]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{path}"}
    processes = [subprocess.Popen(command, env=environment, cwd=path.parent) for _ in range(4)]
    assert [process.wait(120) for process in processes] == [0, 0, 0, 0]
    assert names(path) == {"mlflow.db", "mlflow.db.lock"}
    assert experiments(path) == ["Default"]


@pytest.mark.parametrize("name", ["job@feature%2Fx", "what? a#b", "100% ü\nx"])
def test_folder_with_odd_name(path, monkeypatch, name):
    folder = path.parent / name
    folder.mkdir()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
    connection.check()
    assert names(folder / "x") == {"mlflow.db", "mlflow.db.lock"}
    assert [other.name for other in path.parent.iterdir()] == [name]
    assert connection.address() == f"sqlite:///{folder}/mlflow.db"


def test_encoded_folder_is_decoded(path, monkeypatch):
    for name in ("a%20b", "a b"):
        (path.parent / name).mkdir()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{path.parent}/a%20b/mlflow.db")
    assert connection.address() == f"sqlite:///{path.parent}/a b/mlflow.db"


@pytest.mark.extended
def test_locked_database_is_waited_for(path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{path}")
    connection.check()
    lock = f"lock = sqlite3.connect({str(path)!r}); lock.execute('BEGIN EXCLUSIVE')"
    holder = f"import sqlite3, time; {lock}; print(flush=True); time.sleep(8)"
    with subprocess.Popen([sys.executable, "-c", holder], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        connection.check()
    client = MlflowClient(f"sqlite:///{path}")
    assert connection.experiment_id(client, "a") == connection.experiment_id(client, "a")


def test_experiment_that_another_creates(path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{path}")
    connection.check()
    client, other = MlflowClient(f"sqlite:///{path}"), MlflowClient(f"sqlite:///{path}")
    created: list[str] = []
    create = client.create_experiment

    def create_second(name: str, *options: object) -> str:
        created.append(other.create_experiment(name))
        return create(name, *options)

    monkeypatch.setattr(client, "create_experiment", create_second)
    assert connection.experiment_id(client, "a") == created[0]


@pytest.mark.parametrize("name", ["job@feature%2Fx", "what? a#b"])
def test_artifacts_stay_in_an_odd_folder(path, monkeypatch, name):
    (path.parent / name).mkdir()
    monkeypatch.chdir(path.parent / name)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{path.parent / name}/mlflow.db")
    Path("note.txt").write_text("kept")
    with runs.run("pictures", "search", {}) as run:
        run.artifact(Path("note.txt"))
        run_id = run.run_id
    assert Path(MlflowClient().download_artifacts(run_id, "note.txt")).read_text() == "kept"
    assert list(Path("mlruns").rglob("note.txt"))
    assert [folder.name for folder in path.parent.iterdir()] == [name]
