"""Workers on the machines of a Dask cluster: one that is there, else one that is started here.

Each lives in a process of its own below a process of Dask, so that it can be killed in a call, and has its threads. Its
handle is the result of a task: Dask drops it, which ends the process, when the driver is gone. Not Dask's actors, which
cannot be killed in a call, and whose callers wait for ever where the process dies at the wrong moment.
"""

import logging
import secrets
import threading
import time
import weakref
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from flowerml.core.display import one_line
from flowerml.core.errors import FlowermlError, cause_message
from flowerml.core.urls import without_secrets
from flowerml.engine.executors.address import check_answers
from flowerml.engine.executors.facts import machine_facts
from flowerml.engine.executors.local import LocalPool
from flowerml.engine.executors.place import Place
from flowerml.engine.executors.remote import Link, RemotePool, WorkerLost, say

if TYPE_CHECKING:
    from distributed import Client

CONNECT = 30.0  # seconds
LOOK = 1.0  # seconds between two looks at whether a process of Dask is still there
PATIENCE = 15.0  # seconds until a worker without a place is told of
PLACED_WITHIN = 600.0  # seconds
LARGE = 2**20  # bytes; more does not go through the scheduler
LOGGERS = ("distributed", "distributed.nanny", "distributed.worker", "distributed.scheduler", "distributed.core")


class DaskPool(RemotePool):
    """Processes of a Dask cluster, each with one worker of this pool."""

    def __init__(self, place: Place, threads: int, facts: Mapping[str, str]) -> None:
        super().__init__(place, threads, facts)
        self._cluster: Any = None
        self.client: Client = self._connected(place)
        self._used: set[str] = set()
        self._choosing = threading.Lock()
        self._placed = threading.Event()

    def addresses(self) -> set[str]:
        """Return the addresses of Dask's processes."""
        return set(self.client.scheduler_info(n_workers=-1)["workers"])

    def choose(self, name: str, ended: threading.Event) -> str:
        """Return the address of a process without a worker of this pool; waits where there is none, until `ended`."""
        started, warned = time.monotonic(), False
        while not ended.is_set():
            with self._choosing:
                if free := sorted(self.addresses() - self._used):
                    self._used.add(free[0])
                    self._placed.set()
                    return free[0]
            waited = time.monotonic() - started
            if waited > PATIENCE and not warned:
                say(f"{name} waits for a place; the Dask cluster has {len(self.addresses())} processes")
                warned = True
            if waited > PLACED_WITHIN and not self._placed.is_set():
                raise FlowermlError(f"the Dask cluster had no process for {name} in {waited:.0f} s; start more there")
            ended.wait(0.2)
        raise WorkerLost(f"{name} was closed before it had a place")

    def give_back(self, address: str) -> None:
        """Take a process as free again."""
        with self._choosing:
            self._used.discard(address)

    def _connected(self, place: Place) -> "Client":
        """Return a client of a cluster that is there, or is started; raises FlowermlError."""
        try:
            import distributed
        except ModuleNotFoundError:
            raise FlowermlError("FLOWERML_ENGINE=dask needs Dask; run: pip install 'flowerml[dask]'") from None
        for name in LOGGERS:  # they tell of every process that ends, as ours do
            logging.getLogger(name).setLevel(logging.CRITICAL)
        address: Any = place.address
        if place.address is not None:
            check_answers(place.address, schemes=("tcp", "tls"), example="tcp://scheduler:8786")
        try:
            if address is None:
                # In threads, as our workers are processes anyway; Dask's own would run this process's __main__ again.
                address = self._cluster = distributed.LocalCluster(
                    n_workers=place.workers,
                    threads_per_worker=1,
                    processes=False,
                    dashboard_address="127.0.0.1:0",
                    memory_limit=0,
                    silence_logs=logging.CRITICAL,
                )
            return distributed.Client(address, timeout=CONNECT, set_as_default=False)
        except (OSError, RuntimeError, ValueError) as error:
            if self._cluster is not None:
                self._cluster.close(timeout=10)
            where = "on this machine" if place.address is None else f"at {one_line(without_secrets(place.address), 99)}"
            raise FlowermlError(
                f"FLOWERML_ADDRESS: no Dask cluster answers {where} ({one_line(cause_message(error), 200)}); check the "
                "address, and that Dask and Python have the same versions there"
            ) from error

    def _link(self, number: int, name: str) -> Link:
        return DaskLink(self, name)

    def _shut(self) -> None:
        self.client.close(timeout=10)
        if self._cluster is not None:
            self._cluster.close(timeout=10)


