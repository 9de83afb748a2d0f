"""The models that are served, each the version its address points to: watched, loaded, checked and swapped."""

import logging
import random
import re
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from flowerml.core.display import one_line, printable
from flowerml.core.errors import ModelError
from flowerml.core.urls import without_secrets
from flowerml.registry import client
from flowerml.server.loading import Loaded, Refused, load
from flowerml.server.scratch import Scratch
from flowerml.server.watch import Alias, Source, Target, source_of
from flowerml.server.webhook import Webhook

if TYPE_CHECKING:
    from starlette.types import ASGIApp

POLL = 15.0  # seconds from one look at an address to the next
JITTER = 0.2  # of that time: the workers of many servers do not ask a registry at the same moment
BACKOFF = 60.0  # seconds, at most, from one look at a registry that is not responding to the next
PAUSE = 1.0  # seconds between two looks, however often a webhook asks for one
REFUSALS = 10  # that are remembered
REASON = 300  # characters
STOPPING = 5.0  # seconds
FOLDERS = re.compile(r"(?:(?<=sqlite:///)|(?<![\w:/.…-]))/(?:[^\s/'\"`]+/)+")

_log = logging.getLogger(__name__)


class Events(Protocol):
    """What is told of reloads, for metrics; from any thread."""

    def reloaded(self, name: str, version: str | None) -> None: ...

    def refused(self, name: str) -> None: ...

    def registry(self, name: str, reachable: bool) -> None: ...


@dataclass(frozen=True)
class Refusal:
    """A version that was not taken into service."""

    version: str | None
    reason: str
    at: str


