"""Several people who begin together: on one MLflow server, and on a PostgreSQL database without one."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from mlflow import MlflowClient

from flowerml.core.errors import FlowermlError
from flowerml.tracking import connection
from tests.support.project import REPOSITORY
from tests.support.team_server import PASSWORD

pytestmark = pytest.mark.engines

CLIENT = """
import sys, time
from pathlib import Path
from flowerml.tracking import connection, runs
connection.configure()
from mlflow import MlflowClient
Path(sys.argv[2]).touch()
while not Path("go").exists():
    time.sleep(0.002)
with runs.run(sys.argv[1], "search", {}) as run:
    with run.child("trial 0", {}) as trial:
        trial.metrics({"loss": 0.5}, step=1)
print(run.experiment_id)
"""


def together(folder: Path, experiment: str, uri: str, count: int = 4) -> list[str]:
    """Have as many processes record a run at the same moment; return the ids of their experiments."""
    (folder / "go").unlink(missing_ok=True)
    clients = []
    for number in range(count):
        work = folder / f"client {number}"
        work.mkdir(exist_ok=True)
        (work / "go").unlink(missing_ok=True)
        (work / "go").symlink_to(folder / "go")
        clients.append(
            subprocess.Popen(
                [sys.executable, "-c", CLIENT, experiment, str(work / "ready")],
                cwd=work,
                env={**os.environ, "MLFLOW_TRACKING_URI": uri, "PYTHONPATH": str(REPOSITORY)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    while not all((folder / f"client {number}/ready").exists() for number in range(count)):
        assert all(client.poll() is None for client in clients), [client.communicate() for client in clients]
    (folder / "go").touch()
    outputs = [client.communicate(timeout=120) for client in clients]
    assert [client.returncode for client in clients] == [0] * count, outputs
    return [output.strip() for output, _ in outputs]


def test_four_begin_an_experiment_together(member, tmp_path):
    (experiment,) = set(together(tmp_path, "new", member.server.uri))
    assert len(MlflowClient().search_runs([experiment])) == 8


def test_six_restore_an_experiment_together(member):
    client = MlflowClient()
    for number in range(3):
        experiment = client.create_experiment(f"old {number}")
        client.delete_experiment(experiment)
        begin = Barrier(6)

        def restored(_: int, name: str = f"old {number}", begin: Barrier = begin) -> str:
            begin.wait()
            return connection.experiment_id(MlflowClient(), name)

        with ThreadPoolExecutor(6) as pool:
            assert set(pool.map(restored, range(6))) == {experiment}


def test_four_begin_with_an_empty_database(member, tmp_path):
    uri = member.postgres.create("empty").replace("+psycopg", "")
    assert len(set(together(tmp_path, "new", uri))) == 1


def test_artifacts_of_a_database_go_to_the_named_root(member, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", member.postgres.create("direct"))
    monkeypatch.setenv("MLFLOW_DEFAULT_ARTIFACT_ROOT", "s3://team/direct/")
    connection.check()
    assert connection.artifact_location("a flower") == "s3://team/direct/a%20flower"
    assert PASSWORD not in connection.address()


def test_wrong_password_is_one_line_without_it(member, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", member.postgres.uri("mlflow").replace(PASSWORD, "wr0ng"))
    with pytest.raises(FlowermlError, match="password authentication failed") as refused:
        connection.check()
    assert "wr0ng" not in str(refused.value) and "\n" not in str(refused.value)
