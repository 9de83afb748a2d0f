"""What of an address may be shown and recorded."""

import io
import logging
import time

import pytest

from flowerml.core.errors import FlowermlError
from flowerml.core.urls import ScrubbedRecord, scrub, without_password, without_secrets
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


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("API request to http://bob:pw@host:80/api failed", "API request to http://host:80/api failed"),
        ("http://bob:p/s@w@host/x and a@b", "http://host/x and a@b"),
        ("see 'https://token@host/x?sig=1' or http://host:80/a@b", "see 'https://host/x?…' or http://host:80/a@b"),
        ("http://h/x?sig=1; give http://h/y?…, or http://h/z?", "http://h/x?…; give http://h/y?…, or http://h/z?"),
        ("url: /data?a=1&X-Amz-Signature=s&b=2 (Caused", "url: /data?a=1&X-Amz-Signature=…&b=2 (Caused"),
        ("connection failed: host=h password=pw user=me", "connection failed: host=h password=… user=me"),
        ("Authorization: Bearer abcdefghijk", "Authorization: Bearer …"),
        ("/srv/job@feature: no such file", "/srv/job@feature: no such file"),
        ("sqlite:////srv/job@feature/mlflow.db", "sqlite:////srv/job@feature/mlflow.db"),
    ],
)
def test_text_is_scrubbed(text, shown):
    assert scrub(text) == shown
    assert scrub(shown) == shown


@pytest.mark.parametrize("part", ["://", "x://a:", "a", "?a", "&token", "http://a@"])
def test_time_grows_with_the_length_alone(part):
    assert seconds(part * 8_000) < 12 * seconds(part * 2_000) + 0.1  # 4 times; 16 if it grew with the square


def seconds(text):
    start = time.process_time()
    scrub(text)
    return time.process_time() - start


def test_errors_show_no_password():
    assert str(FlowermlError("http://me:secret@host is down")) == "http://host is down"


def test_logs_show_no_password(monkeypatch):
    monkeypatch.setattr(logging, "_logRecordFactory", ScrubbedRecord)
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    log = logging.Logger("test")
    log.addHandler(handler)
    try:
        raise OSError("http://me:secret@host")
    except OSError:
        log.exception("no answer from %s", "http://me:secret@host")
    assert "no answer from http://host" in stream.getvalue()
    assert "OSError: http://host" in stream.getvalue()
    assert "secret" not in stream.getvalue()
