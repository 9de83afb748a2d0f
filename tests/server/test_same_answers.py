"""The mounted /invocations beside a real `mlflow models serve`: the same answers wherever that says 200."""

import base64
import io
import json
import shutil

import pandas as pd
import pytest

from flowerml.server.loading import load
from flowerml.serving.version import META_FILE
from tests.serving.test_hostile_requests import BY_MLFLOW, PARAMETERS, PICTURES, TEXTS
from tests.support.asgi import post
from tests.support.registered import jpeg

pytestmark = pytest.mark.extended

JSON = "application/json"
CSV = "text/csv"
PARQUET = "application/vnd.apache.parquet"


def split(column, values, **params):
    frame = {"columns": [column], "data": [[value] for value in values]}
    return json.dumps({"dataframe_split": frame, "params": params}).encode(), JSON


def table(column, values):
    """Return rows as CSV and as Parquet."""
    frame, buffer = pd.DataFrame({column: values}), io.BytesIO()
    frame.to_parquet(buffer)
    return [(frame.to_csv(index=False).encode(), CSV), (buffer.getvalue(), PARQUET)]


def bodies(column, good, hostile):
    """Return requests of every form: (body, content type)."""
    requests = [split(column, [value, good, None]) for value, _ in hostile.values() if value != TEXTS["50 MB"][0]]
    requests += [split(column, [good], top_k=value) for value, _ in PARAMETERS.values()]
    requests += [split(column, [good], explain=True), split(column, [good, good], explain=False, other=1)]
    requests += table(column, [good, good])
    forms = [
        {"dataframe_records": [{column: good}, {column: None}]},
        {"instances": [{column: good}]},
        {"instances": [good, good]},
        {"inputs": {column: [good]}},
        {"inputs": [good, good]},
        {"inputs": [None, 7]},
        {"inputs": []},
        {"input": [good]},
        {"messages": [{"role": "user", "content": good}]},
        {"dataframe_split": {"index": [5], "columns": [column], "data": [[good]]}},
        {"dataframe_split": {"columns": [column, "more"], "data": [[good, 1]]}},
        {"inputs": [good], "params": None},
    ]
    requests += [(json.dumps(form).encode(), "application/json; charset=UTF-8") for form in forms]
    requests += [(body, JSON) for body, _ in BY_MLFLOW.values()]
    return requests


def check_same(server, app, requests):
    """Check each request at both; return how many of MLflow's answers were 200."""
    answered = 0
    for body, content_type in requests:
        theirs = server.post(body, content_type=content_type)
        status, content = post(app, body, content_type)
        if theirs.status == 200:
            answered += 1
            assert (status, json.loads(content)) == (200, json.loads(theirs.text)), body[:300]
        else:
            assert 400 <= status < 500, body[:300]
    return answered


@pytest.fixture
def first_version(reproduced, tmp_path):
    """Return a function that loads the first version of a model, from a copy as MLflow downloads it."""

    def load_version(name):
        folder = tmp_path / name
        shutil.copytree(reproduced.folder / f"models/{name}/mlflow", folder)
        (folder / META_FILE).write_text(f"model_name: {name}\nmodel_version: '1'\n")
        return load(folder, f"models:/{name}/1", seconds=60.0)

    return load_version


def test_pictures(first_version, flowers_served):
    good = base64.b64encode(jpeg(1)).decode()
    loaded = first_version("flowers")
    assert check_same(flowers_served, loaded.invocations, bodies("image", good, PICTURES)) > 40


def test_texts(first_version, reviews_served):
    loaded = first_version("reviews")
    assert check_same(reviews_served, loaded.invocations, bodies("text", "A good film.", TEXTS)) > 25
