"""The ASGI application of `flowerml serve`: its routes, and around them ids, the access log and the last resort.

Pure ASGI: a request with one text takes 0.3 ms in all, of which FastAPI's routing and Starlette's middleware would take
as much again.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flowerml.classifier.prediction import Prediction
from flowerml.core.display import did_you_mean
from flowerml.core.errors import InputError
from flowerml.server import access_log
from flowerml.server.access import Access
from flowerml.server.bodies import Incoming, Receiving
from flowerml.server.context import KEY, Context, current
from flowerml.server.disconnect import Disconnect
from flowerml.server.errors import ClientGone, HttpError, send_body, send_error, send_json, shown
from flowerml.server.openapi import OpenApi
from flowerml.server.parameters import MODEL, query_fields
from flowerml.server.predict import NotOurs, Request

if TYPE_CHECKING:
    from flowerml.server.capture import Capture
    from flowerml.server.engine import Engine
    from flowerml.server.loading import Loaded
    from flowerml.server.metrics import Metrics
    from flowerml.server.models import Models, ServedModel
    from flowerml.server.settings import Settings

GONE = 499
"""The status in the log where the client did not wait for its answer, as nginx has it."""
RETRY = {"retry-after": "5"}
NO_BODY = b""

_log = logging.getLogger(__name__)

Handler = Callable[[Scope, Receive, Send, Context], Awaitable[None]]


def create_app(
    settings: "Settings", *, models: "Models", engine: "Engine", metrics: "Metrics", capture: "Capture | None"
) -> ASGIApp:
    """Return the application; the models are loaded, or loading, and the engine runs."""
    return App(settings, Routes(settings, models=models, engine=engine, metrics=metrics, capture=capture))


class App:
    """Gives each request its id, its line in the access log and its place in the metrics, and every error its form."""

    def __init__(self, settings: "Settings", routes: "Routes") -> None:
        self.routes = routes
        self.access = Access(routes, settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; never raises for one."""
        if scope["type"] != "http":
            await self._other(scope, receive, send)
            return
        context = scope[KEY] = Context.of(scope)
        tagged = _tagged(self.access.cors(scope, send), context)
        try:
            await self.access(scope, receive, tagged)
        except HttpError as error:
            await self._refuse(tagged, context, error)
        except ClientGone:
            context.status = GONE
        except asyncio.CancelledError:
            context.status = GONE
            raise
        except Exception:  # a bug, or out of memory: the reason goes to the log, not to the sender of a request
            _log.exception("request %s failed", context.id)
            await self._refuse(tagged, context, HttpError(500, "internal_error", "the server failed; its log says why"))
        finally:
            self.routes.finish(context)

    async def _refuse(self, send: Send, context: Context, error: HttpError) -> None:
        """Answer with an error; where an answer has begun, the server ends the connection instead."""
        if context.status == 0:
            await send_error(send, context, error)

    async def _other(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1000})
            return
        while (message := await receive())["type"] != "lifespan.shutdown":
            if message["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
        await self.routes.engine.drain(self.routes.settings.grace)
        await send({"type": "lifespan.shutdown.complete"})


class Routes:
    """What is served at which path."""

    def __init__(
        self,
        settings: "Settings",
        *,
        models: "Models",
        engine: "Engine",
        metrics: "Metrics",
        capture: "Capture | None",
    ) -> None:
        self.settings = settings
        self.models = models
        self.engine = engine
        self.metrics = metrics
        self.capture = capture
        self.receiving = Receiving(settings.receiving_bytes)
        self.openapi = OpenApi(settings, models)
        self._paths: dict[str, dict[str, Handler]] = {
            "/predict": {"POST": self._predict},
            "/invocations": {"POST": self._invocations},
            "/health": {"GET": self._health},
            "/ready": {"GET": self._ready},
            "/metrics": {"GET": self._metrics},
            "/openapi.json": {"GET": self._openapi},
            "/ping": {"GET": self._ping},
            "/version": {"GET": self._version},
            "/": {"GET": self._index},
        }
        if models.webhook is not None:
            self._paths["/webhooks/mlflow"] = {"POST": self._webhook}
        self._actions = {"predict": self._predict, "invocations": self._invocations}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; raises HttpError and ClientGone."""
        context: Context = scope[KEY]
        methods = self._methods(context)
        method = "GET" if context.method == "HEAD" else context.method
        handler = methods.get(method)
        if handler is None:
            allowed = ", ".join((*methods, *(("HEAD",) if "GET" in methods else ()), "OPTIONS"))
            if method != "OPTIONS":
                raise HttpError(405, "bad_method", f"{context.route} takes {allowed}", {"allow": allowed})
            await send_body(send, 204, NO_BODY, b"application/json", {"allow": allowed})
            return
        await handler(scope, receive, send, context)

    def finish(self, context: Context) -> None:
        """Count a request, write its line, and let go of its body."""
        self.receiving.release(context)
        seconds = context.seconds()
        self.metrics.request(context.route, context.method, context.status, seconds)
        access_log.write(context, seconds)

    def _methods(self, context: Context) -> Mapping[str, Handler]:
        """Return the handlers of a path by method; raises HttpError 404."""
        methods = self._paths.get(context.path)
        if methods is not None:
            context.route = context.path
            return methods
        name, _, action = context.path.removeprefix("/models/").rpartition("/")
        if context.path.startswith("/models/") and name and action in self._actions:
            context.route = f"/models/{{name}}/{action}"
            return {"POST": self._actions[action]}
        question = did_you_mean(context.path[:40], self._paths)
        raise HttpError(
            404, "no_such_path", f"there is nothing at {shown(context.path)}; {question or 'GET / says what there is'}"
        )

    async def _predict(self, scope: Scope, receive: Receive, send: Send, context: Context) -> None:
        loaded = self._loaded(scope, context)
        request = Request(
            scope=scope,
            context=context,
            incoming=self._incoming(scope, receive, context),
            loaded=loaded,
            engine=self.engine,
            content_type=_header(scope, b"content-type"),
            max_items=self.settings.max_items,
        )
        try:
            await request.answer(send)
        except NotOurs as body:
            await self._mounted(scope, receive, send, context, loaded, body.content)

    async def _invocations(self, scope: Scope, receive: Receive, send: Send, context: Context) -> None:
        loaded = self._loaded(scope, context)
        await self._mounted(scope, receive, send, context, loaded, await self._incoming(scope, receive, context).read())

    async def _mounted(
        self, scope: Scope, receive: Receive, send: Send, context: Context, loaded: "Loaded", body: bytes
    ) -> None:
        """Let MLflow's own application answer a body that has been read."""
        observe = context.observe

        def observed(raw: Any, answer: Prediction | InputError) -> None:
            context.items += 1
            code = answer.code if isinstance(answer, InputError) else "known" if answer.known else "unknown"
            self.metrics.answered(loaded.model, [code])
            if observe is not None:
                observe(raw, answer)

        messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return messages.pop() if messages else await receive()

        context.observe = observed
        token = current.set(context)
        try:
            async with Disconnect(receive), self.engine.slot(explain=b'"explain"' in body):
                await loaded.invocations(scope, replay, send)
        finally:
            current.reset(token)

    def _incoming(self, scope: Scope, receive: Receive, context: Context) -> Incoming:
        length = _header(scope, b"content-length")
        encoding = _header(scope, b"content-encoding").lower()
        if encoding not in (b"", b"identity"):
            raise HttpError(
                415,
                "unsupported_encoding",
                "the body is compressed; send it as it is, without Content-Encoding",
                {"accept-encoding": "identity"},
            )
        return Incoming(
            receive=receive,
            context=context,
            receiving=self.receiving,
            limit=self.settings.max_bytes,
            seconds=self.settings.body_seconds,
            declared=int(length) if length.isdigit() and len(length) < 20 else None,
        )

    def _loaded(self, scope: Scope, context: Context) -> "Loaded":
        """Return the model that is asked for, as it is now; raises HttpError 404 and 503."""
        served = self._served(scope, context)
        loaded = served.current
        if loaded is None:
            raise HttpError(
                503, "no_model", f"no version of {shown(served.name)} is loaded yet; ask again in 5 s", RETRY
            )
        context.uses(loaded.model)
        if (capture := self.capture) is not None:
            context.observe = lambda raw, answer: capture.observe(loaded, raw, answer, context.id)
        return loaded

    def _served(self, scope: Scope, context: Context) -> "ServedModel":
        action = context.path.rpartition("/")[2]
        names = self.models.names
        if context.path.startswith("/models/"):
            name = context.path.removeprefix("/models/").removesuffix(f"/{action}")
        else:
            name = _asked_model(scope["query_string"]) or (names[0] if len(names) == 1 else "")
        served = self.models.get(name)
        if served is not None:
            return served
        if not name:
            paths = ", ".join(f"/models/{name}/{action}" for name in names[:5])
            raise HttpError(404, "which_model", f"there are several models here; ask {paths}, or add ?model=NAME")
        question = did_you_mean(name[:40], names) or f"there is {', '.join(names[:5])}"
        raise HttpError(404, "no_such_model", f"there is no model {shown(name)} here; {question}")

    async def _health(self, scope: Scope, receive: Receive, send: Send, context: Context) -> None:
        """Say how each model is; 200 for as long as the process answers."""
        status = "stopping" if self.engine.draining else "ok" if self._is_loaded() else "loading"
        await send_json(send, 200, {"status": status, "models": self.models.status()})

    async def _ready(self, scope: Scope, receive: Receive, send: Send, context: Context) -> None:
        """Say whether requests should be sent here: 200 or 503."""
        if self.engine.draining:
            await send_json(send, 503, {"ready": False, "reason": "the server is stopping"}, RETRY)
        elif not self._is_loaded():
            await send_json(send, 503, {"ready": False, "reason": "a model is still loading"}, RETRY)
        else:
            await send_json(send, 200, {"ready": True})

    def _is_loaded(self) -> bool:
        return all(
            served is not None and served.current is not None for served in map(self.models.get, self.models.names)
        )

    async def _metrics(self, scope: Scope, receive: Receive, send: Send, context: Context) -> None:
        body, content_type = await asyncio.to_thread(self.metrics.render)
        await send_body(send, 200, body, content_type.encode("ascii"))

    async def _openapi(self, scope: Scope, receive: Receive, send: Send, context: Context) -> None:
        body = await asyncio.to_thread(self.openapi.render)
        await send_body(send, 200, body, b"application/json")

    async def _ping(self, scope: Scope, receive: Receive, send: Send, context: Context) -> None:
        """Answer as MLflow's server does."""
        await send_body(send, 200, b"\n", b"application/json")

    async def _version(self, scope: Scope, receive: Receive, send: Send, context: Context) -> None:
        """Answer as MLflow's server does: with MLflow's version."""
        await send_body(send, 200, version("mlflow").encode(), b"application/json")

    async def _webhook(self, scope: Scope, receive: Receive, send: Send, context: Context) -> None:
        webhook = self.models.webhook
        assert webhook is not None
        await webhook(scope, receive, send)

    async def _index(self, scope: Scope, receive: Receive, send: Send, context: Context) -> None:
        """Say what is here."""
        several = len(self.models.names) > 1
        models = []
        for name in self.models.names:
            served = self.models.get(name)
            loaded = None if served is None else served.current
            prefix = f"/models/{name}" if several else ""
            models.append(
                {
                    "name": name,
                    "kind": None if loaded is None else loaded.classifier.kind,
                    "model": None if loaded is None else loaded.model,
                    "predict": f"{prefix}/predict",
                    "invocations": f"{prefix}/invocations",
                }
            )
        links = {name: f"/{name}" for name in ("health", "ready", "metrics")} | {"openapi": "/openapi.json"}
        await send_json(send, 200, {"server": f"flowerml {version('flowerml')}", "models": models} | links)


def _tagged(send: Send, context: Context) -> Send:
    """Return `send` that adds the request's id, and notes the status and the bytes that are sent."""

    async def tagged(message: Message) -> None:
        if message["type"] == "http.response.start":
            context.status = message["status"]
            message["headers"] = [*message.get("headers", ()), (b"x-request-id", context.id.encode("ascii"))]
        else:
            context.sent += len(message.get("body", b""))
        await send(message)

    return tagged


def _asked_model(query: bytes) -> str:
    if not query:
        return ""
    return next((value for key, value in query_fields(query) if key == MODEL), "")


def _header(scope: Scope, name: bytes) -> bytes:
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value)
    return b""
