"""The end of work whose client has gone."""

import asyncio
from types import TracebackType

from starlette.types import Receive

from flowerml.server.errors import ClientGone

DELAY = 0.05
"""Seconds until the watch begins: it costs a task, and a short answer is done by then."""


class Disconnect:
    """Cancels the work in an `async with` block when the client disconnects; the block then raises ClientGone.

    The body of the request must have been read: what arrives after it is dropped.
    """

    def __init__(self, receive: Receive, *, delay: float = DELAY) -> None:
        self.receive = receive
        self.delay = delay
        self._has_gone = False
        self._watcher: asyncio.Task[None] | None = None

    async def __aenter__(self) -> None:
        self._worker = asyncio.current_task()
        self._loop = asyncio.get_running_loop()
        self._start = self._loop.call_later(self.delay, self._begin)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._start.cancel()
        if self._watcher is not None:
            self._watcher.cancel()
        if self._has_gone and kind is asyncio.CancelledError:
            assert self._worker is not None
            self._worker.uncancel()
            raise ClientGone from None

    def _begin(self) -> None:
        self._watcher = self._loop.create_task(self._watch())

    async def _watch(self) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass
        self._has_gone = True
        assert self._worker is not None
        self._worker.cancel()
