"""MLflow's scoring server as it is mounted: its answers, and none of the bodies of its errors."""

import asyncio
import io
import json
import os

import pandas as pd
import pytest

from flowerml.server.context import Context, current
from flowerml.server.errors import HttpError
from tests.serving.test_hostile_requests import BY_MLFLOW
from tests.support.asgi import JSON, send

CSV = "text/csv"
PARQUET = "application/vnd.apache.parquet"
SECRET = "a secret that nobody else may see, " * 100


def ask(app, body: bytes, content_type: str | None = JSON, method: str = "POST"):
    """Return the answers to a body, or raise what the app raises."""
    return json.loads(asyncio.run(send(app, body, content_type, method=method)))["predictions"]


@pytest.fixture
def texts(models):
    return models.get("reviews").current


def parquet(texts) -> bytes:
    buffer = io.BytesIO()
    pd.DataFrame({"text": texts}).to_parquet(buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b'{"dataframe_split": {"columns": ["text"], "data": [["A good film."]]}}', JSON),
        (b'{"dataframe_records": [{"text": "A good film."}]}', "application/json; charset=utf-8"),
        (b'{"instances": [{"text": "A good film."}]}', JSON),
        (b'{"inputs": ["A good film."], "params": {"top_k": 5}}', JSON),
        (b"text\nA good film.\n", CSV),
        (parquet(["A good film."]), PARQUET),
    ],
    ids=["dataframe_split", "dataframe_records", "instances", "inputs", "CSV", "Parquet"],
)
def test_answer_is_that_of_predict(texts, body, content_type):
    (answer,) = ask(texts.invocations, body, content_type)
    (prediction,) = texts.classifier.predict(["A good film."])
    assert answer["top"] == prediction.to_json()["top"]
    assert answer["model"] == {"name": "reviews", "version": None}


def test_lone_surrogate_fails_no_row(texts):
    answers = ask(texts.invocations, b'{"inputs": ["\\ud800 good", ""]}')
    assert [answer["error"]["code"] for answer in answers] == [None, "empty_text"]


def test_parameters_are_taken(texts):
    (answer,) = ask(texts.invocations, b'{"inputs": ["A good film."], "params": {"top_k": 1, "explain": true}}')
    assert len(answer["top"]) == 1 and answer["explanation"]["words"]


@pytest.mark.parametrize("name", BY_MLFLOW)
def test_error_of_mlflow_is_discreet(texts, name):
    with pytest.raises(HttpError) as caught:
        ask(texts.invocations, BY_MLFLOW[name][0])
    assert caught.value.status == 400
    check_discreet(caught.value.message)


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (json.dumps({"inputs": [SECRET]}).encode()[:-1], JSON, 400),
        (json.dumps({"inputs": {"secret": SECRET}}).encode(), JSON, 400),
        (json.dumps({SECRET: [SECRET]}).encode(), JSON, 400),
        (json.dumps({"dataframe_split": {"columns": [SECRET], "data": [[SECRET]]}}).encode(), JSON, 400),
        (json.dumps({"inputs": ["a"], "params": {SECRET: SECRET}}).encode() + b"x", JSON, 400),
        (json.dumps({"inputs": ["a"], "params": {"top_k": SECRET}}).encode(), JSON, 400),
        (b'{"inputs": ["%s\xff"]}' % SECRET.encode(), JSON, 400),
        (f'"{SECRET}'.encode(), CSV, 400),
        (f'"{SECRET}'.encode() + b"\xff", CSV, 400),
        (SECRET.encode(), PARQUET, 400),
        (b"{}", f"a/{SECRET}", 415),
        (b"{}", f"application/json; {SECRET}=1", 415),
        (b"{}", "application/json; charset=latin-1", 415),
        (b"{}", None, 415),
    ],
)
def test_error_does_not_quote_request(texts, body, content_type, status):
    with pytest.raises(HttpError) as caught:
        ask(texts.invocations, body, content_type)
    assert caught.value.status == status
    check_discreet(caught.value.message)


def check_discreet(message):
    assert len(json.dumps(message)) < 250
    assert not any(word in message for word in ("Traceback", "site-packages", ".py", "flowerml", "/tmp", "File "))
    assert SECRET[: len(SECRET) // 100 * 5] not in message


def test_wrong_method(texts):
    with pytest.raises(HttpError) as caught:
        ask(texts.invocations, b"", method="GET")
    assert (caught.value.status, caught.value.headers) == (405, {"allow": "POST"})


def test_rows_are_observed(texts):
    rows = []
    context = Context("id", "POST", "/invocations", observe=lambda raw, answer: rows.append(raw))
    token = current.set(context)
    try:
        ask(texts.invocations, b'{"inputs": ["good", "bad"]}')
    finally:
        current.reset(token)
    assert rows == ["good", "bad"]


def test_work_ends_with_its_request(texts):
    rows = []
    token = current.set(Context("id", "POST", "/invocations", observe=lambda raw, answer: rows.append(raw)))

    async def leave():
        working = asyncio.ensure_future(send(texts.invocations, json.dumps({"inputs": ["good"] * 5000}).encode()))
        while not rows:
            await asyncio.sleep(0.001)
        working.cancel()
        with pytest.raises(asyncio.CancelledError):
            await working

    try:
        asyncio.run(leave())  # which waits for the thread
    finally:
        current.reset(token)
    assert len(rows) < 5000


def test_environment_is_left_alone(texts):
    assert "_MLFLOW_IS_IN_SERVING_ENVIRONMENT" not in os.environ
    assert "MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT" not in os.environ
