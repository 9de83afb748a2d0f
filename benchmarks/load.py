"""The load that benchmarks/serve.py puts on a server: many clients in one thread, on bare sockets.

It runs in a process of its own and shares the server's cores, so it has to be cheap: a request takes it 25 µs, where
http.client takes 400 and httpx 900. Its own share of a core is measured, to show that it is not the limit.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import psutil

RESPONSE_SECONDS = 90.0
LONGEST_PAUSE = 2.0  # seconds, whatever Retry-After says: a measurement is short
RECONNECT_SECONDS = 0.01


@dataclass(frozen=True, kw_only=True)
class Load:
    """Clients that each send a request when the one before has its answer; every third is hostile if there are any."""

    port: int
    good: Sequence[bytes]
    hostile: Sequence[bytes] = ()
    clients: int
    seconds: float
    warm_up: float = 1.0
    process: int | None = None
    """The server's, whose CPU time is measured with that of its children."""


@dataclass
class Answers:
    """What came back: `latencies` in seconds of the good requests that got 200, and the statuses of both kinds.

    Status 0 is a connection that ended without an answer, or a 200 that holds none. `own_cpu` is its share of one core.
    """

    latencies: list[float] = field(default_factory=list)
    good: Counter[int] = field(default_factory=Counter)
    hostile: Counter[int] = field(default_factory=Counter)
    seconds: float = 0.0
    own_cpu: float = 0.0
    server_cpu: float = 0.0


def request(path: str, content_type: str, body: bytes) -> bytes:
    """Return the bytes of a POST over a connection that stays open; the load adds the port to `Host`."""
    head = (f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Type: {content_type}", f"Content-Length: {len(body)}")
    return "\r\n".join((*head, "", "")).encode() + body


def run(load: Load) -> Answers:
    """Send the load for its seconds, after a warm-up; what the warm-up began and the measurement ended counts."""
    try:
        import uvloop
    except ImportError:  # not on Windows; asyncio's own loop takes about twice the time
        return asyncio.run(_all_clients(load))
    return uvloop.run(_all_clients(load))


def cpu_seconds(process: int | None) -> float:
    """Return the CPU time that a process and its children have taken."""
    seconds = 0.0
    if process is not None:
        parent = psutil.Process(process)
        for each in (parent, *parent.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                times = each.cpu_times()
                seconds += times.user + times.system
    return seconds


async def _all_clients(load: Load) -> Answers:
    host = b"\r\nHost: localhost:%d\r\n" % load.port
    good, hostile = (
        [content.replace(b"\r\nHost: localhost\r\n", host, 1) for content in contents]
        for contents in (load.good, load.hostile)
    )
    load = replace(load, good=good, hostile=hostile)
    clients = [_Client(load, number) for number in range(load.clients)]
    for client in clients:
        client.connect()
    await asyncio.sleep(load.warm_up)
    answers = Answers()
    server_cpu = cpu_seconds(load.process)
    started, cpu = time.perf_counter(), time.process_time()
    for client in clients:
        client.answers = answers
    await asyncio.sleep(load.seconds)
    answers.server_cpu = cpu_seconds(load.process) - server_cpu
    answers.seconds = time.perf_counter() - started
    answers.own_cpu = (time.process_time() - cpu) / answers.seconds
    for client in clients:
        client.stop()
    return answers


class _Client(asyncio.Protocol):
    def __init__(self, load: Load, number: int) -> None:
        self.load = load
        self.sent = number  # clients begin at different places, so that they do not all send the same at once
        self.answers: Answers | None = None
        self.transport: asyncio.BaseTransport | None = None
        self.waiting = False
        self.stopped = False
        self.buffer = b""
        self.started = 0.0
        self.is_hostile = False
        self.timer: asyncio.TimerHandle | None = None

    def connect(self) -> None:
        if not self.stopped:
            self.task = asyncio.ensure_future(self._connect())

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: self, "127.0.0.1", self.load.port)
        except OSError:
            self._count(0, 0.0)
            loop.call_later(10 * RECONNECT_SECONDS, self.connect)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.buffer = b""
        self.send()

    def send(self) -> None:
        if self.stopped or self.transport is None or self.transport.is_closing():
            return
        self.sent += 1
        kinds = self.load.hostile
        self.is_hostile = bool(kinds) and self.sent % 3 == 0
        requests = kinds if self.is_hostile else self.load.good
        content = requests[self.sent // 3 % len(requests)]
        self.waiting = True
        self.timer = asyncio.get_running_loop().call_later(RESPONSE_SECONDS, self.give_up)
        self.started = time.perf_counter()
        self.transport.write(content)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (answer := _complete(self.buffer)) is not None:
            status, headers, body, self.buffer = answer
            if status >= 200:  # 100 Continue is none
                self._answered(status, headers, body)

    def _answered(self, status: int, headers: bytes, body: bytes) -> None:
        self.waiting = False
        if self.timer:
            self.timer.cancel()
        if status == 200 and not self.is_hostile and b'"top"' not in body:
            status = 0
        self._count(status, time.perf_counter() - self.started)
        if b"\r\nconnection: close" in headers and self.transport:
            self.transport.close()
        elif status in (429, 503):
            pause = float(_header(headers, b"retry-after") or 1)
            asyncio.get_running_loop().call_later(min(pause, LONGEST_PAUSE), self.send)
        else:
            self.send()

    def _count(self, status: int, seconds: float) -> None:
        if self.answers is None or self.stopped:
            return
        (self.answers.hostile if self.is_hostile else self.answers.good)[status] += 1
        if status == 200 and not self.is_hostile:
            self.answers.latencies.append(seconds)

    def connection_lost(self, error: Exception | None) -> None:
        if self.timer:
            self.timer.cancel()
        if self.waiting and not self.stopped:
            self.waiting = False
            self._count(0, 0.0)
        if not self.stopped:
            asyncio.get_running_loop().call_later(RECONNECT_SECONDS, self.connect)

    def give_up(self) -> None:
        if self.transport:
            self.transport.abort()

    def stop(self) -> None:
        self.stopped = True
        if self.timer:
            self.timer.cancel()
        if self.transport:
            self.transport.abort()


def _header(headers: bytes, name: bytes) -> bytes:
    return headers.partition(b"\r\n" + name + b":")[2].partition(b"\r\n")[0].strip()


def _complete(buffer: bytes) -> tuple[int, bytes, bytes, bytes] | None:
    """Return status, headers in lower case, body and what follows, or None where the answer is not complete yet."""
    head, end, rest = buffer.partition(b"\r\n\r\n")
    if not end:
        return None
    headers = head.lower() + b"\r\n"
    status = int(headers[9:12])
    if b"\r\ntransfer-encoding: chunked" in headers:
        body, last, rest = rest.partition(b"0\r\n\r\n")  # enough for JSON, which has no line that is "0"
        return (status, headers, body, rest) if last else None
    length = int(_header(headers, b"content-length") or 0)
    return (status, headers, rest[:length], rest[length:]) if len(rest) >= length else None
