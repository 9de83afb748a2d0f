"""Reading the bodies of requests: within bounds of bytes and time, and reduced to raw inputs and parameters.

Nothing here knows pictures from texts: a body is bytes of a file, text, or JSON values, and the task reads it.
"""

import asyncio
import codecs
import json
from dataclasses import dataclass, field
from typing import Any

from starlette.types import Receive

from flowerml.core.display import format_size
from flowerml.core.errors import InputError
from flowerml.server.context import Context
from flowerml.server.errors import ClientGone, HttpError, shown

CHARSETS = frozenset(
    codecs.lookup(name).name
    for name in (
        *("ascii", "utf-8", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"),
        *(f"iso8859-{number}" for number in (*range(1, 12), *range(13, 17))),
        *(f"cp125{number}" for number in range(9)),
        *(
            "koi8-r",
            "koi8-u",
            "mac-roman",
            "tis-620",
            "gbk",
            "gb18030",
            "big5",
            "shift_jis",
            "cp932",
            "euc-jp",
            "euc-kr",
        ),
    )
)
"""Of texts. Not all that Python knows: its `punycode` takes minutes for a megabyte, and `utf-7` is no one's text."""
MAX_ELEMENTS = 500_000
"""Of a JSON body: a list of empty lists takes twenty times its bytes in memory. Prose has a comma in fifty bytes."""
PIECE = 2**18
"""Bytes of a form that are parsed before others get their turn."""


class Receiving:
    """The bytes of all bodies that this process holds, of at most `limit`: those that arrive and those in work."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0

    def take(self, context: Context, size: int) -> None:
        """Count bytes that have arrived; raises HttpError where the process holds too many."""
        context.received += size
        if self.held + size > self.limit:
            raise HttpError(
                503, "overloaded", "this server is receiving too much at once; ask again in 1 s", {"retry-after": "1"}
            )
        self.held += size
        context.held += size

    def release(self, context: Context, size: int | None = None) -> None:
        """Count bytes of a request as gone: `size`, or all."""
        size = context.held if size is None else min(size, context.held)
        self.held -= size
        context.held -= size


@dataclass(slots=True)
class Incoming:
    """The body of a request, not yet read. No more than `limit` bytes of it are kept at a time."""

    receive: Receive
    context: Context
    receiving: Receiving
    limit: int
    seconds: float
    declared: int | None
    """Its length, where the client told it."""

    async def read(self) -> bytes:
        """Return the whole body; raises HttpError 413, 408 and 503, and ClientGone."""
        if self.declared is not None and self.declared > self.limit:
            raise self._too_large()
        deadline = self.deadline()
        chunks: list[bytes] = []
        size = 0
        while not self.context.body_ended:
            chunk = await self.chunk(deadline)
            size += len(chunk)
            if size > self.limit:
                raise self._too_large()
            chunks.append(chunk)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def deadline(self) -> float:
        """Return the time of the event loop at which what is awaited now must have arrived."""
        return asyncio.get_running_loop().time() + self.seconds

    async def chunk(self, deadline: float) -> bytes:
        """Return the next bytes of the body; raises HttpError 408 and 503, and ClientGone."""
        try:
            async with asyncio.timeout_at(deadline):
                message = await self.receive()
        except TimeoutError:
            raise HttpError(408, "too_slow", f"the body did not arrive within {self.seconds:g} s") from None
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunk: bytes = message.get("body", b"")
        self.context.body_ended = not message.get("more_body", False)
        self.receiving.take(self.context, len(chunk))
        return chunk

    def _too_large(self) -> HttpError:
        return HttpError(413, "too_large", f"the body is larger than the {format_size(self.limit)} that are taken")


@dataclass
class Part:
    """A part of a form: a file, or a field of a name."""

    name: str
    is_file: bool
    content: bytearray = field(default_factory=bytearray)


def options(content_type: bytes) -> tuple[str, dict[str, str]]:
    """Return a content type, in lower case, and its options.

    >>> options(b"Text/Plain; charset=latin-1")
    ('text/plain', {'charset': 'latin-1'})
    """
    from python_multipart.multipart import parse_options_header

    if b";" not in content_type:
        return content_type.strip().decode("latin-1").lower(), {}
    kind, found = parse_options_header(content_type)
    return kind.decode("latin-1"), {
        name.decode("latin-1").lower(): value.decode("latin-1") for name, value in found.items()
    }


def text(content: bytes, charset: str) -> str | InputError:
    """Return the text in bytes, or why they are none; raises HttpError 415 for an unknown charset."""
    try:
        codec = codecs.lookup(charset).name if charset.isascii() and len(charset) < 40 else ""
    except (LookupError, ValueError):
        codec = ""
    if codec not in CHARSETS:
        raise HttpError(415, "unknown_charset", f"the charset {shown(charset)} is not known; send UTF-8")
    try:
        return content.decode("utf-8-sig" if codec == "utf-8" else codec)
    except UnicodeDecodeError:
        return InputError("not_a_text", f"the text is not {codec}; name its charset, as in text/plain; charset=latin-1")


def parse_json(content: bytes, *, what: str = "the body") -> Any:
    """Return the JSON value in bytes; raises HttpError 400, and 413 above MAX_ELEMENTS."""
    if len(content) > MAX_ELEMENTS and sum(map(content.count, (b",", b"[", b"{"))) > MAX_ELEMENTS:
        raise HttpError(413, "too_many_values", f"{what} has more than {MAX_ELEMENTS:,} JSON values")
    try:
        return json.loads(content)
    except RecursionError:
        raise HttpError(400, "bad_json", f"{what} is nested too deeply") from None
    except ValueError as error:  # broken JSON, bytes that are not UTF-8, numbers of thousands of digits
        place = f" at byte {error.pos}" if isinstance(error, json.JSONDecodeError) else ""
        raise HttpError(400, "bad_json", f"{what} is not JSON: it cannot be read{place}") from None


async def form(content: bytes, boundary: str | None, *, max_parts: int) -> list[Part]:
    """Return the parts of a multipart form in order; raises HttpError 400, and 413 above `max_parts`.

    A file without content that no name was chosen for, as browsers send it, is left out.
    """
    from python_multipart.exceptions import FormParserError
    from python_multipart.multipart import MultipartParser

    if not boundary:
        raise HttpError(400, "bad_form", "multipart/form-data needs its boundary in Content-Type")
    reading = _FormReading(max_parts)
    try:
        parser = MultipartParser(boundary.encode("latin-1"), reading.callbacks(), max_size=len(content) + 1)
        for start in range(0, len(content), PIECE):
            parser.write(content[start : start + PIECE])
            await asyncio.sleep(0)
        parser.finalize()
    except FormParserError:
        raise HttpError(400, "bad_form", "the form cannot be read: it is not as multipart/form-data says") from None
    if not reading.has_ended:
        raise HttpError(400, "bad_form", "the form ends early: its last boundary is missing")
    return [part for part in reading.parts if part.name or part.is_file]


class _FormReading:
    """What python-multipart's parser calls: the parts of a form so far."""

    def __init__(self, max_parts: int) -> None:
        self.max_parts = max_parts
        self.parts: list[Part] = []
        self.has_ended = False
        self._header = b""
        self._value = b""

    def callbacks(self) -> Any:  # python-multipart's own type of these exists for type checkers only
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._on_field,
            "on_header_value": self._on_value,
            "on_header_end": self._end_header,
            "on_part_data": self._on_data,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        if len(self.parts) == self.max_parts:
            raise too_many(self.max_parts)
        self.parts.append(Part("", is_file=False))

    def _on_field(self, chunk: bytes, start: int, end: int) -> None:
        self._header += bytes(chunk[start:end])

    def _on_value(self, chunk: bytes, start: int, end: int) -> None:
        self._value += bytes(chunk[start:end])

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            _, found = options(self._value)
            self.parts[-1].name = found.get("name", "")
            self.parts[-1].is_file = bool(found.get("filename")) or "filename*" in found
            if found.get("filename") == "":
                self.parts[-1].name = ""
        self._header = self._value = b""

    def _on_data(self, chunk: bytes, start: int, end: int) -> None:
        self.parts[-1].content += memoryview(chunk)[start:end]

    def _end(self) -> None:
        self.has_ended = True


def too_many(limit: int) -> HttpError:
    """Return the error for more inputs than one request may have."""
    return HttpError(
        413, "too_many_inputs", f"at most {limit:,} inputs are taken at once; send more as application/x-ndjson"
    )


def one_input(value: Any, column: str) -> Any:
    """Return the input in a JSON value that stands for one: itself, or an object with the key `inputs` or `column`.

    Returns an InputError for any other object.

    >>> one_input({"text": "good"}, "text")
    'good'
    """
    if not isinstance(value, dict):
        return value
    if len(value) == 1 and (key := next(iter(value))) in ("inputs", column):
        return value[key]
    return InputError("bad_line", f"expected a text or an object with the one key {column!r}")
