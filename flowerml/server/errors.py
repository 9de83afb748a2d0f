"""Errors as a client sees them: a status, and one JSON object that says what is wrong and what to do.

    {"error": {"code": "too_large", "message": "…"}, "request_id": "…"}

On MLflow's routes the object has MLflow's own keys `error_code` and `message` as well.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

from starlette.types import Send

from flowerml.core.display import printable
from flowerml.server.context import Context

MAX_ECHO = 80
"""Characters of a request that a message may repeat."""

MLFLOW_CODES = {
    400: "BAD_REQUEST",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "RESOURCE_DOES_NOT_EXIST",
    413: "REQUEST_LIMIT_EXCEEDED",
    429: "REQUEST_LIMIT_EXCEEDED",
    500: "INTERNAL_ERROR",
    503: "TEMPORARILY_UNAVAILABLE",
}
JSON = b"application/json"

_encode = json.JSONEncoder(separators=(",", ":")).encode


class HttpError(Exception):
    """A request that is refused. `code` is a stable name for programs; the message neither a trace nor a path.

    >>> HttpError(415, "unsupported_media_type", "expected a picture").status
    415
    """

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = dict(headers or {})


class Busy(HttpError):
    """More requests wait than the server takes; it may be asked again after `retry_after` seconds."""

    def __init__(self, retry_after: float, message: str = "more requests wait than this server takes") -> None:
        seconds = max(1, math.ceil(retry_after))
        super().__init__(429, "busy", f"{message}; ask again in {seconds} s", {"retry-after": str(seconds)})
        self.retry_after = retry_after


class OutOfTime(HttpError):
    """A request that could not be answered in the time there was."""

    def __init__(self, message: str = "the request could not be answered in time; send fewer inputs") -> None:
        super().__init__(503, "out_of_time", message, {"retry-after": "1"})


class ClientGone(Exception):
    """The client closed the connection before it had its answer."""


def shown(text: object) -> str:
    """Return a part of a request as a message may repeat it: quoted, on one line and short.

    >>> shown("top-k")
    "'top-k'"
    """
    return f"'{printable(str(text), MAX_ECHO)}'"


def error_body(code: str, message: str, request_id: str, /, **more: Any) -> bytes:
    """Return the body of an error, with `more` keys."""
    return to_bytes({"error": {"code": code, "message": message}, "request_id": request_id, **more})


async def send_error(send: Send, context: Context, error: HttpError) -> None:
    """Answer with an error; on MLflow's routes with MLflow's keys as well."""
    more = {}
    if context.route.endswith("/invocations"):
        more = {"error_code": MLFLOW_CODES.get(error.status, "BAD_REQUEST"), "message": error.message}
    body = error_body(error.code, error.message, context.id, **more)
    headers = {name.lower(): value for name, value in error.headers.items()}
    await send_body(send, error.status, body, JSON, headers)


async def send_json(send: Send, status: int, value: Any, headers: Mapping[str, str] | None = None) -> None:
    """Answer with JSON; `headers` have names in lower case."""
    await send_body(send, status, to_bytes(value), JSON, headers)


async def send_body(
    send: Send, status: int, body: bytes, content_type: bytes, headers: Mapping[str, str] | None = None
) -> None:
    """Answer with a whole body."""
    fields = [(b"content-type", content_type), (b"content-length", b"%d" % len(body))]
    if headers:
        fields += [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})


def to_bytes(value: Any) -> bytes:
    """Return compact JSON in ASCII, which holds any text, lone surrogates too."""
    return _encode(value).encode("ascii")