class DaskLink:
    """A process below one of Dask's."""

    def __init__(self, pool: DaskPool, name: str) -> None:
        self._pool, self._name = pool, name
        self._token = secrets.token_hex(16)
        self._address: str | None = None
        self._handle: Any = None
        self._ended = threading.Event()

    def request(self, data: bytes, part: Any = None) -> bytes:
        """Send a request and return its reply; raises WorkerLost once the process, or that of Dask, is gone."""
        client = self._pool.client
        try:
            if self._address is None:
                self._address = self._pool.choose(self._name, self._ended)
                self._handle = self._submit(Handle, self._token, self._pool.token, self._pool.threads)
            content: Any = data if len(data) < LARGE else client.scatter(data, workers=[self._address], hash=False)
            reply: bytes | str = self._result(self._submit(Handle.request, self._handle, content))
        except (OSError, RuntimeError, ValueError) as error:
            self.end()
            if isinstance(error, FlowermlError):
                raise
            raise WorkerLost(f"{self._name} was lost: {one_line(cause_message(error), 200)}") from None
        if isinstance(reply, str):
            self.end()  # its place is free for the next one
            raise WorkerLost(f"{self._name}: {reply}")
        return reply

    def end(self) -> None:
        """Kill the process, whatever it does."""
        if self._ended.is_set():
            return
        self._ended.set()
        if self._address is not None:
            # Past the tasks: it may be one that is to be ended. The cluster may be gone.
            with suppress(OSError, RuntimeError, ValueError, TimeoutError):
                self._pool.client.run(kill, self._token, workers=[self._address], on_error="ignore")
            self._pool.give_back(self._address)
        self._handle = None

    def _submit(self, function: Any, *arguments: Any) -> Any:
        return self._pool.client.submit(function, *arguments, workers=[self._address], pure=False, retries=0)

    def _result(self, task: Any) -> Any:
        """Return the result of a task; raises WorkerLost."""
        from distributed.client import FutureCancelledError

        while not self._ended.is_set():
            try:
                return task.result(timeout=LOOK)
            except TimeoutError:
                if self._address not in self._pool.addresses():
                    break
            except FutureCancelledError:
                break
        raise WorkerLost(f"{self._name} was {'closed' if self._ended.is_set() else 'lost'} while it was working")


class Handle:
    """A worker's process, below a process of Dask, which keeps this as long as the driver holds its future."""

    def __init__(self, token: str, pool_token: str, threads: int) -> None:
        self._pool = LocalPool(Place(), threads, machine_facts())
        self._pool.token = pool_token
        self._link = self._pool._link(1, "worker")
        _handles[token] = self

    def request(self, data: bytes) -> bytes | str:
        """Return the reply of the process; the reason in words where it was lost."""
        try:
            return self._link.request(data)
        except WorkerLost as error:
            return str(error)

    def kill(self) -> None:
        """End the process."""
        self._pool.__exit__(None, None, None)

    def __del__(self) -> None:
        """End the process when Dask forgets this."""
        self.kill()


_handles: "weakref.WeakValueDictionary[str, Handle]" = weakref.WeakValueDictionary()


def kill(token: str) -> None:
    """End a worker that lives below this process of Dask."""
    if (handle := _handles.get(token)) is not None:
        handle.kill()
