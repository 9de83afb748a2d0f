"""HTTP/1.1 within bounds: clients that send slowly, read slowly or hold connections idle are disconnected.

Uvicorn's protocol waits for the first byte for ever, lets one byte end its keep-alive timer, takes headers of any size
and pipelined requests of any number, and waits for ever for a client to read its answer.
"""

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from flowerml.server.errors import to_bytes

MAX_HEADER_BYTES = 32 * 2**10
MAX_HEADERS = 100
MAX_PIPELINED = 16
BODY_SECONDS = 5.0
"""Where all connections are taken, a body that has been arriving for longer makes room."""
LINGER_SECONDS = 2.0
"""The rest of a refused body is discarded for so long: closed at once, many clients would see no answer but a reset."""
EOF_SECONDS = 1.0
"""A client that has ended its side may have left, or wait for its answer (`printf … | nc -N`): it has so long."""
LAST_CALL_SECONDS = 0.3
"""At the end of the server an idle connection has so long to bring a request that is on its way."""


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """Seconds and numbers that all connections of a server share."""

    header_seconds: float
    idle_seconds: float
    send_seconds: float
    max_connections: int
    idle: "dict[BoundedProtocol, None]" = field(default_factory=dict)
    """The connections without a request, the one that is idle longest first."""
    receiving: "dict[BoundedProtocol, float]" = field(default_factory=dict)
    """When the body of each began to arrive, by the event loop's clock, the oldest first."""


