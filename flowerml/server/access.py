"""Who may ask: the names this server answers to, its token, and the web sites whose scripts may use it."""

import hmac
from hashlib import sha256

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flowerml.core.display import printable
from flowerml.server.errors import HttpError
from flowerml.server.settings import ANY_ORIGIN, Settings
from flowerml.web.hosts import Hosts, host_of

OPEN_PATHS = ("/ping", "/ready")
"""What answers without a token: whether the server is up and can answer, for those who start and stop it."""
WEBHOOK = "/webhooks/mlflow"  # its sender proves itself by a signature
ALLOWED_METHODS = "GET, HEAD, POST"
ALLOWED_HEADERS = "authorization, content-type, x-request-id"
EXPOSED_HEADERS = "x-request-id, retry-after"
PREFLIGHT_SECONDS = "600"


class Access:
    """ASGI middleware that lets in what has a known Host, an allowed origin and the token; else raises HttpError.

    A web site can give its own name this machine's address (DNS rebinding), so `Host` is checked, and can send
    requests from its visitor's browser, which says so in `Origin`. Allowed origins get CORS headers in every response
    that passes through here.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        bound = host_of(settings.host.strip("[]"))
        self.hosts = Hosts(
            settings.port, [*settings.allowed_hosts, *([f"{bound}:{settings.port}"] if bound is not None else [])]
        )
        self.origins = frozenset(origin.lower() for origin in settings.origins)
        self.token = None if settings.token is None else _digest(settings.token)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        self._check_host(scope, headers)
        origin = headers.get("origin")
        if not self._is_own(origin, headers):
            self._check_origin(origin)
        is_preflight = scope["method"] == "OPTIONS" and "access-control-request-method" in headers
        if not is_preflight:
            self._check_token(scope, headers)
        app: ASGIApp = _preflight() if is_preflight and origin is not None else self.app
        await app(scope, receive, send)

    def cors(self, scope: Scope, send: Send) -> Send:
        """Return a `send` that lets scripts of an allowed origin read the response; for errors as well as answers."""
        if not self.origins:
            return send
        origin = Headers(scope=scope).get("origin")
        is_allowed = origin is not None and self._allows(origin)

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": list(message.get("headers", []))}
                headers = MutableHeaders(scope=message)
                headers.add_vary_header("Origin")
                if is_allowed and origin is not None:
                    headers["access-control-allow-origin"] = ANY_ORIGIN if ANY_ORIGIN in self.origins else origin
                    headers["access-control-expose-headers"] = EXPOSED_HEADERS
            await send(message)

        return with_headers

    def _check_host(self, scope: Scope, headers: Headers) -> None:
        names = headers.getlist("host")
        host = names[0] if len(names) == 1 else ""
        arrived_at = (scope.get("server") or ("",))[0]
        if not self.hosts.answers_to(host.lower(), arrived_at=arrived_at):
            raise HttpError(
                403,
                "unknown_host",
                f"this server does not answer to the host {printable(host, 80)!r}; ask at localhost:{self.hosts.port}, "
                "or start it with --allowed-host NAME[:PORT]",
            )

    def _is_own(self, origin: str | None, headers: Headers) -> bool:
        host = headers.get("host", "").lower()
        return origin is None or origin.lower() in (f"http://{host}", f"https://{host}")

    def _allows(self, origin: str) -> bool:
        return ANY_ORIGIN in self.origins or origin.lower() in self.origins

    def _check_origin(self, origin: str | None) -> None:
        if origin is not None and not self._allows(origin):
            raise HttpError(
                403,
                "unknown_origin",
                f"scripts of {printable(origin, 80)!r} may not ask this server; start it with --allow-origin SITE",
            )

    def _check_token(self, scope: Scope, headers: Headers) -> None:
        if self.token is None or is_open(scope["method"], scope["path"]):
            return
        given = headers.getlist("authorization")
        scheme, _, token = (given[0] if len(given) == 1 else "").partition(" ")
        # Digests have one length, so the comparison's time says nothing of the token, not even its length.
        if scheme.lower() != "bearer" or not hmac.compare_digest(_digest(token.strip(" ")), self.token):
            fault = "expected the header `Authorization: Bearer TOKEN`" if not given else "this is not the token"
            raise HttpError(
                401, "unauthorized", f"{fault}; ask whoever runs this server", {"www-authenticate": "Bearer"}
            )


def is_open(method: str, path: str) -> bool:
    """Return whether a request needs no token."""
    return (path in OPEN_PATHS and method in ("GET", "HEAD")) or (path == WEBHOOK and method == "POST")


def _digest(token: str) -> bytes:
    return sha256(token.encode("utf-8", "surrogateescape")).digest()


def _preflight() -> Response:
    return Response(
        status_code=204,
        headers={
            "access-control-allow-methods": ALLOWED_METHODS,
            "access-control-allow-headers": ALLOWED_HEADERS,
            "access-control-max-age": PREFLIGHT_SECONDS,
        },
    )
