"""What of an address may be shown and recorded."""

import pytest

from flowerml.core.urls import without_password, without_secrets
from flowerml.tasks.pipelines import load_pipeline


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://me:secret@host/data.zip", "https://host/data.zip"),
        ("https://host/data.zip?token=secret&part=1", "https://host/data.zip?…"),
        ("s3://key:secret@bucket/data.tar", "s3://bucket/data.tar"),
        ("my pictures/what?.tar", "my pictures/what?.tar"),
        ("sample", "sample"),
    ],
)
def test_without_secrets(address, shown):
    assert without_secrets(address) == shown


def test_password_with_special_characters():
    assert without_password("postgresql://me:a:b?c@host/runs") == "postgresql://host/runs"


def test_recorded_parameters_hold_no_secret(changed):
    path = changed("flowers.data.source", "https://me:secret@host/data.zip?key=secret")
    pipeline = load_pipeline("flowers", path)
    assert pipeline.data.source.count("secret") == 2
    assert pipeline.parameters()["data.source"] == "https://host/data.zip?…"