class Refusal(Exception):
    """A request that is refused before the application sees it."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


def bounded_protocol(bounds: Bounds) -> Callable[..., "BoundedProtocol"]:
    """Return what uvicorn calls for each connection."""
    return partial(BoundedProtocol, bounds)


class BoundedProtocol(HttpToolsProtocol):
    """Uvicorn's HTTP/1.1 on httptools, with bounds on time, headers, pipelined requests and connections.

    One timer runs while something is waited for: the headers, the next request, or the rest of a body that nobody
    wants; the time of a body and of the work is the application's. Another one runs while the client does not read.
    """

    def __init__(
        self,
        bounds: Bounds,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        # Uvicorn allows bytes after a request with `connection: close`; behind a proxy they may be another client's.
        self.parser.set_dangerous_leniencies(lenient_data_after_close=False)
        self.bounds = bounds
        self.timer: asyncio.TimerHandle | None = None
        self.write_timer: asyncio.TimerHandle | None = None
        self.head_bytes = 0
        self.head_chunks = 0
        self.is_reading_head = False
        self.body_ended = True
        self.unanswered = 0
        self.is_stopping = False
        self.is_refused = False
        self.lingering = _Lingering(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        is_full = len(self.connections) >= self.bounds.max_connections
        super().connection_made(transport)  # type: ignore[arg-type]  # uvicorn's own annotation
        if is_full and not self._make_room():
            self.is_refused = True
            self.transport.write(
                self._response(Refusal(503, "too_many_connections", "too many connections; try again later"))
            )
            self.close()
        else:
            self._wait_for_request(self.bounds.header_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        self._set_timer(None)
        self._set_write_timer(None)
        self.bounds.idle.pop(self, None)
        self.bounds.receiving.pop(self, None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.is_refused:
            return
        was_reading_head = self.is_reading_head
        try:
            self.parser.feed_data(data)
            if was_reading_head and self.is_reading_head:  # the parser keeps a line of any length until it ends
                self.head_chunks += len(data)
                _check_head(self.head_chunks)
        except httptools.HttpParserUpgrade:
            # It is answered as if it had not asked; what follows may be in another protocol.
            self.is_refused = True
            self.cycle.keep_alive = False
        except (httptools.HttpParserError, Refusal) as error:
            cause = error if isinstance(error, Refusal) else error.__context__
            self._refuse(cause if isinstance(cause, Refusal) else Refusal(400, "bad_request", "this is not valid HTTP"))

    # What the parser calls; it wraps exceptions.

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.is_reading_head = True
        self.head_bytes = self.head_chunks = 0
        if self in self.bounds.idle:
            del self.bounds.idle[self]
            self._set_timer(self.bounds.header_seconds, self._end_slow_head)

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self.head_bytes += len(url)
        _check_head(self.head_bytes)

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self.head_bytes += len(name) + len(value)
        _check_head(self.head_bytes)
        if len(self.headers) > MAX_HEADERS:
            raise Refusal(431, "headers_too_large", f"at most {MAX_HEADERS} headers are taken")

    def on_headers_complete(self) -> None:
        if self.unanswered > MAX_PIPELINED:
            raise Refusal(429, "too_many_pipelined", f"at most {MAX_PIPELINED} requests may wait on a connection")
        super().on_headers_complete()
        self._set_timer(None)
        self.is_reading_head = False
        self.body_ended = False
        self.bounds.receiving[self] = self.loop.time()
        self.unanswered += 1
        self.cycle.transport = self.lingering  # type: ignore[assignment]  # the four methods that a request uses
        if self.is_stopping:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self.body_ended = True
        self.bounds.receiving.pop(self, None)
        if not self.unanswered:  # a body that was refused has ended after all
            self._go_on()

    def on_response_complete(self) -> None:
        self.unanswered -= 1
        super().on_response_complete()
        self._unset_keepalive_if_required()  # ours is below
        if not self.unanswered and not self.transport.is_closing():
            self._go_on()

    # What the event loop and uvicorn call.

    def pause_writing(self) -> None:
        super().pause_writing()
        self._set_write_timer(self.bounds.send_seconds)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._set_write_timer(None)

    def eof_received(self) -> bool:  # type: ignore[override]  # uvicorn closes at once: the answer is lost
        """Return whether the connection stays open, for the answers to requests that came whole."""
        if not self.unanswered or not self.body_ended:
            return False
        self.is_refused = True
        self.cycle.keep_alive = False
        self._set_timer(EOF_SECONDS, self.close)
        return True

    def shutdown(self) -> None:
        """Let requests that have begun to arrive end, then close."""
        self.is_stopping = True
        if self in self.bounds.idle:
            self._set_timer(LAST_CALL_SECONDS, self.close)
        elif self.unanswered:
            self.cycle.keep_alive = False

    def end(self) -> None:
        """End the request that is not answered yet with 503, and close: the server stops."""
        if self.unanswered or self.is_reading_head:
            self.body_ended = False
            self._refuse(Refusal(503, "stopping", "the server is stopping; ask again"))
        self.close()

    def close(self) -> None:
        """Close when what was written is sent, for which the client has `send_seconds`."""
        if not self.transport.is_closing():
            self.transport.close()
            self._set_timer(self.bounds.send_seconds, self.transport.abort)

    def close_after_body(self) -> None:
        """Close; where the body has not ended, discard its rest for a moment first, so that the answer is read."""
        if self.body_ended:
            self.close()
        else:
            self._set_timer(LINGER_SECONDS, self.close)

    def _go_on(self) -> None:
        """Wait for what comes next once all requests are answered."""
        if not self.body_ended:
            self._set_timer(LINGER_SECONDS, self.close)
        elif self.is_refused or not self.cycle.keep_alive:
            self.close()
        elif self.is_reading_head:
            self._set_timer(self.bounds.header_seconds, self._end_slow_head)
        else:
            self._wait_for_request(LAST_CALL_SECONDS if self.is_stopping else self.bounds.idle_seconds)

    def _wait_for_request(self, seconds: float) -> None:
        self.bounds.idle[self] = None
        self._set_timer(seconds, self.close)

    def _make_room(self) -> bool:
        """Disconnect who is idle longest, else whose body takes longest; return whether there is one."""
        idlest = next(iter(self.bounds.idle), None)
        if idlest is not None:
            del self.bounds.idle[idlest]
            idlest.transport.abort()
            return True
        slowest, began = next(iter(self.bounds.receiving.items()), (None, 0.0))
        if slowest is None or self.loop.time() - began < BODY_SECONDS:
            return False
        slowest._refuse(Refusal(408, "body_too_slow", "the body did not arrive, and others wait for the connection"))
        slowest.close()
        return True

    def _end_slow_head(self) -> None:
        self._refuse(
            Refusal(408, "headers_too_slow", f"the headers did not arrive within {self.bounds.header_seconds:g} s")
        )

    def _refuse(self, refusal: Refusal) -> None:
        """Answer what is arriving without the application, and close; requests that came whole are answered first."""
        self.is_refused = True
        self.bounds.idle.pop(self, None)
        self.bounds.receiving.pop(self, None)
        if self.transport.is_closing():
            return
        if self.unanswered and self.body_ended:
            self.cycle.keep_alive = False
            return
        if self.unanswered:  # its own body is broken
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            if self.unanswered > 1 or self.cycle.response_started:
                self.close()
                return
        self.transport.write(self._response(refusal))
        self.body_ended = False
        self.close_after_body()

    def _response(self, refusal: Refusal) -> bytes:
        request = os.urandom(8).hex()
        body = to_bytes({"error": {"code": refusal.code, "message": refusal.message}, "request_id": request})
        headers = [
            *self.server_state.default_headers,
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"x-request-id", request.encode()),
            (b"connection", b"close"),
            *([(b"retry-after", b"1")] if refusal.status in (429, 503) else []),
        ]
        return b"".join([STATUS_LINE[refusal.status], *(b"%b: %b\r\n" % header for header in headers), b"\r\n", body])

    def _set_timer(self, seconds: float | None, then: Callable[[], None] | None = None) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if seconds is not None and then is not None:
            self.timer = self.loop.call_later(seconds, then)

    def _set_write_timer(self, seconds: float | None) -> None:
        if self.write_timer is not None:
            self.write_timer.cancel()
            self.write_timer = None
        if seconds is not None:
            self.write_timer = self.loop.call_later(seconds, self.transport.abort)


def _check_head(size: int) -> None:
    if size > MAX_HEADER_BYTES:
        raise Refusal(431, "headers_too_large", f"at most {MAX_HEADER_BYTES} bytes of headers are taken")


class _Lingering:
    """The transport as a request sees it: closing it waits for the rest of the body."""

    def __init__(self, protocol: BoundedProtocol) -> None:
        self.protocol = protocol

    def write(self, data: bytes) -> None:
        if not self.protocol.transport.is_closing():  # uvloop's raises an error then, of which the client cannot know
            self.protocol.transport.write(data)

    def is_closing(self) -> bool:
        return self.protocol.transport.is_closing()

    def close(self) -> None:
        self.protocol.close_after_body()
