"""One process of a server: its models, uvicorn, and the end that loses no accepted request."""

import asyncio
import gc
import os
import resource
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING

from flowerml.server.settings import Settings
from flowerml.web.listening import url_of

if TYPE_CHECKING:
    import uvicorn
    from starlette.types import ASGIApp

    from flowerml.server.engine import Engine
    from flowerml.server.models import Models
    from flowerml.tasks.base import Task

END_SECONDS = 5.0
"""After the grace, for what is ended then; what goes on longer is cancelled."""
SPARE_FILES = 256
"""Open files of a process besides its connections."""

Announce = Callable[[list[str]], None]
"""Called with lines for a person once the server answers."""


@dataclass(frozen=True, eq=False)
class Application:
    """The application of one process, and what the end of the process needs."""

    app: "ASGIApp"
    models: "Models"
    engine: "Engine"


def run_process(settings: Settings, listening: socket.socket, announce: Announce) -> None:
    """Load the models and serve in this process until a signal arrives. Raises FlowermlError."""
    from flowerml.server import console
    from flowerml.serving.memory import configure_malloc

    configure_malloc()
    with ExitStack() as stack:
        log = console.configure(access_log=settings.access_log)
        if log is not None:
            stack.callback(log.close)
        application = stack.enter_context(assembled(settings))
        gc.collect()
        gc.freeze()  # MLflow and the models are a million objects that no collection need look at again
        _server(settings, application, announce).run(sockets=[listening])


@contextmanager
def assembled(settings: Settings) -> Iterator[Application]:
    """Yield the application with its models loaded; afterwards the log is written and downloads are removed.

    Raises FlowermlError where a model cannot be loaded, or the prediction log cannot be written.
    """
    from flowerml.server.app import create_app
    from flowerml.server.capture import Capture
    from flowerml.server.engine import Engine
    from flowerml.server.metrics import Metrics
    from flowerml.server.models import Models

    metrics = Metrics()
    with ExitStack() as stack:
        capture = None
        if settings.log is not None or settings.drift_window:
            capture = Capture(settings, metrics)
            stack.callback(capture.close)
        models = Models(
            settings.models,
            poll=settings.poll,
            seconds=settings.seconds,
            threads=settings.threads,
            metrics=metrics,
        )
        stack.callback(models.stop)
        models.start(wait=settings.wait)
        engine = Engine(
            threads=settings.threads,
            queue=settings.queue,
            explain_queue=settings.explain_queue,
            seconds=settings.seconds,
            metrics=metrics,
        )
        app = create_app(settings, models=models, engine=engine, metrics=metrics, capture=capture)
        yield Application(app, models, engine)


def started_lines(settings: Settings, models: "Models") -> list[str]:
    """Return what is served where, and a command to try it."""
    url = url_of(settings.host.strip("[]"), settings.port)
    several = len(models.names) > 1
    lines = []
    for name in models.names:
        served = models.get(name)
        loaded = None if served is None else served.current
        path = f"{url}models/{name}/predict" if several else f"{url}predict"
        if served is None or loaded is None:
            lines.append(f"{name}: {settings.models[name]} cannot be loaded yet; {path} answers when it can")
            continue
        classifier, version = loaded.classifier, loaded.model["version"]
        what = f"version {version} of {loaded.model['name']}" if version else str(loaded.address)
        lines.append(f"{name}: {what} ({classifier.kind}, {len(classifier.classes)} classes)")
        lines.append(f"  {_curl(classifier.task, path, with_token=settings.token is not None)}")
    if settings.workers > 1:
        lines.append(f"{settings.workers} workers, each with its own copy of the models in memory")
    if settings.token is None and settings.no_token:
        lines.append(f"anyone who reaches {settings.host} may ask: there is no token")
    lines.append(f"serving at {url} (Ctrl-C stops it)")
    return lines


def _curl(task: "Task", url: str, *, with_token: bool) -> str:
    """Return a command that sends the task's example as it is: a file's bytes, or a text."""
    is_file = task.RAW is bytes
    header = f"-H 'Content-Type: {'application/octet-stream' if is_file else 'text/plain'}'"
    token = '-H "Authorization: Bearer $FLOWERML_TOKEN" ' if with_token else ""
    return f"curl {token}{header} --data-binary {'@' if is_file else ''}{task.EXAMPLE_ARGUMENT} {url}"


def _server(settings: Settings, application: Application, announce: Announce) -> "uvicorn.Server":
    import uvicorn

    from flowerml.server.protocol import BoundedProtocol, Bounds, bounded_protocol

    class Server(uvicorn.Server):
        """Uvicorn, which says when it answers, and at its end loses no connection."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            announce(started_lines(settings, application.models))

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            application.engine.draining = True
            for listening in sockets or ():
                await self._accept_last(listening)
            asyncio.get_running_loop().call_later(settings.grace, self._end_all)
            await super().shutdown(sockets)

        def _end_all(self) -> None:
            # Uvicorn would cancel the requests: a trace in the log for each, and a 500 that is no JSON.
            for connection in list(self.server_state.connections):
                if isinstance(connection, BoundedProtocol):
                    connection.end()

        async def _accept_last(self, listening: socket.socket) -> None:
            """Accept whom the system has accepted already, and no more: closing the socket would reset them."""
            with listening.dup() as last:
                for server in self.servers:
                    server.close()
                waiting = list(_accepted(last))
            for connection in waiting:
                await asyncio.get_running_loop().connect_accepted_socket(self._protocol, connection)

        def _protocol(self) -> asyncio.Protocol:
            protocol: asyncio.Protocol = bounded_protocol(bounds)(
                config=config, server_state=self.server_state, app_state=self.lifespan.state
            )
            return protocol

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            # Uvicorn takes a second SIGTERM for the first, and ends by the signal it got: an orderly end has code 0.
            if self.should_exit:
                os._exit(128 + sig)
            self.should_exit = True

    bounds = Bounds(
        header_seconds=settings.header_seconds,
        idle_seconds=settings.idle_seconds,
        send_seconds=settings.send_seconds,
        max_connections=_connections(settings.max_connections),
    )
    config = uvicorn.Config(
        application.app,
        http=bounded_protocol(bounds),  # type: ignore[arg-type]  # uvicorn calls it as it would call a class
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=1024,
        timeout_graceful_shutdown=settings.grace + END_SECONDS,  # type: ignore[arg-type]  # handed to asyncio.wait_for
    )
    return Server(config)


def _accepted(listening: socket.socket) -> Iterator[socket.socket]:
    """Yield the connections that wait at a socket."""
    listening.setblocking(False)
    with suppress(OSError):  # BlockingIOError: there are no more
        while True:
            connection, _ = listening.accept()
            connection.setblocking(False)
            yield connection


def _connections(wanted: int) -> int:
    """Return how many connections this process may hold, after asking the system for as many open files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + SPARE_FILES
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return wanted if soft == resource.RLIM_INFINITY else max(1, min(wanted, soft - SPARE_FILES))
