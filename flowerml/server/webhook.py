"""POST /webhooks/mlflow: MLflow says that an alias has moved, and the server looks at once.

MLflow signs what it sends (Standard Webhooks, https://www.standardwebhooks.com): an HMAC-SHA256, with the secret that
the webhook was made with, over the delivery's id, its time and its body. A call only makes the server look at its
registry, so that one that is missed, repeated or out of order does no harm.
"""

import base64
import hashlib
import hmac
import os
import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from flowerml.core import schema
from flowerml.core.errors import FlowermlError
from flowerml.server.bodies import Incoming, Receiving
from flowerml.server.context import KEY
from flowerml.server.errors import HttpError, send_json

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

SECRET_VARIABLE = "FLOWERML_WEBHOOK_SECRET"
MIN_SECRET = 16  # characters
VERSION = "v1"
TOLERANCE = 300.0  # seconds between MLflow's clock and ours; an older delivery is a replay
MAX_BYTES = 2**18
SECONDS = 10.0  # for the body to arrive
DELIVERIES = 1000  # that are remembered

PAYLOAD = schema.mapping(schema.plain)


class Follower(Protocol):
    """A model that is served; `registered_name` is that of the registered model whose alias it follows, if any."""

    name: str

    @property
    def registered_name(self) -> str | None: ...

    def check_soon(self) -> None: ...


class Webhook:
    """The ASGI app that MLflow calls; `secret` is the one that the webhook was made with there."""

    def __init__(self, models: Sequence[Follower], secret: str) -> None:
        if len(secret) < MIN_SECRET:
            raise FlowermlError(
                f"${SECRET_VARIABLE}: expected at least {MIN_SECRET} characters, found {len(secret)}; make one with: "
                "openssl rand -hex 32"
            )
        self._models = models
        self._secret = secret.encode()
        self._receiving = Receiving(4 * MAX_BYTES)
        self._deliveries: OrderedDict[str, None] = OrderedDict()

    @classmethod
    def from_environment(cls, models: Sequence[Follower]) -> "Webhook | None":
        """Return the webhook, where FLOWERML_WEBHOOK_SECRET is set."""
        secret = os.environ.get(SECRET_VARIABLE)
        return cls(models, secret) if secret else None

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Answer a delivery, with the names of the models that are looked at; raises HttpError."""
        context = scope[KEY]
        incoming = Incoming(receive, context, self._receiving, limit=MAX_BYTES, seconds=SECONDS, declared=None)
        try:
            body = await incoming.read()
        finally:
            self._receiving.release(context)
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        delivery = self._verified(headers, body)
        is_repeated = delivery in self._deliveries
        self._deliveries[delivery] = None
        if len(self._deliveries) > DELIVERIES:
            self._deliveries.popitem(last=False)
        await send_json(send, 202, {"checking": [] if is_repeated else self._check(body)})

    def _verified(self, headers: dict[str, str], body: bytes) -> str:
        """Return the id of a delivery that MLflow has signed; raises HttpError 401 for any other."""
        delivery, sent = headers.get("x-mlflow-delivery-id", ""), headers.get("x-mlflow-timestamp", "")
        content = f"{delivery}.{sent}.".encode("latin-1") + body
        signature = base64.b64encode(hmac.new(self._secret, content, hashlib.sha256).digest()).decode()
        given = headers.get("x-mlflow-signature", "").encode("latin-1")
        if not hmac.compare_digest(given, f"{VERSION},{signature}".encode()):
            raise HttpError(401, "bad_signature", f"expected a delivery of MLflow's, signed with ${SECRET_VARIABLE}")
        if not (sent.isdecimal() and len(sent) < 20 and abs(time.time() - int(sent)) < TOLERANCE):
            raise HttpError(401, "too_old", f"expected a delivery of the last {TOLERANCE:g} s; check both clocks")
        return delivery

    def _check(self, body: bytes) -> list[str]:
        """Have the models looked at that a delivery is about; return their names."""
        try:
            payload = schema.parse(body)
            PAYLOAD(payload, "")
            PAYLOAD(payload.get("data", {}), "data")
        except ValueError:
            raise HttpError(400, "bad_request", "expected a JSON object, as MLflow sends it") from None
        name = payload.get("data", {}).get("name")
        followers = [model for model in self._models if name is not None and model.registered_name == name]
        for model in followers:
            model.check_soon()
        return [model.name for model in followers]
