"""Writes to the registry while another client writes the same row."""

from collections.abc import Callable

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sqlalchemy import event
from sqlalchemy.orm import Session

from flowerml.registry.client import retry_insert, set_version_tags

NAME, ALIAS = "model", "champion"


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    client = MlflowClient(f"sqlite:///{tmp_path_factory.mktemp('registry')}/mlflow.db")
    client.create_registered_model(NAME)
    for _ in range(2):
        client.create_model_version(NAME, "s3://bucket/model")
    return client


def just_before_insert(write: Callable[[], None]) -> None:
    """Have a write done by another client, once, after MLflow has looked for a row and before it inserts one."""
    event.listen(Session, "before_flush", lambda *_: write(), once=True)


def test_new_alias_of_two_at_once(client):
    just_before_insert(lambda: client.set_registered_model_alias(NAME, ALIAS, "1"))
    with pytest.raises(MlflowException, match="UNIQUE"):
        client.set_registered_model_alias(NAME, ALIAS, "2")  # what MLflow does alone
    client.delete_registered_model_alias(NAME, ALIAS)

    just_before_insert(lambda: client.set_registered_model_alias(NAME, ALIAS, "1"))
    retry_insert(lambda: client.set_registered_model_alias(NAME, ALIAS, "2"))
    assert int(client.get_model_version_by_alias(NAME, ALIAS).version) == 2


def test_new_tag_of_two_at_once(client):
    just_before_insert(lambda: client.set_model_version_tag(NAME, "1", "verdict", "theirs"))
    set_version_tags(client, NAME, "1", {"verdict": "ours", "reason": "none"})
    assert client.get_model_version(NAME, "1").tags == {"verdict": "ours", "reason": "none"}


def test_other_errors_are_raised_at_once(client):
    calls = []
    with pytest.raises(MlflowException, match="not found"):
        retry_insert(lambda: calls.append(0) or client.set_registered_model_alias(NAME, ALIAS, "3"))
    assert len(calls) == 1
