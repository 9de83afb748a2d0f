"""JSON lines in and out: each line of a body is an input, and each line of the reply its answer, in the same order.

Lines are read while earlier ones are in work. Memory is bounded whatever the length of the stream. A client may send
all of it before it reads an answer, so what it has not read yet goes to a temporary file above 1 MiB.
"""

import asyncio
import os
import re
import tempfile
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import IO, Any

from starlette.types import Send

from flowerml.core.display import format_size
from flowerml.core.errors import InputError
from flowerml.server import bodies
from flowerml.server.bodies import Incoming
from flowerml.server.errors import Busy, ClientGone, HttpError, error_body, to_bytes

BATCH = 32
"""Lines that are answered together; explanations take a hundred times as long, and are given out one by one."""
AHEAD = 2**22
"""Bytes of lines that are read ahead of the work."""
LINES_AHEAD = 4 * BATCH
"""And their number: 64 KiB of a body may hold 32,000, which would keep all other requests waiting."""
IN_MEMORY = 2**20
ON_DISK = 2**30
PIECE = 2**16

PATIENCE = 60.0
"""Seconds that a stream waits for room."""
PAUSE = 0.05

_BLANK = re.compile(rb"\n[ \t\r\n]*\n")

Ask = Callable[[Sequence[Any]], Awaitable[list[dict[str, Any]]]]
"""Returns the answers to the JSON values of lines; an InputError stands for a line that is none."""


async def answer(incoming: Incoming, send: Send, ask: Ask, *, together: int = BATCH) -> None:
    """Answer a stream of lines, some `together`; raises HttpError before the first answer, and ClientGone.

    An error of a line is that line's answer. An error of the stream is the reply's last line.
    """
    lines = _Lines(incoming)
    replies = _Replies(send)
    worker = asyncio.current_task()
    assert worker is not None
    tasks = [asyncio.create_task(lines.read(worker)), asyncio.create_task(replies.send())]
    try:
        try:
            while batch := await lines.batch(together):
                await replies.write([to_bytes(line) for line in await _in_turn(ask, batch, started=replies.started)])
            if not replies.started:
                raise HttpError(400, "no_inputs", "there is no line in the body")
        except HttpError as error:
            if not replies.started:
                raise
            await replies.write([error_body(error.code, error.message, incoming.context.id)])
        await replies.end()
    except asyncio.CancelledError:
        if not lines.has_gone:
            raise
        worker.uncancel()
        raise ClientGone from None
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        replies.close()


async def _in_turn(ask: Ask, values: Sequence[Any], *, started: bool) -> list[dict[str, Any]]:
    """Return answers; raises Busy where there is no room.

    A stream that has begun waits for room, as its status can no longer say 429. It holds none while no line arrives.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + (PATIENCE if started else 0.0)
    while True:
        try:
            return await ask(values)
        except Busy:
            if loop.time() >= deadline:
                raise
        await asyncio.sleep(PAUSE)


class _Lines:
    """The lines of a body that have arrived and wait for their turn."""

    def __init__(self, incoming: Incoming) -> None:
        self.incoming = incoming
        self.has_gone = False
        self._waiting: deque[tuple[Any, int]] = deque()
        self._size = 0
        self._error: HttpError | None = None
        self._has_ended = False
        self._changed = asyncio.Event()

    async def read(self, worker: "asyncio.Task[Any]") -> None:
        """Read the body to its end, then wait until the client goes; cancels the worker when it does.

        Each line has `seconds` to arrive; an empty one is none.
        """
        splitter = _Splitter(self.incoming.limit)
        deadline = self.incoming.deadline()
        try:
            try:
                while not self.incoming.context.body_ended:
                    for line, size in splitter.feed(await self.incoming.chunk(deadline)):
                        await self._add(line, size)
                        deadline = self.incoming.deadline()
                    self._release(splitter.take_dropped())
                    await asyncio.sleep(0)  # a body of nothing but empty lines lets others have their turn
                for line, size in splitter.rest():
                    await self._add(line, size)
            except HttpError as error:
                self._error = error
            self._has_ended = True
            self._changed.set()
            while (await self.incoming.receive())["type"] != "http.disconnect":
                pass
        except ClientGone:
            pass
        self.has_gone = True
        worker.cancel()

    async def batch(self, most: int) -> list[Any]:
        """Return the values of the next lines, from 1 to `most`; empty at the end. Raises HttpError."""
        while not self._waiting:
            if self._error is not None:
                raise self._error
            if self._has_ended:
                return []
            self._changed.clear()
            await self._changed.wait()
        lines = [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]
        size = sum(size for _, size in lines)
        self._size -= size
        self._release(size)
        self._changed.set()
        return [value for value, _ in lines]

    async def _add(self, line: bytes | InputError, size: int) -> None:
        while self._waiting and (self._size + size > AHEAD or len(self._waiting) >= LINES_AHEAD):
            self._changed.clear()
            await self._changed.wait()
        value = line if isinstance(line, InputError) else _parse(line)
        self._waiting.append((value, size))
        self._size += size
        self._changed.set()

    def _release(self, size: int) -> None:
        self.incoming.receiving.release(self.incoming.context, size)


class _Splitter:
    """Chunks made into lines. Of a line above the limit nothing is kept."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._parts: list[bytes] = []
        self._size = 0
        self._dropped = 0

    def feed(self, chunk: bytes) -> Iterator[tuple[bytes | InputError, int]]:
        """Yield the lines that end in a chunk, each with the number of its bytes that are kept."""
        lines = _BLANK.sub(b"\n", chunk)
        self._dropped += len(chunk) - len(lines)
        *ends, rest = lines.split(b"\n")
        for end in ends:
            self._keep(end)
            self._dropped += 1
            yield from self.rest()
        self._keep(rest)

    def rest(self) -> Iterator[tuple[bytes | InputError, int]]:
        """Yield the last line, where it does not end."""
        line, is_too_large = b"".join(self._parts), self._size > self.limit
        self._parts.clear()
        self._size = 0
        if is_too_large:
            yield InputError("too_large", f"the line is larger than {format_size(self.limit)}"), 0
        elif line.strip():
            yield line, len(line)
        else:
            self._dropped += len(line)

    def take_dropped(self) -> int:
        """Return the number of bytes that were dropped since the last call."""
        dropped, self._dropped = self._dropped, 0
        return dropped

    def _keep(self, part: bytes) -> None:
        self._size += len(part)
        if self._size <= self.limit:
            self._parts.append(part)
            return
        self._dropped += sum(map(len, self._parts)) + len(part)
        self._parts.clear()


