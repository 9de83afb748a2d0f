"""Runs as MLflow has them, by the keys that the journal knows them by."""

from mlflow.entities import Run


def key_of(run: Run) -> str:
    """Return a run's key: its name, to which a trial that has ended adds what came of it."""
    return str(run.info.run_name).partition(" · ")[0]
