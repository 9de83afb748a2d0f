"""A tracking server that cannot be reached is told of before the stages that need none, and does not stop them."""

import socket
import time

import pytest

from flowerml.core.errors import FlowermlError
from flowerml.tracking import connection, postgres, reachable


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://me:s3cret@127.0.0.1:9", "http://127.0.0.1:9"),
        ("postgresql://me:s3cret@127.0.0.1:9/mlflow?sslmode=disable", "postgresql://127.0.0.1:9/mlflow"),
    ],
)
def test_dead_server_is_one_line(uri, shown, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    reachable.warn("extract")
    line = capsys.readouterr().err
    assert line.startswith(f"warning: MLflow at {shown} is not responding (") and line.count("\n") == 1
    assert "extract needs no server, but train will stop there" in line and "s3cret" not in line


def test_silent_server_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(reachable, "TIMEOUT", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}")
        start = time.monotonic()
        assert reachable.unreachable() == "no answer within 0.3 s"
    assert time.monotonic() - start < 30


@pytest.mark.parametrize("uri", ["", "sqlite:///somewhere/mlflow.db", "databricks"])
def test_nothing_is_asked_without_a_server(uri, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert reachable.unreachable() is None


def test_plain_uri_gets_the_installed_driver():
    pytest.importorskip("psycopg")
    for scheme in ("postgres", "postgresql"):
        assert postgres.with_driver(f"{scheme}://me@host/db") == "postgresql+psycopg://me@host/db"
    assert postgres.with_driver("postgresql+pg8000://host/db") == "postgresql+pg8000://host/db"


def test_missing_driver_is_named(monkeypatch):
    monkeypatch.setattr(postgres, "DRIVERS", {"a_missing_package": "postgresql+none://"})
    with pytest.raises(FlowermlError, match=r"pip install 'flowerml\[postgres\]'"):
        postgres.with_driver("postgresql://host/db")


def test_dead_database_is_one_line_without_the_password(tmp_path, monkeypatch):
    pytest.importorskip("psycopg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://me:s3cret@127.0.0.1:9/mlflow")
    with pytest.raises(FlowermlError) as refused:
        connection.check()
    message = str(refused.value)
    assert message.startswith("runs cannot be recorded in MLflow at postgresql://127.0.0.1:9/mlflow: ")
    assert "s3cret" not in message and "\n" not in message
