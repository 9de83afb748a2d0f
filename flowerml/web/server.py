"""The web server of the page: Gradio behind the guard, with bounds on connections, headers and waiting."""

import logging
import os
import socket
import threading
import time
from asyncio import BaseTransport, TimerHandle
from collections.abc import Iterable
from typing import Any

import gradio as gr
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from flowerml.core.errors import FlowermlError
from flowerml.web.guard import MAX_PICTURE_BYTES, Guard
from flowerml.web.hosts import Hosts, host_of
from flowerml.web.page import HERE, AnswerView, build
from flowerml.web.sources import Source
from flowerml.web.uploads import Uploads

FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")
MONOSPACE = ("ui-monospace", "Consolas", "monospace")
MAX_CONNECTIONS = 200
MAX_HEADER_BYTES = 32 * 2**10
HEADER_SECONDS = 10.0
START_SECONDS = 30.0
STOP_SECONDS = 2


class BoundedProtocol(H11Protocol):
    """Uvicorn's HTTP/1.1, which ends connections that send no request, and refuses more than MAX_CONNECTIONS.

    Uvicorn bounds neither: it waits for the first byte for ever, and one byte ends its keep-alive timer.
    """

    deadline: TimerHandle | None = None

    def connection_made(self, transport: BaseTransport) -> None:
        is_full = len(self.connections) >= MAX_CONNECTIONS
        super().connection_made(transport)  # type: ignore[arg-type]
        if is_full:
            self.transport.abort()
        else:
            self._expect_request()

    def on_response_complete(self) -> None:
        self._expect_request()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.deadline is not None:
            self.deadline.cancel()
        super().connection_lost(exc)

    def _expect_request(self) -> None:
        if self.deadline is not None:
            self.deadline.cancel()
        self.deadline = self.loop.call_later(HEADER_SECONDS, self._end_if_idle)

    def _end_if_idle(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.abort()


class Server:
    """A page that is served in a thread of its own."""

    def __init__(self, app: Guard, listening: socket.socket) -> None:
        config = uvicorn.Config(
            app,
            http=BoundedProtocol,
            ws="none",
            lifespan="on",
            log_config=None,
            log_level=logging.CRITICAL,  # errors of the page are logged by the guard
            access_log=False,
            proxy_headers=False,
            server_header=False,
            h11_max_incomplete_event_size=MAX_HEADER_BYTES,
            timeout_graceful_shutdown=STOP_SECONDS,
        )
        self._uvicorn = uvicorn.Server(config)
        self._socket = listening
        self._thread = threading.Thread(target=self._uvicorn.run, kwargs={"sockets": [listening]}, daemon=True)

    def start(self) -> None:
        """Return when requests are answered; raises FlowermlError where the server ended at once."""
        self._thread.start()
        deadline = time.monotonic() + START_SECONDS
        while not self._uvicorn.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                self.close()
                raise FlowermlError("the page's server did not start; the log says why")
            time.sleep(0.01)

    def close(self) -> None:
        """Stop serving, and end open connections after STOP_SECONDS."""
        self._uvicorn.should_exit = True
        self._thread.join(timeout=STOP_SECONDS + 10)
        self._socket.close()


def serve(
    sources: list[Source],
    listening: socket.socket,
    *,
    host: str,
    top_k: int,
    unsure: float | None,
    allowed_hosts: Iterable[str],
) -> Server:
    """Return the running page of these models. Raises FlowermlError for a name that is not a host's."""
    port = listening.getsockname()[1]
    bound = host_of(host)
    hosts = Hosts(port, [*allowed_hosts, *([f"{bound}:{port}"] if bound else [])])
    uploads = Uploads()
    page = build(sources, AnswerView(top_k, unsure), uploads, port)
    guard = Guard(_gradio(page), hosts=hosts, uploads=uploads, functions=frozenset(page.fns))
    server = Server(guard, listening)
    server.start()
    return server


def _gradio(page: gr.Blocks) -> FastAPI:
    """Return Gradio's app with everything off that leaves this machine or that the page does not use."""
    page.state_session_capacity = 200
    options: dict[str, Any] = {"docs_url": None, "redoc_url": None, "openapi_url": None}
    return gr.mount_gradio_app(
        FastAPI(**options),
        page,
        path="/",
        footer_links=[],
        run_history=False,
        show_error=False,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        allowed_paths=[],
        blocked_paths=[os.sep],  # the guard returns the pictures; Gradio returns no file
        max_file_size=MAX_PICTURE_BYTES,
        app_kwargs=options,
        theme=_theme(),
        css_paths=HERE / "page.css",
        head=f"<script>{_script()}</script>",
    )


def _script() -> str:
    """Return page.js, which refuses too large a file before it is sent."""
    script = (HERE / "page.js").read_text(encoding="utf-8")
    return script.replace("MAX_BYTES = 0;", f"MAX_BYTES = {MAX_PICTURE_BYTES};")


def _theme() -> gr.themes.Base:
    return gr.themes.Base(
        primary_hue="emerald", neutral_hue="stone", radius_size="lg", font=list(FONTS), font_mono=list(MONOSPACE)
    )