class _Replies:
    """Lines of the reply on their way to the client."""

    def __init__(self, send: Send) -> None:
        self.started = False
        self._send = send
        self._kept = Spool()
        self._error: Exception | None = None
        self._changed = asyncio.Event()

    async def write(self, lines: Sequence[bytes]) -> None:
        """Add lines; waits while the client has more to read than can be kept."""
        if not self.started:
            self.started = True
            headers = [(b"content-type", b"application/x-ndjson")]
            await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        data = b"\n".join((*lines, b""))
        while not self._kept.put(data):
            await self._wait()
        self._changed.set()

    async def end(self) -> None:
        """Wait until all lines are sent, and end the reply."""
        while self._kept.size:
            await self._wait()
        await self._send({"type": "http.response.body", "body": b""})

    async def send(self) -> None:
        """Send what is there, for as long as the reply lasts."""
        try:
            while True:
                if piece := self._kept.get():
                    await self._send({"type": "http.response.body", "body": piece, "more_body": True})
                    self._kept.drop(len(piece))
                    self._changed.set()
                else:
                    await self._wait()
        except Exception as error:  # whatever it is, the one who writes has to know
            self._error = error
            self._changed.set()

    def close(self) -> None:
        """Forget what was not sent."""
        self._kept.close()

    async def _wait(self) -> None:
        if self._error is not None:
            raise self._error
        self._changed.clear()
        await self._changed.wait()


class Spool:
    """Bytes that wait, first in first out: in memory, and above IN_MEMORY in a temporary file.

    Not tempfile.SpooledTemporaryFile, which loses what it holds when the disk is full.
    """

    def __init__(self) -> None:
        self.size = 0
        self._memory: deque[bytes] = deque()
        self._in_memory = 0
        self._file: IO[bytes] | None = None
        self._start = self._end = 0

    def put(self, data: bytes) -> bool:
        """Add bytes; returns False, and adds nothing, where there is no room. There is always room for the first."""
        if self._start == self._end and (not self._memory or self._in_memory + len(data) <= IN_MEMORY):
            self._memory.append(data)
            self._in_memory += len(data)
        elif not self._write(data):
            return False
        self.size += len(data)
        return True

    def get(self) -> bytes:
        """Return the first bytes, at most PIECE; empty where there are none."""
        if self._memory:
            return self._memory[0][:PIECE]
        if self._file is None or self._start == self._end:
            return b""
        return os.pread(self._file.fileno(), min(PIECE, self._end - self._start), self._start)

    def drop(self, count: int) -> None:
        """Remove bytes that `get` returned."""
        self.size -= count
        if self._memory:
            self._in_memory -= count
            first = self._memory.popleft()
            if count < len(first):
                self._memory.appendleft(first[count:])
            return
        self._start += count
        if self._file is not None and self._start == self._end:
            self._file.truncate(0)
            self._start = self._end = 0

    def close(self) -> None:
        """Forget all bytes."""
        if self._file is not None:
            self._file.close()

    def _write(self, data: bytes) -> bool:
        if self._end + len(data) > ON_DISK:
            return False
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  closed by close()
            written = os.pwrite(self._file.fileno(), data, self._end)
        except OSError:  # no room on the disk: the stream waits until its client has read some
            return False
        if written == len(data):
            self._end += written
        return written == len(data)


def _parse(line: bytes) -> Any:
    try:
        return bodies.parse_json(line, what="the line")
    except HttpError as error:
        return InputError("bad_line", error.message)
