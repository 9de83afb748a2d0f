"""The web app of the page: static files for anyone, and everything else for whoever has the token of the printed link.

Starlette, not Gradio, which takes 3 s to import, registers some sixty routes and cannot bind keys; and not a cookie,
which browsers send to every port of a host. The token is behind the # of the link, so that no log and no other site
sees it, and a request that has it in a header cannot come from a form or a picture elsewhere.
"""

import asyncio
import hmac
import json
import logging
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flowerml.core.errors import DataError
from flowerml.core.os_errors import explain_os_error
from flowerml.review.session import Session, StaleError
from flowerml.review.table import Decision
from flowerml.web.hosts import Hosts

HERE = Path(__file__).parent
STATIC = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
}
MAX_BODY_BYTES = 1024  # a decision takes 120
BODY_SECONDS = 10.0
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src blob:; connect-src 'self'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
}

log = logging.getLogger(__name__)


class Guard:
    """ASGI middleware that answers 403 to foreign hosts and sites, and adds HEADERS to every response."""

    def __init__(self, app: ASGIApp, hosts: Hosts) -> None:
        self.app = app
        self.hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", []), *headers]}
            await send(message)

        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        refusal = self.hosts.refusal(
            request.headers, arrived_at=(scope.get("server") or ("",))[0], navigation=scope["path"] == "/"
        )
        response: ASGIApp = PlainTextResponse(refusal, 403) if refusal else self.app
        try:
            await response(scope, receive, guarded)
        except Exception:  # a bug, which Starlette has answered with 500; without this nobody would see it
            log.exception("%s %s", scope["method"], scope["path"])


def build(session: Session, *, token: str, hosts: Hosts) -> ASGIApp:
    """Return the app of a review; its data and decisions need the token."""
    return Guard(Starlette(routes=[*_static(), *_Api(session, token).routes()]), hosts)


def _static() -> list[Route]:
    return [Route(path, _file(name, kind)) for path, (name, kind) in STATIC.items()]


def _file(name: str, kind: str) -> Any:
    content = (HERE / name).read_bytes()

    async def answer(request: Request) -> Response:
        return Response(content, media_type=kind)

    return answer


class _Api:
    """The requests of the page's script."""

    def __init__(self, session: Session, token: str) -> None:
        self.session = session
        self.token = token.encode()
        self.lock = asyncio.Lock()  # of the table: one decision after the other

    def routes(self) -> list[Route]:
        return [
            Route("/api/review", self.review),
            Route("/api/state", self.state),
            Route("/api/examples/{number:int}", self.example),
            Route("/api/decisions", self.decide, methods=["POST"]),
        ]

    async def review(self, request: Request) -> Response:
        """Return what does not change, and the state."""
        self._check(request)
        async with self.lock:
            return JSONResponse({**self.session.description(), "state": self.session.state()})

    async def state(self, request: Request) -> Response:
        """Return the decisions."""
        self._check(request)
        async with self.lock:
            return JSONResponse(self.session.state())

    async def example(self, request: Request) -> Response:
        """Return a picture or a text by the number of its example."""
        self._check(request)
        number = request.path_params["number"]
        if number >= len(self.session.ids):
            raise HTTPException(404, "there is no such example")
        view = await run_in_threadpool(self.session.view, self.session.ids[number])
        if view is None:
            raise HTTPException(404, "it cannot be read any more")
        if isinstance(view, bytes):
            return Response(view, media_type="image/jpeg")
        return PlainTextResponse(view.encode("utf-8", "replace"))

    async def decide(self, request: Request) -> Response:
        """Save a decision; the answer is sent when it is on disk."""
        self._check(request)
        number, decision, seen = self._decision(await _json(request))
        async with self.lock:
            try:
                progress = await run_in_threadpool(self.session.decide, number, decision, seen)
            except StaleError as error:
                return JSONResponse({"error": str(error), "state": self.session.state()}, 409)
            except (DataError, OSError) as error:
                return JSONResponse({"error": f"not saved: {_reason(error)}"}, 500)
        return JSONResponse(progress)

    def _decision(self, body: dict[str, Any]) -> tuple[int, Decision | None, Decision | None]:
        number = body.get("example")
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < len(self.session.ids):
            raise HTTPException(400, "expected the number of an example")
        values = (body.get("decision"), body.get("seen"))
        if not all(value is None or isinstance(value, dict) for value in values):
            raise HTTPException(400, "expected decisions as objects, or null")
        try:
            decision, seen = (
                None if value is None else self.session.decision(value.get("kind"), value.get("label"))
                for value in values
            )
        except ValueError as error:
            raise HTTPException(400, str(error)) from None
        return number, decision, seen

    def _check(self, request: Request) -> None:
        """Raise HTTPException unless the request has the token."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(token.encode(), self.token):
            raise HTTPException(401, "open the link that `flowerml review` prints, with all that follows the #")


async def _json(request: Request) -> dict[str, Any]:
    """Return the body as a JSON object; raises HTTPException for another one, and above MAX_BODY_BYTES."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise HTTPException(415, "expected application/json")
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise HTTPException(413, f"too large; at most {MAX_BODY_BYTES} bytes are taken")
    except TimeoutError:
        raise HTTPException(408, f"the body did not arrive within {BODY_SECONDS:g} s") from None
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise HTTPException(400, "not JSON") from None
    if not isinstance(value, dict):
        raise HTTPException(400, "expected a JSON object")
    return value


def _reason(error: DataError | OSError) -> str:
    return explain_os_error(error) or str(error)
