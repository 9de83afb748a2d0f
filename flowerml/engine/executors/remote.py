"""The driver's side of a worker, whichever engine runs its process: calls in order, and what is said on a loss."""

import itertools
import queue
import secrets
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, wait
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from flowerml.core.display import visible
from flowerml.core.errors import FlowermlError
from flowerml.engine.executors import sharing, wire
from flowerml.engine.executors.facts import CODE, check_alike, location
from flowerml.engine.executors.place import Place
from flowerml.engine.executors.sharing import Member, Shared

CLOSING = 10.0  # seconds that threads get to see the end of their worker


class WorkerLost(FlowermlError):
    """A worker whose process has ended: killed, out of memory, or gone with its machine."""


class Link(Protocol):
    """The connection with a worker's process."""

    def request(self, data: bytes, part: Any = None) -> bytes:
        """Send a request to the process's Host and return its reply; raises WorkerLost once the process has ended."""

    def end(self) -> None:
        """End the process, whatever it does; a request that waits raises WorkerLost. May be called from any thread."""


def ask(link: Link, name: str, operation: str, *arguments: Any, part: Any = None) -> Any:
    """Return the Host's reply to a request; raises the error that it replied with.

    `part` is a part of a file: its bytes, or what the link's engine knows them by.
    """
    if isinstance(part, bytes):
        arguments, part = (*arguments, part), None
    reply = wire.decode(link.request(wire.encode((operation, arguments)), part))
    if isinstance(reply, wire.Failure):
        raise reply.restored(name)
    return reply


