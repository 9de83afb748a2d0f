"""Who answers: a classifier loaded here, or one that is served."""

import json
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit, urlunsplit

import httpx

from flowerml.classifier.classifier import Classifier
from flowerml.core.errors import FlowermlError, InputError, ModelError, cause_message
from flowerml.core.urls import without_password
from flowerml.serving import version as identity
from flowerml.serving.answer import Answer
from flowerml.tasks.registry import TASKS

CONNECT = 3.0  # seconds; a server that is there accepts at once
LARGEST_REPLY = 32 * 2**20
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Source(Protocol):
    """One model that can be asked."""

    kind: str
    name: str
    classes: tuple[str, ...] | None
    """None where they are not known."""
    is_here: bool
    """Whether what it is asked stays on this machine."""

    def ask(self, raw: bytes | str, *, top_k: int, explain: bool = False) -> Answer:
        """The answer to one raw input, with what spoke for it where that is wanted, which takes longer.

        Raises FlowermlError with a sentence for the person who asked.
        """


class Loaded:
    """A saved classifier in this process."""

    is_here = True
    name: str
    version: str | None

    def __init__(self, folder: str | Path) -> None:
        """Raises ModelError where the folder holds no classifier."""
        self.classifier = Classifier.load(folder)
        self.kind = self.classifier.kind
        own = str(self.classifier.description["trained"].get("pipeline", Path(folder).name))
        self.name, self.version = identity.registered(Path(folder)) or (own, None)
        self.classes: tuple[str, ...] | None = self.classifier.classes

    def ask(self, raw: bytes | str, *, top_k: int, explain: bool = False) -> Answer:
        (prediction,) = self.classifier.predict([raw], top_k=top_k)
        explanation = self.classifier.explain(raw).to_json() if explain else None
        model = {"name": self.name, "version": self.version}
        return Answer.from_json({**prediction.to_json(), "model": model, "explanation": explanation})


class Served:
    """A model behind `mlflow models serve`."""

    classes: tuple[str, ...] | None = None

    def __init__(self, address: str, *, timeout: float) -> None:
        """`address`: image=URL, text=URL, or a URL alone, whose server is then asked what it serves.

        `timeout`: seconds until an answer must be whole. Raises ModelError for what is no address, and for a URL alone
        whose server cannot be asked.
        """
        kind, url = _split(address)
        self.url = _normalised(url)
        self.shown = without_password(self.url)
        self.name = urlsplit(self.url).netloc.rpartition("@")[2]
        self.is_here = urlsplit(self.url).hostname in LOOPBACK
        self.timeout = timeout
        self.client = httpx.Client(timeout=httpx.Timeout(timeout, connect=min(CONNECT, timeout)))
        self.kind = kind or self._find_kind()

    def ask(self, raw: bytes | str, *, top_k: int, explain: bool = False) -> Answer:
        value = TASKS[self.kind].to_json(raw)
        answer = self._first(self._post(self.kind, value, {"top_k": top_k, "explain": explain}))
        if isinstance(error := answer.get("error"), dict):
            raise InputError(str(error.get("code")), str(error.get("message")))
        try:
            return Answer.from_json(answer)
        except ModelError as error:
            raise ModelError(f"the server at {self.shown} answered, but {error}") from None

    def _find_kind(self) -> str:
        for kind in TASKS:
            if self._post(kind, "", {}).status_code == 200:
                return kind
        raise ModelError(
            f"{self.shown}: a server answered, but none of a model of {' or '.join(TASKS)} that was exported here"
        )

    def _post(self, kind: str, value: Any, params: dict[str, Any]) -> httpx.Response:
        rows = {"columns": [TASKS[kind].INPUT], "data": [[value]]}
        body = {"dataframe_split": rows, **({"params": params} if params else {})}
        ends = time.monotonic() + self.timeout
        try:
            with self.client.stream("POST", f"{self.url}/invocations", json=body) as response:
                content = b""
                for chunk in response.iter_bytes():  # the library's own limit is from one piece to the next
                    content += chunk
                    if time.monotonic() > ends:
                        raise httpx.ReadTimeout("trickles")
                    if len(content) > LARGEST_REPLY:
                        raise ModelError(f"the server at {self.shown} sent a reply without end")
                return httpx.Response(response.status_code, content=content)
        except httpx.ConnectTimeout:
            raise ModelError(self._unreachable("it does not take the call")) from None
        except httpx.TimeoutException:
            raise ModelError(
                f"the server at {self.shown} did not answer within {self.timeout:g} s; it may be busy: try again later"
            ) from None
        except httpx.TransportError as error:
            raise ModelError(self._unreachable(cause_message(error).lower())) from None

    def _unreachable(self, reason: str) -> str:
        return (
            f"the server at {self.shown} cannot be reached ({reason}); start it (mlflow models serve), then try again"
        )

    def _first(self, response: httpx.Response) -> dict[str, Any]:
        """The answer to the only row."""
        if response.status_code != 200:
            raise ModelError(
                f"the server at {self.shown} answered with an error ({response.status_code}); "
                f"does it serve a model of kind {self.kind}? Its log says more"
            )
        try:
            (answer,) = json.loads(response.content)["predictions"]
        except (ValueError, KeyError, TypeError):
            answer = None
        if not isinstance(answer, dict):
            raise ModelError(f"the server at {self.shown} answered, but not as a flowerml model does")
        return answer


def load(models: Sequence[str | Path], endpoints: Sequence[str], *, timeout: float) -> list[Source]:
    """All that can be asked, pictures first; raises ModelError for what cannot be, and where there is nothing."""
    if not models and not endpoints:
        raise FlowermlError("nothing to show: name a classifier's folder, or the address of a served model")
    found: list[Source] = [*map(Loaded, models), *(Served(address, timeout=timeout) for address in endpoints)]
    return sorted(found, key=lambda source: list(TASKS).index(source.kind))


def _split(address: str) -> tuple[str | None, str]:
    match = re.match(rf"({'|'.join(TASKS)})=(.*)", address)
    return (match[1], match[2]) if match else (None, address)


def _normalised(address: str) -> str:
    url = address if "://" in address else f"http://{address}"
    try:
        parts = urlsplit(url)
        port = parts.port
        httpx.URL(url)  # is stricter, and looking up a name yet more
        (parts.hostname or "").encode("idna")
    except (ValueError, httpx.InvalidURL):
        parts, port = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        kinds = ", ".join(f"{kind}=URL" for kind in TASKS)
        raise ModelError(
            f"{address!r} is no address of a server; expected a URL such as http://127.0.0.1:5001, or {kinds}"
        )
    return urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/").removesuffix("/invocations"), "", ""))
