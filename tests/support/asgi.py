"""Requests to an ASGI app without a server."""

import asyncio
from typing import Any

from flowerml.server.errors import HttpError

JSON = "application/json"


def post(app: Any, body: bytes, content_type: str | None = JSON, *, method: str = "POST") -> tuple[int, bytes]:
    """Return status and body of the reply; those of an HttpError are its status and its message."""
    try:
        return 200, asyncio.run(send(app, body, content_type, method=method))
    except HttpError as error:
        return error.status, error.message.encode()


async def send(app: Any, body: bytes, content_type: str | None = JSON, *, method: str = "POST") -> bytes:
    """Return the body of the reply; raises what the app raises."""
    reply = bytearray()

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def take(message: dict[str, Any]) -> None:
        reply.extend(message.get("body", b""))

    headers = [(b"content-type", content_type.encode())] if content_type is not None else []
    scope = {"type": "http", "method": method, "path": "/models/m/invocations", "query_string": b"", "headers": headers}
    await app(scope, receive, take)
    return bytes(reply)
