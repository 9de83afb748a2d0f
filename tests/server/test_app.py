"""The application around the answers: routes, ids, the access log, health, and errors of its own."""

import json
import logging

import pytest
from starlette.testclient import TestClient

from tests.server.conftest import ADDRESS, Only, make_app

TEXT = "A good film that was never dull."


def code(reply):
    return reply.status_code, reply.json()["error"]["code"]


def test_each_model_has_its_path(both, picture):
    for name, body in (("flowers", picture), ("reviews", TEXT.encode())):
        for path in (f"/models/{name}/predict", f"/predict?model={name}"):
            assert both.post(path, content=body).json()["model"]["name"] == name


def test_bare_path_of_several_models(both):
    reply = both.post("/predict", content=b"good")
    assert code(reply) == (404, "which_model")
    assert "/models/flowers/predict" in reply.json()["error"]["message"]
    assert code(both.post("/invocations", json={})) == (404, "which_model")


def test_unknown_model(both):
    reply = both.post("/models/flower/predict", content=b"good")
    assert code(reply) == (404, "no_such_model")
    assert "did you mean 'flowers'?" in reply.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/predct", "/models/flowers", "/models//predict", "/" + "a" * 5000, "/%ff/%00"])
def test_unknown_path(both, path):
    reply = both.post(path, content=b"good")
    assert reply.status_code == 404 and len(reply.content) < 400


def test_other_methods(both):
    reply = both.get("/models/flowers/predict")
    assert (code(reply), reply.headers["allow"]) == ((405, "bad_method"), "POST, OPTIONS")
    assert both.options("/health").headers["allow"] == "GET, HEAD, OPTIONS"
    assert both.head("/health").status_code == 200


def test_request_id_is_kept_where_it_is_a_name(both):
    for sent, is_kept in (("order-7.1", True), ("a" * 65, False), ("a b", False), ('"', False), ("", False)):
        reply = both.get("/ping", headers={"x-request-id": sent})
        assert (reply.headers["x-request-id"] == sent) == is_kept
        assert reply.headers["x-request-id"]


def test_access_log_has_no_inputs(both, caplog):
    with caplog.at_level(logging.INFO, "flowerml.access"):
        both.post("/models/reviews/predict?top_k=1", json={"inputs": [TEXT, TEXT]}, headers={"x-request-id": "order"})
        both.get("/quote%22%0a%1b[31m")
    first, second = (json.loads(record.getMessage()) for record in caplog.records)
    assert first.pop("time") and first.pop("ms") > 0 and first.pop("sent") > 100
    assert first == {
        "id": "order",
        "method": "POST",
        "path": "/models/reviews/predict",
        "status": 200,
        "items": 2,
        "model": "reviews",
        "version": None,
        "received": len(json.dumps({"inputs": [TEXT, TEXT]}, separators=(",", ":"))),
    }
    assert second["status"] == 404 and "\\x1b" in second["path"]


def test_mlflow_route_counts_rows_and_has_mlflow_keys(reviews, caplog):
    rows = {"dataframe_split": {"columns": ["text"], "data": [[TEXT]] * 3}}
    with caplog.at_level(logging.INFO, "flowerml.access"):
        assert len(reviews.post("/invocations", json=rows).json()["predictions"]) == 3
    assert json.loads(caplog.records[-1].getMessage())["items"] == 3
    reply = reviews.post("/invocations", content=b"{", headers={"content-type": "application/json"})
    assert reply.json().keys() == {"error", "request_id", "error_code", "message"}


def test_bug_is_an_error_without_a_trace(models, caplog):
    app = make_app(Only(models, "reviews"))

    async def answer(*_, **__):
        raise RuntimeError("a secret in /etc/passwd")

    app.routes.engine.answer = answer
    with TestClient(app, base_url=ADDRESS) as client, caplog.at_level(logging.ERROR):
        reply = client.post("/predict", content=b"good", headers={"x-request-id": "order"})
    assert code(reply) == (500, "internal_error")
    assert "secret" not in reply.text and "request order failed" in caplog.text


def test_without_a_model(models):
    app = make_app(Only(models, "reviews"))
    app.routes.models.get = lambda name: type("Served", (), {"name": name, "current": None})
    with TestClient(app, base_url=ADDRESS) as client:
        reply = client.post("/predict", content=b"good")
        assert (code(reply), reply.headers["retry-after"]) == ((503, "no_model"), "5")
        assert client.get("/ready").status_code == 503
        assert client.get("/health").json()["status"] == "loading"
        assert client.get("/openapi.json").json()["paths"].keys() >= {"/health"}


def test_what_is_here(both):
    index = both.get("/").json()
    assert [model["predict"] for model in index["models"]] == ["/models/flowers/predict", "/models/reviews/predict"]
    assert both.get("/ready").json() == {"ready": True}
    assert both.get("/health").json()["models"].keys() == {"flowers", "reviews"}
    assert both.get("/ping").text == "\n"
    both.post("/models/reviews/predict", content=TEXT.encode())
    assert "flowerml" in both.get("/metrics").text


def test_bodies_of_all_requests_are_bounded(models):
    app = make_app(Only(models, "reviews"), receiving_bytes=1000)
    with TestClient(app, base_url=ADDRESS) as client:
        reply = client.post("/predict", content=b"x" * 1001)
        assert (code(reply), reply.headers["retry-after"]) == ((503, "overloaded"), "1")
        for _ in range(5):
            assert client.post("/predict", content=b"good " * 100).status_code == 200
    assert app.routes.receiving.held == 0