class RemoteWorker:
    """A worker, spoken to by a thread of its own: one request at a time, so that nothing waits half sent."""

    def __init__(self, name: str, connect: Callable[[], Link], introduce: Callable[[Link], None]) -> None:
        self.name = name
        self.ready: Future[None] = Future()
        self._connect, self._introduce = connect, introduce
        self._link: Link | None = None
        self._closed = False
        self._lock = threading.Lock()
        self._waiting = 0
        self._calls: queue.SimpleQueue[tuple[Future[Any], str, tuple[Any, ...]] | None] = queue.SimpleQueue()
        # A daemon, as Python would wait for others at its end, also where the pool was never closed.
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.thread.start()

    def call(self, method: str, *args: Any) -> "Future[Any]":
        """Call a method of the object; never waits."""
        return self._submit("call", method, *args)

    def retire(self) -> "Future[Any] | None":
        """Let an idle process remove what it has on its disk, and return when it has; None for a busy one."""
        with self._lock:
            idle = self._link is not None and not self._waiting and not self._closed
        return self._submit("close") if idle else None

    def close(self) -> None:
        """End the process, also in the midst of a call: pending futures raise WorkerLost."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._calls.put(None)
            link = self._link
        if link is not None:
            link.end()

    def _submit(self, operation: str, *args: Any) -> "Future[Any]":
        future: Future[Any] = Future()
        with self._lock:
            if not self._closed:
                self._waiting += 1
                self._calls.put((future, operation, args))
                return future
        future.set_exception(self._closed_error())
        return future

    def _run(self) -> None:
        failure: BaseException | None = None
        try:
            link = self._linked()
            self._introduce(link)
            self.ready.set_result(None)
        except BaseException as error:  # raised by the futures of all calls
            failure = error
            self.ready.set_exception(error)
        while (item := self._calls.get()) is not None:
            future, operation, args = item
            if not future.set_running_or_notify_cancel():
                continue
            try:
                if self._closed:
                    raise self._closed_error()
                if failure is not None:
                    raise failure
                result = ask(link, self.name, operation, *args)
                with self._lock:
                    self._waiting -= 1
                future.set_result(result)
            except BaseException as error:  # raised by the future
                if isinstance(error, WorkerLost) and failure is None:
                    failure = error
                future.set_exception(error)

    def _linked(self) -> Link:
        link = self._connect()
        with self._lock:
            self._link = link
            if self._closed:
                link.end()
        return link

    def _closed_error(self) -> WorkerLost:
        return WorkerLost(f"{self.name} was closed before it finished")


class RemotePool:
    """What the pools of all engines share: names, the probe of each worker, and files brought to it."""

    def __init__(self, place: Place, threads: int, facts: Mapping[str, str]) -> None:
        self.size = place.workers
        self.mixed = False
        self.threads = threads
        self.token = secrets.token_hex(16)
        self._facts = facts
        self._numbers = itertools.count(1)
        self._workers: list[RemoteWorker] = []
        self._shared: list[Shared] = []
        self._bringing = threading.Lock()
        self._warned: set[str] = set()

    def start(self, factory: str, *args: Any) -> RemoteWorker:
        """Return a new worker; see `Pool`."""
        number = next(self._numbers)
        name = f"worker {number}"
        shared = tuple(self._shared)

        def introduce(link: Link) -> None:
            host, folder, facts = ask(link, name, "introduce")
            if folder == location():
                # The very same files: an edit in the midst of a long search must not refuse a lost worker's heir.
                facts[CODE] = self._facts.get(CODE, "")
            self._admit(f"{name} on {host}", facts)
            for item in shared:
                self._bring(link, name, item)
            ask(link, name, "make", factory, *args)

        self._workers = [worker for worker in self._workers if worker.thread.is_alive()]
        worker = RemoteWorker(name, lambda: self._link(number, name), introduce)
        self._workers.append(worker)
        return worker

    def share(self, path: Path) -> Shared:
        """Return a file or folder as an argument for workers that are started after this."""
        item = self._share(path)
        self._shared.append(item)
        return item

    def __enter__(self) -> Self:
        """Return the pool."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close all workers, and what runs them."""
        try:
            if any(item.members is not None for item in self._shared):
                # The busy ones end first, so that the last of a machine is one that removes its copies.
                idle = [(worker, future) for worker in self._workers if (future := worker.retire())]
                for worker in set(self._workers) - {worker for worker, _ in idle}:
                    worker.close()
                wait([future for _, future in idle], CLOSING)
            for worker in self._workers:
                worker.close()
        finally:
            self._shut()
        for worker in self._workers:
            worker.thread.join(CLOSING)
        self._workers = []

    def _link(self, number: int, name: str) -> Link:
        """Start a process and return the connection with it, without waiting for it."""
        raise NotImplementedError

    def _share(self, path: Path) -> Shared:
        return sharing.shared(path)

    def _shut(self) -> None:
        """End what runs the workers."""

    def _admit(self, name: str, facts: Mapping[str, str]) -> None:
        """Raise MixedMachines for an unlike worker; where FLOWERML_MIXED lets it in, say so, once for each kind."""
        warning = check_alike(self._facts, facts, name=name)
        if warning is None:
            return
        self.mixed = True
        difference = warning.partition(": ")[2]
        if difference not in self._warned:
            self._warned.add(difference)
            say(f"warning: {warning}")

    def _bring(self, link: Link, name: str, item: Shared) -> None:
        """Copy a shared thing to a worker that does not see it; one worker at a time, so once a machine."""
        if item.members is None:
            return
        with self._bringing:
            if ask(link, name, "find", item):
                return
            for member in item.members:
                for offset, part in self._parts(item, member):
                    ask(link, name, "write", item, member, offset, part=part)
            ask(link, name, "finish", item)

    def _parts(self, item: Shared, member: Member) -> Iterator[tuple[int, Any]]:
        """Yield (offset, content) of a file, the content as `Link.request` takes it."""
        offset = 0
        for chunk in sharing.chunks(item, member):
            yield offset, chunk
            offset += len(chunk)
        if not offset:
            yield 0, b""


def say(line: str) -> None:
    """Write a line to stderr, past a progress bar."""
    from tqdm import tqdm

    tqdm.write(visible(line), file=sys.stderr)
