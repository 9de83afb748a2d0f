"""What the page's server answers at all, and what a browser may do with it."""

import json
import re
from typing import Any

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LARGEST_QUESTION = 8 * 2**20
OPEN = re.compile(
    r"/(|config|theme\.css|favicon\.ico|manifest\.json|robots\.txt|(static|assets)/.*"
    r"|gradio_api/(startup-events|info|theme\.css|upload|upload_progress|heartbeat/\w+|reset/?|cancel"
    r"|queue/(join|data|status)|file=(?!\w+:).*))"
)
# The browser itself then sends nothing anywhere else. Gradio's scripts are inline, and its templates are compiled.
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
    """Answers 404 for what the page does not use of Gradio's server, such as fetching files from elsewhere."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        refusal: PlainTextResponse | None = None
        if not OPEN.fullmatch(scope["path"]):
            refusal = PlainTextResponse("not found", 404)
        elif scope["path"] == "/gradio_api/queue/join":
            body = await _body(receive)
            refusal = _refusal(body)
            receive = _again(body or b"", receive)
        await (refusal or self.app)(scope, receive, _with_headers(send))


def _refusal(body: bytes | None) -> PlainTextResponse | None:
    if body is None:
        return PlainTextResponse("too large", 413)
    try:
        strange = _names_address(json.loads(body))
    except (ValueError, RecursionError):
        return PlainTextResponse("not JSON", 400)
    return PlainTextResponse("a file must have been uploaded here", 403) if strange else None


def _names_address(value: Any) -> bool:
    """Whether a file is named by an address: Gradio would fetch it, wherever it is."""
    if isinstance(value, dict):
        path = value.get("path")
        return (isinstance(path, str) and "://" in path) or any(map(_names_address, value.values()))
    return isinstance(value, list) and any(map(_names_address, value))


async def _body(receive: Receive) -> bytes | None:
    """The whole body; None above LARGEST_QUESTION."""
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > LARGEST_QUESTION:
            return None
    return body


def _again(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body that was read, and then goes on."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def first_the_body() -> Message:
        return messages.pop() if messages else await receive()

    return first_the_body


def _with_headers(send: Send) -> Send:
    own = [(name.encode(), value.encode()) for name, value in HEADERS.items()]

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", []), *own]}
        await send(message)

    return sent
