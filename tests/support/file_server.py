"""An HTTP server of files in memory or on disk that misbehaves on request."""

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
class Response:
    """The response to one request; the default is correct.

    After `cut` bytes of the body the connection is closed; after `stall` bytes nothing more is sent. The body is sent
    in pieces of `piece` bytes, `pace` seconds apart. `lie` is added to Content-Length, `shift` to the start of a 206;
    `total` is the size in a 206. `ranges` and `tags`: whether the server supports ranges, and sends ETag and
    Last-Modified. `headers` are set last; None removes one.
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
    """A received request."""

    path: str
    headers: HTTPMessage

    @property
    def start(self) -> int | None:
        """Return the first requested byte; None where the whole file was requested."""
        value = self.headers.get("Range")
        return int(value.removeprefix("bytes=").removesuffix("-")) if value else None


class Server(ThreadingHTTPServer):
    """The server. `files` can be changed at any time.

    `responses` are the responses to the successive requests of a file; the last is repeated. A file without any is
    served correctly.
    """

    daemon_threads = True

    def __init__(self, files: Mapping[str, bytes | Path] | Path, responses: Mapping[str, list[Response]]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes | Path] = dict(_folder(files) if isinstance(files, Path) else files)
        self.responses = {name: list(sequence) for name, sequence in responses.items()}
        self.requests: list[Request] = []
        self.stopping = threading.Event()

    def url(self, name: str) -> str:
        """Return the URL of a file."""
        return f"http://127.0.0.1:{self.server_address[1]}/{name}"

    def content(self, name: str) -> bytes | None:
        """Return the bytes of a file, None where there is none."""
        file = self.files.get(name)
        return file.read_bytes() if isinstance(file, Path) else file

    def next_response(self, name: str) -> Response:
        """Return the response to the current request."""
        pending = self.responses.get(name, [Response()])
        return pending.pop(0) if len(pending) > 1 else pending[0]

    def stop(self) -> None:
        """Stop answering, also the requests in progress."""
        if not self.stopping.is_set():
            self.stopping.set()
            self.shutdown()
            self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore clients that disconnect, as the tests make them."""


@contextmanager
def serving(
    files: Mapping[str, bytes | Path] | Path, responses: Mapping[str, list[Response]] | None = None
) -> Iterator[Server]:
    """Serve files {name: content or path}, or all files of a folder, during the block.

    Requests bypass the proxies of this machine, also in processes started in the block.
    """
    server = Server(files, responses or {})
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
        response = self.server.next_response(name)
        content = self.server.content(name) if response.body is None else response.body
        if response.status != 200:
            self._send(response, response.status, {}, response.body or b"")
        elif content is None:
            self._send(Response(), 404, {}, b"")
        else:
            self._serve(response, content)

    def _serve(self, response: Response, content: bytes) -> None:
        tags = _tags(response, content)
        start = self._start(response, tags)
        if self._known(tags):
            self._send(response, 304, tags, b"")
        elif start is None:
            self._send(response, 200, tags, content)
        elif start >= len(content):
            self._send(response, 416, {"Content-Range": f"bytes */{len(content)}"}, b"")
        else:
            start += response.shift
            total = len(content) if response.total is None else response.total
            self._send(response, 206, {**tags, "Content-Range": f"bytes {start}-{total - 1}/{total}"}, content[start:])

    def _known(self, tags: Mapping[str, str]) -> bool:
        asked = self.headers.get("If-None-Match")
        if asked is not None:
            return asked == tags.get("ETag")
        return self.headers.get("If-Modified-Since", "-") == tags.get("Last-Modified")

    def _start(self, response: Response, tags: Mapping[str, str]) -> int | None:
        condition = self.headers.get("If-Range")
        if not response.ranges or "Range" not in self.headers:
            return None
        if condition is not None and (condition not in tags.values() or condition.startswith("W/")):
            return None
        return Request(self.path, self.headers).start

    def _send(self, response: Response, status: int, headers: Mapping[str, str], body: bytes) -> None:
        if response.corrupt:
            body = body[:-1] + bytes([body[-1] ^ 1])
        length = (
            {"Transfer-Encoding": "chunked"} if response.chunked else {"Content-Length": str(len(body) + response.lie)}
        )
        self.send_response(status)
        for name, value in {**headers, **length, **response.headers}.items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        if status != 304:
            self._send_body(response, body)

    def _send_body(self, response: Response, body: bytes) -> None:
        self.close_connection = response.lie != 0
        stops = [stop for stop in (response.cut, response.stall) if stop is not None]
        end = min([len(body), *stops])
        for start in range(0, end, response.piece):
            self._write(body[start : min(start + response.piece, end)], response.chunked)
            if response.pace and self.server.stopping.wait(response.pace):
                break
        if response.stall is not None:
            self.server.stopping.wait()
        if stops:
            self.close_connection = True
        elif response.chunked:
            self.wfile.write(b"0\r\n\r\n")

    def _write(self, piece: bytes, chunked: bool) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece)
        self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:
        pass


def _tags(response: Response, content: bytes) -> dict[str, str]:
    own = {"ETag": f'"{hashlib.sha256(content).hexdigest()[:16]}"', "Last-Modified": LAST_MODIFIED}
    sent = {name: response.headers.get(name, tag) for name, tag in own.items()} if response.tags else {}
    return {name: tag for name, tag in sent.items() if tag is not None}


def _folder(root: Path) -> dict[str, bytes | Path]:
    return {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()}
