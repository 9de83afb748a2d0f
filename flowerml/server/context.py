"""What is known of a request while it is answered: its id and what the access log and the metrics say of it."""

import os
import random
import re
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from starlette.types import Scope

from flowerml.classifier.prediction import Prediction
from flowerml.core.errors import InputError

KEY = "flowerml"
"""The key of a request's context in its ASGI scope."""

Observe = Callable[[Any, Prediction | InputError], None]
"""Called with each raw input (or the InputError in its place) and its answer."""

# Not os.urandom at each request: it lets other threads run, and waits up to a millisecond for its turn.
_ids = random.Random(os.urandom(16))
_ID = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")


@dataclass(slots=True)
class Context:
    """A request that is being answered.

    `received` and `sent` are bytes of bodies, `held` those of `received` that count against what the process may hold.
    `route` is one of a fixed list, for metrics; `path` is what was asked for.
    """

    id: str
    method: str
    path: str
    started: float = field(default_factory=perf_counter)
    route: str = "other"
    status: int = 0
    items: int = 0
    received: int = 0
    held: int = 0
    sent: int = 0
    body_ended: bool = False
    model: str | None = None
    version: str | None = None
    observe: Observe | None = None

    @classmethod
    def of(cls, scope: Scope) -> "Context":
        """Return the context of a request; its id is that of the header X-Request-ID, where that is a plain name."""
        return cls(_request_id(scope["headers"]), scope["method"], scope["path"])

    def uses(self, model: dict[str, str | None]) -> None:
        """Say which model answers: {"name", "version"}."""
        self.model, self.version = model["name"], model["version"]

    def seconds(self) -> float:
        """Return the seconds since the request began."""
        return perf_counter() - self.started


current: ContextVar[Context | None] = ContextVar("flowerml_request", default=None)
"""The request whose rows MLflow's mounted app answers; threads that it starts see it, too."""


def _request_id(headers: Iterable[tuple[bytes, bytes]]) -> str:
    for name, value in headers:
        if name == b"x-request-id" and _ID.fullmatch(value):
            return value.decode("ascii")
    return f"{_ids.getrandbits(64):016x}"
