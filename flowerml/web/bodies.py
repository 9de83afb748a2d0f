"""The bodies of requests, read within bounds of size and time, and reduced to what the page's own script sends."""

import asyncio
import json
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.types import Receive

MULTIPART_OVERHEAD = 16 * 2**10
MAX_INPUTS = 4


class BodyError(Exception):
    """A body that is refused, with the status of the answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


async def read_body(receive: Receive, headers: dict[str, str], *, limit: int, seconds: float) -> bytes:
    """Return the whole body; raises BodyError above `limit` bytes, where its length is given before it is read."""
    too_large = BodyError(413, f"too large; at most {limit} bytes are taken")
    declared = headers.get("content-length", "0")
    if not declared.isascii() or not declared.isdigit() or len(declared) > 15 or int(declared) > limit:
        raise too_large
    body, more = bytearray(), True
    try:
        async with asyncio.timeout(seconds):
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise BodyError(400, "the body ended early")
                body += message.get("body", b"")
                more = message.get("more_body", False)
                if len(body) > limit:
                    raise too_large
    except TimeoutError:
        raise BodyError(408, f"the body did not arrive within {seconds:g} s") from None
    return bytes(body)


def only_file(body: bytes, content_type: str) -> bytes:
    """Return the content of the one file of a multipart form; its name and type are not used."""
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise BodyError(400, "expected a form of one file")
    parts: list[bytearray] = []
    ended: list[bool] = []

    def begin() -> None:
        if parts:
            raise BodyError(400, "expected a form of one file, found more")
        parts.append(bytearray())

    def data(chunk: bytes, start: int, end: int) -> None:
        parts[-1].extend(memoryview(chunk)[start:end])

    try:
        parser = MultipartParser(
            options[b"boundary"],
            {"on_part_begin": begin, "on_part_data": data, "on_end": lambda: ended.append(True)},
        )
        parser.write(body)
        parser.finalize()
    except FormParserError:
        raise BodyError(400, "expected a form of one file, found a broken one") from None
    if not parts or not ended:
        raise BodyError(400, "expected a form of one file, found none")
    return bytes(parts[0])


def as_json(body: bytes) -> dict[str, Any]:
    """Return a JSON object."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise BodyError(400, "not JSON") from None
    if not isinstance(value, dict):
        raise BodyError(400, "expected a JSON object")
    return value


def question(body: dict[str, Any]) -> dict[str, Any]:
    """Return what the page's script may ask, rebuilt from known fields.

    An input is a text, or a picture's key; Gradio would take a `path` for a file of this machine, fetch a `url`, and
    treat other fields as its own.
    """
    inputs = body.get("data")
    if not isinstance(inputs, list) or len(inputs) > MAX_INPUTS:
        raise BodyError(400, "expected a list of inputs in `data`")
    function, event = body.get("fn_index"), body.get("event_data")
    index = event.get("index") if isinstance(event, dict) else None
    return {
        "data": [_input(value) for value in inputs],
        "fn_index": _number(function),
        "trigger_id": None if body.get("trigger_id") is None else _number(body["trigger_id"]),
        "event_data": {"index": _number(index)} if index is not None else None,
        "session_hash": text_field(body, "session_hash"),
    }


def text_field(body: dict[str, Any], name: str) -> str:
    """Return a short text; raises BodyError for anything else."""
    value = body.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= 64:
        raise BodyError(400, f"expected a short text in `{name}`")
    return value


def _input(value: Any) -> str | dict[str, str] | None:
    if value is None:
        return None
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()  # a lone surrogate cannot be sent on
    if isinstance(value, dict) and isinstance(value.get("path"), str):
        return {"path": value["path"][:64]}
    raise BodyError(400, "expected a text or an uploaded picture")


def _number(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 10**6:
        raise BodyError(400, "expected a number")
    return value
