"""Middleware that closes what the page does not use of Gradio's server, and restricts what a browser may load."""

import json
import re
from typing import Any

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY_BYTES = 8 * 2**20
ALLOWED_PATHS = re.compile(
    r"/(|config|theme\.css|favicon\.ico|manifest\.json|robots\.txt|(static|assets)/.*"
    r"|gradio_api/(startup-events|info|theme\.css|upload|upload_progress|heartbeat/\w+|reset/?|cancel"
    r"|queue/(join|data|status)|file=(?!\w+:).*))"
)
# Makes the browser send nothing elsewhere. Gradio's scripts are inline, and it compiles templates at run time.
HEADERS = {
    "content-security-policy": (
        "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; "
        "object-src 'none'; form-action 'none'; frame-ancestors 'self'"
    ),
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class Guard:
    """ASGI middleware that answers 404 for paths the page does not use, such as those that fetch remote files.

    Gradio registers these routes whether a page uses them or not.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        refusal: PlainTextResponse | None = None
        if not ALLOWED_PATHS.fullmatch(scope["path"]):
            refusal = PlainTextResponse("not found", 404)
        elif scope["path"] == "/gradio_api/queue/join":
            body = await _body(receive)
            refusal = _refusal(body)
            receive = _replay(body or b"", receive)
        await (refusal or self.app)(scope, receive, _with_headers(send))


def _refusal(body: bytes | None) -> PlainTextResponse | None:
    if body is None:
        return PlainTextResponse("too large", 413)
    try:
        has_url = _has_url(json.loads(body))
    except (ValueError, RecursionError):
        return PlainTextResponse("not JSON", 400)
    return PlainTextResponse("a file must be uploaded, not named by a URL", 403) if has_url else None


def _has_url(value: Any) -> bool:
    """Return whether a file is named by a URL: Gradio would fetch it from wherever it is."""
    if isinstance(value, dict):
        path = value.get("path")
        return (isinstance(path, str) and "://" in path) or any(map(_has_url, value.values()))
    return isinstance(value, list) and any(map(_has_url, value))


async def _body(receive: Receive) -> bytes | None:
    """Return the whole body; None above MAX_BODY_BYTES."""
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > MAX_BODY_BYTES:
            return None
    return body


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that replays the body that was read, then continues with the original."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return messages.pop() if messages else await receive()

    return replayed


def _with_headers(send: Send) -> Send:
    headers = [(name.encode(), value.encode()) for name, value in HEADERS.items()]

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", []), *headers]}
        await send(message)

    return send_with_headers
