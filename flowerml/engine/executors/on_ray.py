"""Workers as actors of a Ray cluster: one that is there, else one that is started here and stopped at the end."""

import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from flowerml.core.display import one_line
from flowerml.core.errors import FlowermlError, cause_message
from flowerml.core.urls import without_secrets
from flowerml.engine.executors.address import check_answers
from flowerml.engine.executors.facts import MIXED
from flowerml.engine.executors.host import Host, environment
from flowerml.engine.executors.place import Place
from flowerml.engine.executors.remote import Link, RemotePool, WorkerLost, say
from flowerml.engine.executors.sharing import Member, Shared

if TYPE_CHECKING:
    from types import ModuleType

# Ray reads these when it is imported or starts. Without the niceness its workers wait behind any other process.
VARIABLES = {
    "RAY_worker_niceness": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
}
STARTS = 3  # of a cluster on this machine, which a busy one does not always manage
OBJECT_STORE = 2**30  # bytes, of a cluster on this machine; messages lie in it while they travel
PATIENCE = 15.0  # seconds until a worker without a place in the cluster is told of
PLACED_WITHIN = 600.0  # seconds for the first one


class RayPool(RemotePool):
    """Actors, each with its share of the cores and, where this machine computes on a GPU, with one of its own."""

    def __init__(self, place: Place, threads: int, facts: Mapping[str, str]) -> None:
        super().__init__(place, threads, facts)
        os.environ.update({name: os.environ.get(name, value) for name, value in VARIABLES.items()})
        self._ray = _ray()
        self._temporary: str | None = None
        self._parts_sent: dict[tuple[str, str], list[tuple[int, Any]]] = {}
        self.placed = threading.Event()
        self._owned = not self._ray.is_initialized()
        if self._owned:
            self._connect(place)
        cluster = self._ray.cluster_resources()
        wants_gpu = facts.get("GPU", "none") != "none" or os.environ.get(MIXED) == "allow"
        self._gpus = 1 if wants_gpu and cluster.get("GPU", 0) >= 1 else 0
        self.described = f"it has {cluster.get('CPU', 0):g} CPUs and {cluster.get('GPU', 0):g} GPUs"

    def _connect(self, place: Place) -> None:
        """Connect with a cluster, or start one; raises FlowermlError."""
        quiet = {"log_to_driver": False, "logging_level": logging.ERROR, "namespace": self.token}
        handler = signal.getsignal(signal.SIGTERM)
        try:
            if place.address is not None:
                if place.address != "auto":
                    check_answers(place.address, schemes=("ray",), example="head:6379 or ray://head:10001")
                self._attempt(address=place.address, **quiet)
                return
            for remaining in reversed(range(STARTS)):
                # Of its own, as Ray leaves the logs of each session in /tmp/ray; short, as paths of sockets must be.
                self._temporary = tempfile.mkdtemp(prefix="ray-")
                try:
                    self._attempt(
                        address="local",
                        num_cpus=place.workers * self.threads,
                        include_dashboard=False,
                        object_store_memory=OBJECT_STORE,
                        _temp_dir=self._temporary,
                        **quiet,
                    )
                    return
                except FlowermlError as error:
                    self._shut()
                    if not remaining:
                        raise
                    say(f"{error}; trying again")
        finally:
            # Ray makes SIGTERM an exit with a stack trace.
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, handler)

    def _attempt(self, **options: Any) -> None:
        address = options["address"]
        try:
            self._ray.init(**options)
        except (
            RuntimeError,
            ConnectionError,
            TimeoutError,
            OSError,
            ValueError,
            AssertionError,
            self._ray.exceptions.RayError,
        ) as error:
            reason = one_line(cause_message(error), 200)
            if address == "local":
                raise FlowermlError(
                    f"Ray did not start on this machine ({reason}); re-run the command when it is less busy, or use "
                    "FLOWERML_ENGINE=local"
                ) from error
            raise FlowermlError(
                f"FLOWERML_ADDRESS: no Ray cluster answers at {one_line(without_secrets(address), 100)} ({reason}); "
                "check the address, and that Ray and Python have the same versions there"
            ) from error

    def _link(self, number: int, name: str) -> Link:
        variables = environment(self.threads)
        if self._temporary is not None:  # on this machine: the modules of this process
            variables["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
        actor = (
            self._ray.remote(Host)
            .options(
                num_cpus=self.threads,
                num_gpus=self._gpus,
                max_restarts=0,
                max_task_retries=0,
                scheduling_strategy="SPREAD",
                runtime_env={"env_vars": variables},
            )
            .remote(self.threads, self.token)
        )
        return RayLink(self, self._ray, actor, name)

    def _parts(self, item: Shared, member: Member) -> Iterator[tuple[int, Any]]:
        """Yield the parts as references: each is put into the object store once, and machines hand it on."""
        key = (item.key, member.name)
        if key not in self._parts_sent:
            self._parts_sent[key] = [(offset, self._ray.put(part)) for offset, part in super()._parts(item, member)]
        yield from self._parts_sent[key]

    def _shut(self) -> None:
        self._parts_sent.clear()
        if self._owned:
            self._ray.shutdown()
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
            self._temporary = None


class RayLink:
    """An actor, which runs a Host."""

    def __init__(self, pool: RayPool, ray: "ModuleType", actor: Any, name: str) -> None:
        self._pool, self._ray, self._actor, self._name = pool, ray, actor, name
        self._placed = False

    def request(self, data: bytes, part: Any = None) -> bytes:
        """Send a request and return its reply; raises WorkerLost once the actor or its machine is lost."""
        exceptions = self._ray.exceptions
        try:
            reply = self._actor.reply.remote(data, part)
            self._wait_for_place(reply)
            content: bytes = self._ray.get(reply)
            return content
        except exceptions.RuntimeEnvSetupError as error:
            raise WorkerLost(f"{self._name}: Ray could not start its process ({one_line(error, 200)})") from None
        except (exceptions.RayError, ConnectionError) as error:
            out_of_memory = isinstance(error, exceptions.OutOfMemoryError)
            reason = "its machine ran out of memory" if out_of_memory else type(error).__name__
            raise WorkerLost(f"{self._name} was lost while it was working: {reason}") from None

    def end(self) -> None:
        """Kill the actor."""
        # It may have ended already, or its cluster.
        with suppress(self._ray.exceptions.RayError, ConnectionError, RuntimeError, ValueError):
            self._ray.kill(self._actor, no_restart=True)

    def _wait_for_place(self, reply: Any) -> None:
        """Wait until the actor runs; say so where the cluster is full, and give up where it has place for none."""
        if self._placed:
            return
        started, warned = time.monotonic(), False
        while not self._ray.wait([reply], timeout=PATIENCE)[0]:
            if not warned:
                say(f"{self._name} is not there yet; the Ray cluster may be full ({self._pool.described})")
                warned = True
            if not self._pool.placed.is_set() and time.monotonic() - started > PLACED_WITHIN:
                raise FlowermlError(
                    f"the Ray cluster had no place for a worker with {self._pool.threads} CPUs in {PLACED_WITHIN:.0f} "
                    f"s ({self._pool.described}); use fewer threads, or wait until others have finished"
                )
        self._placed = True
        self._pool.placed.set()


def _ray() -> "ModuleType":
    try:
        import ray
    except ModuleNotFoundError:
        raise FlowermlError("FLOWERML_ENGINE=ray needs Ray; run: pip install 'flowerml[ray]'") from None
    return ray