class ServedModel:
    """A model at an address, and the version of it that answers. May be used from many threads.

    `current` changes from one version to the next in one step: a request that has taken it is answered by that version,
    also when it ends after the swap. A version that is refused is not tried again until the address has pointed to
    another one in between.
    """

    def __init__(
        self,
        name: str,
        address: str,
        load_version: Callable[[Source, Target], Loaded],
        *,
        poll: float = POLL,
        events: Events | None = None,
    ) -> None:
        self.name = name
        self.address = address
        self._source = source_of(address)
        self._load = load_version
        self._poll = poll
        self._events = events
        self._current: Loaded | None = None
        self._served: Target | None = None
        self._seen: Target | None = None
        self._refusals: deque[Refusal] = deque(maxlen=REFUSALS)
        self._error: str | None = None
        self._failures = 0
        self._looked: float | None = None
        self._looking = threading.Lock()
        self._wake = threading.Event()
        self._stopped = False
        self._thread: threading.Thread | None = None

    @property
    def current(self) -> Loaded | None:
        """The version that answers; None while there is none."""
        return self._current

    @property
    def kind(self) -> str | None:
        """The kind of its task; None while there is no version."""
        current = self._current
        return None if current is None else current.classifier.kind

    @property
    def registered_name(self) -> str | None:
        """The name in the registry of a model that follows an alias; None for any other."""
        return self._source.name if isinstance(self._source, Alias) else None

    def status(self) -> dict[str, Any]:
        """Return what /health says of it: plain data, times in UTC."""
        current = self._current
        return {
            "address": public_address(self.address),
            "kind": None if current is None else current.classifier.kind,
            "model": None if current is None else current.model["name"],
            "version": None if current is None else current.model["version"],
            "digest": None if current is None else current.digest,
            "since": None if current is None else _utc(current.loaded_at),
            "checked": None if self._looked is None else _utc(self._looked),
            "refused": [asdict(refusal) for refusal in self._refusals],
            "registry_error": self._error,
        }

    def look(self) -> None:
        """Take into service what the address points to, if that is another version than before.

        Raises ModelError where the registry, or the version's files, cannot be reached; a version that is broken is
        refused, and the one before goes on.
        """
        with self._looking:
            try:
                self._look()
            except ModelError as error:
                self._fails(error)
                raise
            self._succeeds()

    def check_soon(self) -> None:
        """Look at once, in the thread that watches, and not at the end of its pause."""
        self._wake.set()

    def watch(self) -> None:
        """Look again and again, in a thread of its own."""
        self._thread = threading.Thread(target=self._watch, name=f"watch {self.name}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the watching; a download that is going on is not waited for long."""
        self._stopped = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(STOPPING)

    def _look(self) -> None:
        target = self._source.target()
        self._looked = time.time()
        if target == self._seen:
            return
        if target != self._served:  # after a refusal the address may be moved back to what is served
            try:
                loaded = self._load(self._source, target)
            except Refused as error:
                self._refuse(target, without_folders(one_line(error))[:REASON])
            else:
                self._swap(target, loaded)
        self._seen = target

    def _swap(self, target: Target, loaded: Loaded) -> None:
        before, self._current, self._served = self._current, loaded, target
        replaced = "" if before is None else f" instead of {_shown(before)}"
        _log.info("%s: %s answers%s", self.name, _shown(loaded), replaced)
        if self._events is not None:
            self._events.reloaded(self.name, loaded.model["version"])

    def _refuse(self, target: Target, reason: str) -> None:
        self._refusals.append(Refusal(target.version, reason, _utc(time.time())))
        current = self._current
        rest = "none answers yet" if current is None else f"{_shown(current)} goes on"
        version = "the new classifier" if target.version is None else f"version {target.version}"
        if self._thread is not None:  # else `start` raises the reason
            _log.warning("%s: %s is refused, and %s: %s", self.name, version, rest, reason)
        if self._events is not None:
            self._events.refused(self.name)

    def _fails(self, error: Exception) -> None:
        message = printable(one_line(error), REASON)
        reason = without_folders(one_line(error))[:REASON]
        if reason != self._error and self._thread is not None:  # once, however long it lasts
            rest = "none answers yet" if self._current is None else f"{_shown(self._current)} goes on"
            _log.warning("%s: cannot be checked, and %s: %s", self.name, rest, message)
        self._error = reason
        self._failures += 1
        if self._events is not None:
            self._events.registry(self.name, False)

    def _succeeds(self) -> None:
        if self._error is not None:
            _log.info("%s: can be checked again", self.name)
        self._error, self._failures = None, 0
        if self._events is not None:
            self._events.registry(self.name, True)

    def _watch(self) -> None:
        while not self._stopped and (self._source.moves or self._seen is None):
            self._wake.wait(self._pause())
            self._wake.clear()
            if not self._stopped:
                self._try_to_look()
                time.sleep(min(PAUSE, self._poll))

    def _try_to_look(self) -> None:
        try:
            self.look()
        except ModelError:
            pass  # the log and the status have it
        except Exception as error:  # a bug; without its thread the model would be watched no longer
            _log.exception("%s: cannot be checked", self.name)
            self._fails(error)

    def _pause(self) -> float:
        if self._looked is None and not self._failures:
            return 0.0
        pause = min(self._poll * 2**self._failures, max(BACKOFF, self._poll))
        return pause * random.uniform(1 - JITTER, 1 + JITTER)


class Models:
    """All models of a server, by name.

        models = Models({"flowers": "models:/flowers@champion"})
        models.start()
        models.get("flowers").current.classifier

    `seconds` is the time of a request, `threads` the inputs that a classifier works on at a time.
    """

    def __init__(
        self,
        addresses: Mapping[str, str],
        *,
        poll: float = POLL,
        seconds: float = 60.0,
        threads: int | None = None,
        metrics: Events | None = None,
    ) -> None:
        self._seconds = seconds
        self._threads = threads
        self._scratch: Scratch | None = None
        self._loading = threading.Lock()  # one at a time: while a version is loaded there are two in memory
        self._models = {
            name: ServedModel(name, address, self._load, poll=poll, events=metrics)
            for name, address in addresses.items()
        }
        self.webhook: ASGIApp | None = Webhook.from_environment(self.all)

    @property
    def all(self) -> tuple[ServedModel, ...]:
        """All models."""
        return tuple(self._models.values())

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all models."""
        return tuple(self._models)

    @property
    def only(self) -> ServedModel | None:
        """The model, where there is one; None where there are several."""
        return next(iter(self._models.values())) if len(self._models) == 1 else None

    @property
    def ready(self) -> bool:
        """Whether each model has a version that answers."""
        return all(model.current is not None for model in self._models.values())

    def get(self, name: str) -> ServedModel | None:
        """Return a model; None for an unknown name."""
        return self._models.get(name)

    def status(self) -> dict[str, dict[str, Any]]:
        """Return what /health says of each model."""
        return {name: model.status() for name, model in self._models.items()}

    def start(self, *, wait: bool = False) -> None:
        """Load all models, and watch them from then on.

        Raises ModelError where one cannot be loaded. With `wait` it returns at once instead, and they are loaded as
        soon as they can be.
        """
        self._scratch = Scratch()
        try:
            for model in () if wait else self._models.values():
                model.look()
                if model.current is None:
                    reason = str(model.status()["refused"][-1]["reason"])
                    raise ModelError(f"{model.address}: {reason.removeprefix(f'{model.address}: ')}")
        except BaseException:
            self.stop()
            raise
        for model in self._models.values():
            model.watch()

    def stop(self) -> None:
        """End the watching and remove what was downloaded."""
        for model in self._models.values():
            model.stop()
        if self._scratch is not None:
            self._scratch.close()
            self._scratch = None

    def _load(self, source: Source, target: Target) -> Loaded:
        with self._loading:
            scratch = self._scratch
            if scratch is None:
                raise ModelError("the server is stopping")
            copy = scratch.folder()
            try:
                folder, is_copy = source.fetch(target, copy)
                if not is_copy:
                    copy.rmdir()
                loaded = load(folder, source.address, seconds=self._seconds, threads=self._threads, owned=is_copy)
            except BaseException:
                shutil.rmtree(copy, ignore_errors=True)
                raise
            return loaded


def without_folders(message: str) -> str:
    """Return a message for others than the operator: of a path only its last part.

    >>> without_folders("no registry at sqlite:////home/jane/mlflow.db; models:/flowers/3: '/tmp/x/MLmodel' is a pipe")
    "no registry at sqlite:///…/mlflow.db; models:/flowers/3: '…/MLmodel' is a pipe"
    """
    return FOLDERS.sub("…/", message)


def public_address(address: str) -> str:
    """Return an address without passwords; of a folder only its name.

    >>> public_address("/home/jane/models/flowers"), public_address("models:/flowers@champion")
    ('flowers', 'models:/flowers@champion')
    """
    return without_secrets(address) if client.is_address(address) else Path(address).expanduser().resolve().name


def _shown(loaded: Loaded) -> str:
    version = loaded.model["version"]
    return f"classifier {loaded.digest[:12]}" if version is None else f"version {version}"


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
