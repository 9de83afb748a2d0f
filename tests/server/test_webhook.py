"""The webhook: MLflow's deliveries make the server look, and nobody else's do."""

import asyncio
import json
import time

import pytest
from mlflow.webhooks.delivery import _generate_hmac_signature

from flowerml.core.errors import FlowermlError
from flowerml.server.context import KEY, Context
from flowerml.server.errors import HttpError
from flowerml.server.webhook import MAX_BYTES, SECRET_VARIABLE, Webhook

SECRET = "0123456789abcdef"


class Served:
    """A model that counts how often it is looked at."""

    def __init__(self, name: str, registered_name: str | None) -> None:
        self.name, self.registered_name, self.looks = name, registered_name, 0

    def check_soon(self) -> None:
        self.looks += 1


@pytest.fixture
def models():
    return [Served("shop", "flowers"), Served("reviews", "reviews"), Served("folder", None)]


@pytest.fixture
def deliver(models):
    webhook = Webhook(models, SECRET)

    def deliver(body: bytes, *, delivery="1", at=None, secret=SECRET):
        sent = str(int(time.time() if at is None else at))
        signed = _generate_hmac_signature(secret, delivery, sent, body.decode())
        headers = {"x-mlflow-delivery-id": delivery, "x-mlflow-timestamp": sent, "x-mlflow-signature": signed}
        scope = {"headers": [(name.encode(), value.encode()) for name, value in headers.items()]}
        scope[KEY] = Context("id", "POST", "/webhooks/mlflow")
        messages = []

        async def receive():
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message):
            messages.append(message)

        asyncio.run(webhook(scope, receive, send))
        return messages[0]["status"], json.loads(messages[1]["body"])

    return deliver


def payload(name) -> bytes:
    data = {"name": name, "alias": "champion", "version": "2"}
    return json.dumps({"entity": "model_version_alias", "action": "created", "data": data}).encode()


def test_delivery_makes_model_look(deliver, models):
    assert deliver(payload("flowers")) == (202, {"checking": ["shop"]})
    assert [model.looks for model in models] == [1, 0, 0]


def test_delivery_of_another_model_does_nothing(deliver, models):
    for number, name in enumerate(("roses", None, ["flowers"])):
        assert deliver(payload(name), delivery=str(number)) == (202, {"checking": []})
    assert [model.looks for model in models] == [0, 0, 0]


def test_repeated_delivery_does_nothing_more(deliver, models):
    assert deliver(payload("flowers")) == (202, {"checking": ["shop"]})
    assert deliver(payload("flowers")) == (202, {"checking": []})
    assert models[0].looks == 1


@pytest.mark.parametrize("changed", [{"secret": "fedcba9876543210"}, {"at": 1}, {"at": 10**15}])
def test_forged_or_old_delivery_is_refused(deliver, models, changed):
    with pytest.raises(HttpError) as caught:
        deliver(payload("flowers"), **changed)
    assert caught.value.status == 401 and models[0].looks == 0


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b'{"data": []}', b'{"data": 1}', b"[" * 100_000])
def test_body_that_is_no_delivery(deliver, body):
    with pytest.raises(HttpError) as caught:
        deliver(body)
    assert caught.value.status == 400


def test_large_body_is_refused(deliver):
    with pytest.raises(HttpError) as caught:
        deliver(b" " * (MAX_BYTES + 1))
    assert caught.value.status == 413


def test_secret_from_environment(monkeypatch):
    monkeypatch.delenv(SECRET_VARIABLE, raising=False)
    assert Webhook.from_environment([]) is None
    monkeypatch.setenv(SECRET_VARIABLE, "short")
    with pytest.raises(FlowermlError, match="at least 16 characters"):
        Webhook.from_environment([])
