"""An HTTP server of our own: it serves files from memory or from disk, and misbehaves where it is told to."""

import hashlib
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

LAST_MODIFIED = "Wed, 01 Jan 2020 00:00:00 GMT"


@dataclass(frozen=True)
class Answer:
    """How one request is answered; the default is a server without fault.

    `cut` and `stall` are bytes of the body after which the connection is closed, or nothing more comes. The body comes
    in pieces of `piece` bytes, `pace` seconds apart. `lie` is added to Content-Length, `shift` to the start of a
    206, `total` is the size a 206 tells. `ranges` and `tags`: whether the server knows of ranges, and gives an ETag
    and Last-Modified. `headers` are set last; None takes one away.
    """

    status: int = 200
    headers: Mapping[str, str | None] = field(default_factory=dict)
    body: bytes | None = None
    ranges: bool = True
    tags: bool = True
    chunked: bool = False
    corrupt: bool = False
    cut: int | None = None
    stall: int | None = None
    piece: int = 2**16
    pace: float = 0
    lie: int = 0
    shift: int = 0
    total: int | None = None


@dataclass(frozen=True)
class Request:
    """What was asked for."""

    path: str
    headers: HTTPMessage

    @property
    def start(self) -> int | None:
        """The byte that was asked to be the first; None where the whole file was asked for."""
        value = self.headers.get("Range")
        return int(value.removeprefix("bytes=").removesuffix("-")) if value else None


class Server(ThreadingHTTPServer):
    """`files` can be changed at any time. `answers`: for a file the first request gets the first, the second the
    second, and every further one the last; a file without any is served well."""

    daemon_threads = True

    def __init__(self, files: Mapping[str, bytes | Path] | Path, answers: Mapping[str, list[Answer]]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes | Path] = dict(_folder(files) if isinstance(files, Path) else files)
        self.answers = {name: list(some) for name, some in answers.items()}
        self.requests: list[Request] = []
        self.stopping = threading.Event()

    def url(self, name: str) -> str:
        """Where the file of this name is."""
        return f"http://127.0.0.1:{self.server_address[1]}/{name}"

    def content(self, name: str) -> bytes | None:
        """The bytes of a file, None where there is none."""
        found = self.files.get(name)
        return found.read_bytes() if isinstance(found, Path) else found

    def next_answer(self, name: str) -> Answer:
        """How the request that has come now is answered."""
        waiting = self.answers.get(name, [Answer()])
        return waiting.pop(0) if len(waiting) > 1 else waiting[0]

    def stop(self) -> None:
        """Answer no more, also not to those who wait."""
        if not self.stopping.is_set():
            self.stopping.set()
            self.shutdown()
            self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that go away in the middle are what tests are about."""


@contextmanager
def serving(
    files: Mapping[str, bytes | Path] | Path, answers: Mapping[str, list[Answer]] | None = None
) -> Iterator[Server]:
    """A server of these files (name -> content or path), or of all files in a folder, while the block lasts.

    Proxies of this machine are passed by, also by processes started in the block.
    """
    server = Server(files, answers or {})
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("no_proxy", "127.0.0.1")
        try:
            yield server
        finally:
            server.stop()


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        name = unquote(urlsplit(self.path).path).removeprefix("/")
        self.server.requests.append(Request(self.path, self.headers))
        answer = self.server.next_answer(name)
        content = self.server.content(name) if answer.body is None else answer.body
        if answer.status != 200:
            self._send(answer, answer.status, {}, answer.body or b"")
        elif content is None:
            self._send(Answer(), 404, {}, b"")
        else:
            self._serve(answer, content)

    def _serve(self, answer: Answer, content: bytes) -> None:
        tags = _tags(answer, content)
        start = self._start(answer, tags)
        if self._known(tags):
            self._send(answer, 304, tags, b"")
        elif start is None:
            self._send(answer, 200, tags, content)
        elif start >= len(content):
            self._send(answer, 416, {"Content-Range": f"bytes */{len(content)}"}, b"")
        else:
            start += answer.shift
            total = len(content) if answer.total is None else answer.total
            self._send(answer, 206, {**tags, "Content-Range": f"bytes {start}-{total - 1}/{total}"}, content[start:])

    def _known(self, tags: Mapping[str, str]) -> bool:
        asked = self.headers.get("If-None-Match")
        if asked is not None:
            return asked == tags.get("ETag")
        return self.headers.get("If-Modified-Since", "-") == tags.get("Last-Modified")

    def _start(self, answer: Answer, tags: Mapping[str, str]) -> int | None:
        condition = self.headers.get("If-Range")
        if not answer.ranges or "Range" not in self.headers:
            return None
        if condition is not None and (condition not in tags.values() or condition.startswith("W/")):
            return None
        return Request(self.path, self.headers).start

    def _send(self, answer: Answer, status: int, headers: Mapping[str, str], body: bytes) -> None:
        if answer.corrupt:
            body = body[:-1] + bytes([body[-1] ^ 1])
        length = {"Transfer-Encoding": "chunked"} if answer.chunked else {"Content-Length": str(len(body) + answer.lie)}
        self.send_response(status)
        for name, value in {**headers, **length, **answer.headers}.items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        if status != 304:
            self._send_body(answer, body)

    def _send_body(self, answer: Answer, body: bytes) -> None:
        self.close_connection = answer.lie != 0
        stops = [stop for stop in (answer.cut, answer.stall) if stop is not None]
        end = min([len(body), *stops])
        for start in range(0, end, answer.piece):
            self._write(body[start : min(start + answer.piece, end)], answer.chunked)
            if answer.pace and self.server.stopping.wait(answer.pace):
                break
        if answer.stall is not None:
            self.server.stopping.wait()
        if stops:
            self.close_connection = True
        elif answer.chunked:
            self.wfile.write(b"0\r\n\r\n")

    def _write(self, piece: bytes, chunked: bool) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece)
        self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:
        pass


def _tags(answer: Answer, content: bytes) -> dict[str, str]:
    own = {"ETag": f'"{hashlib.sha256(content).hexdigest()[:16]}"', "Last-Modified": LAST_MODIFIED}
    told = {name: answer.headers.get(name, tag) for name, tag in own.items()} if answer.tags else {}
    return {name: tag for name, tag in told.items() if tag is not None}


def _folder(root: Path) -> dict[str, bytes | Path]:
    return {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()}
