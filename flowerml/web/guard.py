"""Middleware between the network and Gradio: lets only the page's own requests in, and keeps its uploads.

Gradio registers some sixty routes whether a page uses them or not, among them ones that fetch remote files or return
local ones; it checks an upload's path only where the value says that it is a file.
"""

import asyncio
import hashlib
import json
import logging
import re
import secrets
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qs, urlencode

from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flowerml.core.errors import FlowermlError
from flowerml.web import bodies
from flowerml.web.bodies import BodyError
from flowerml.web.hosts import Hosts
from flowerml.web.uploads import Uploads

MAX_PICTURE_BYTES = 32 * 2**20  # the limit of served models
MAX_BODY_BYTES = 8 * 2**20
MAX_RECEIVING_BYTES = 128 * 2**20
UPLOAD_SECONDS = 120.0
BODY_SECONDS = 20.0
SEND_SECONDS = 60.0

API = "/gradio_api"
PUBLIC = re.compile(r"/(theme\.css|favicon\.ico|manifest\.json|robots\.txt|(static|assets)(/[\w.@-]+)+)", re.ASCII)
FILE = re.compile(rf"{API}/file=([\w-]{{1,64}})", re.ASCII)
METHODS = {
    "/": ("GET", "HEAD"),
    f"{API}/upload": ("POST",),
    f"{API}/upload_progress": ("GET",),
    f"{API}/queue/join": ("POST",),
    f"{API}/queue/data": ("GET",),
    f"{API}/cancel": ("POST",),
    f"{API}/reset": ("POST",),
}
SESSION = re.compile(r"[\w-]{43}", re.ASCII)
IMAGES = {
    b"\xff\xd8\xff": "image/jpeg",
    b"\x89PNG": "image/png",
    b"GIF8": "image/gif",
    b"BM": "image/bmp",
    b"RIFF": "image/webp",
    b"II": "image/tiff",
    b"MM": "image/tiff",
}
# Makes the browser send nothing elsewhere. Gradio's scripts are inline, and it compiles templates at run time.
HEADERS = {
    "content-security-policy": (
        "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; "
        "object-src 'none'; form-action 'none'; base-uri 'self'; frame-ancestors 'self'"
    ),
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
PICTURE_HEADERS = {"content-disposition": "attachment", "cache-control": "no-store"}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Call:
    """One request: what it asks for, and the session it belongs to. Gradio gets `scope` and `receive`."""

    scope: Scope
    receive: Receive
    headers: dict[str, str]
    session: str | None

    @property
    def path(self) -> str:
        path = self.scope["path"]
        assert isinstance(path, str)
        return path

    def with_body(self, value: dict[str, Any]) -> "Call":
        """Return the call with another JSON body."""
        body = json.dumps(value).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        kept = [pair for pair in self.scope["headers"] if pair[0] not in (b"content-type", b"content-length")]
        return replace(self, scope={**self.scope, "headers": [*kept, *headers]}, receive=_replay(body, self.receive))

    def scoped(self, session_hash: str) -> str:
        """Return Gradio's name of a tab, made the browser's own: another browser that knows it gets another name."""
        return hashlib.sha256(f"{self.session} {session_hash}".encode()).hexdigest()[:32]


class Guard:
    """ASGI middleware that answers 403 to foreign hosts and origins, 404 to what the page does not use."""

    def __init__(self, app: ASGIApp, *, hosts: Hosts, uploads: Uploads, functions: frozenset[int]) -> None:
        self.app = app
        self.hosts = hosts
        self.uploads = uploads
        self.functions = functions
        self.receiving = 0
        self.cookie = cookie_name(hosts.port)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(Headers(scope=scope))
        session = session_of(cookie_parser(headers.get("cookie", "")), self.hosts.port)
        call = Call(_without_proxy_headers(scope), receive, headers, session)
        extra = dict(HEADERS)
        if call.path == "/" and session is None:
            extra["set-cookie"] = f"{self.cookie}={secrets.token_urlsafe(32)}; Path=/; HttpOnly; SameSite=Lax"
        sender = _Sender(send, extra)
        response: Response | Call
        try:
            response = await self._answer(call)
        except BodyError as error:
            response = PlainTextResponse(error.message, error.status)
        if isinstance(response, Response):
            await response(scope, receive, sender)
            return
        try:
            await self.app(response.scope, response.receive, sender)
        except Exception:  # a bug of ours or of Gradio's; without this the connection would just end
            if sender.started:
                log.debug("no whole response", exc_info=True)  # Gradio ends the stream of an unknown tab so
                raise
            log.exception("no response")
            await PlainTextResponse("something went wrong", 500)(scope, receive, sender)

    async def _answer(self, call: Call) -> Response | Call:
        """Return the response, or the call as Gradio is to answer it."""
        refusal = self.hosts.refusal(
            call.headers, arrived_at=(call.scope.get("server") or ("",))[0], navigation=call.path == "/"
        )
        if refusal:
            return PlainTextResponse(refusal, 403)
        file = FILE.fullmatch(call.path)
        methods = ("GET", "HEAD") if file or _is_public(call.path) else METHODS.get(call.path)
        if methods is None:
            return PlainTextResponse("not found", 404)
        if call.scope["method"] not in methods:
            return PlainTextResponse("method not allowed", 405, {"allow": ", ".join(methods)})
        if call.path == "/" or _is_public(call.path):
            return replace(call, scope={**call.scope, "query_string": b""})  # Gradio opens the file of a ?deep_link
        if call.session is None:
            return PlainTextResponse("open the page first", 403)
        if file:
            return self._picture(file[1], call.session)
        return await self._api(call, call.session)

    async def _api(self, call: Call, session: str) -> Response | Call:
        match call.path.removeprefix(API):
            case "/upload":
                return await self._upload(call, session)
            case "/upload_progress":  # an upload is answered when it is complete, so there is no progress to tell
                return PlainTextResponse('data: {"msg": "done"}\n\n', media_type="text/event-stream")
            case "/queue/data":
                query = parse_qs(call.scope["query_string"].decode("latin-1"), max_num_fields=4)
                name = bodies.text_field({"session_hash": query.get("session_hash", [""])[0]}, "session_hash")
                scoped = urlencode({"session_hash": call.scoped(name)}).encode()
                return replace(call, scope={**call.scope, "query_string": scoped})
        body = bodies.as_json(
            await bodies.read_body(call.receive, call.headers, limit=MAX_BODY_BYTES, seconds=BODY_SECONDS)
        )
        if call.path.endswith("/queue/join"):
            body = bodies.question(body)
            if body["fn_index"] not in self.functions:
                raise BodyError(400, "there is no such function")
        elif call.path.endswith("/cancel"):
            body = {
                "session_hash": bodies.text_field(body, "session_hash"),
                "event_id": bodies.text_field(body, "event_id"),
                "fn_index": body.get("fn_index"),
            }
        else:
            return JSONResponse({"success": True})  # Gradio's own answer to /reset
        return call.with_body({**body, "session_hash": call.scoped(body["session_hash"])})

    async def _upload(self, call: Call, session: str) -> Response:
        limit = MAX_PICTURE_BYTES + bodies.MULTIPART_OVERHEAD
        size = _declared(call.headers, limit)
        if self.receiving + size > MAX_RECEIVING_BYTES:
            return PlainTextResponse("too many uploads at once; try again", 503)
        self.receiving += size
        try:
            body = await bodies.read_body(call.receive, call.headers, limit=limit, seconds=UPLOAD_SECONDS)
            raw = bodies.only_file(body, call.headers.get("content-type", ""))
        finally:
            self.receiving -= size
        key = self.uploads.add(raw, session)
        asyncio.get_running_loop().call_later(self.uploads.max_seconds + 1, self.uploads.forget_old)
        return JSONResponse([key])

    def _picture(self, key: str, session: str) -> Response:
        try:
            raw = self.uploads.read(key, session)
        except FlowermlError as error:
            return PlainTextResponse(str(error), 404)
        kind = next((kind for start, kind in IMAGES.items() if raw.startswith(start)), "application/octet-stream")
        return Response(raw, media_type=kind, headers=PICTURE_HEADERS)


class _Sender:
    """A `send` that adds headers, and gives up on a client that does not read."""

    def __init__(self, send: Send, headers: dict[str, str]) -> None:
        self.send = send
        self.headers = [(name.encode(), value.encode()) for name, value in headers.items()]
        self.started = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            message = {**message, "headers": [*message.get("headers", []), *self.headers]}
        async with asyncio.timeout(SEND_SECONDS):
            await self.send(message)


def cookie_name(port: int) -> str:
    """Return the name of the session's cookie. Browsers keep one jar for all ports of a host."""
    return f"flowerml-{port}"


def session_of(cookies: dict[str, str], port: int) -> str | None:
    """Return the session that a browser belongs to; None for one that has not opened the page."""
    session = cookies.get(cookie_name(port), "")
    return session if SESSION.fullmatch(session) else None


def _is_public(path: str) -> bool:
    return PUBLIC.fullmatch(path) is not None and ".." not in path


def _declared(headers: dict[str, str], default: int) -> int:
    declared = headers.get("content-length", "")
    return min(int(declared), default) if declared.isascii() and declared.isdigit() and len(declared) < 16 else default


def _without_proxy_headers(scope: Scope) -> Scope:
    """Return the scope without the X-… headers, from which Gradio would take the address of its page."""
    kept = [pair for pair in scope["headers"] if not pair[0].startswith(b"x-") or pair[0] == b"x-forwarded-proto"]
    return {**scope, "headers": kept}


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that replays the body that was read, then continues with the original."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return messages.pop() if messages else await receive()

    return replayed
