import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory) -> Path:
    """Return an MLflow database without runs; making one takes seconds."""
    path = tmp_path_factory.mktemp("database") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def often_written(tmp_path, monkeypatch, empty_database) -> Path:
    """Work in an empty folder with a database, where workers answer and states are written after each epoch."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(empty_database, tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setattr("flowerml.search.driver.SECONDS", 0.0)
    monkeypatch.setattr("flowerml.search.checkpoint.SECONDS_BETWEEN", 0.0)
    monkeypatch.setattr("flowerml.search.checkpoint.SHARE", 0)
    return tmp_path
