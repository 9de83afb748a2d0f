"""The models the page asks: classifiers loaded in this process, and served ones."""

import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit, urlunsplit

import httpx

from flowerml.classifier.classifier import Classifier
from flowerml.classifier.examples import SavedExample, own_examples
from flowerml.core.display import visible
from flowerml.core.errors import FlowermlError, ModelError, cause_message
from flowerml.core.urls import without_password
from flowerml.serving.answer import Answer, answer_json, parse_error, parse_reply, request_json
from flowerml.serving.server_error import explanation
from flowerml.serving.token import TOKEN_VARIABLE, authorization
from flowerml.serving.version import model_json
from flowerml.tasks.registry import TASKS

CONNECT_SECONDS = 3.0  # a server that is up accepts at once
SAMPLE = "sample"  # the embedded data, in `data.source`
MAX_REPLY_BYTES = 32 * 2**20
BUSY = (429, 503)
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Source(Protocol):
    """One model that can be asked."""

    kind: str
    name: str
    classes: tuple[str, ...] | None
    """None where a server does not tell them."""
    is_local: bool
    """Whether its inputs stay on this machine."""
    is_demo: bool
    """Whether it was trained on the embedded data, as far as that is known."""
    examples: Sequence[SavedExample]
    """Its own test examples; none where it was saved or is served without."""

    def name_of(self, label: str) -> str:
        """Return the name of a class."""

    def ask(self, raw: bytes | str, *, top_k: int, explain: bool = False) -> Answer:
        """Return the answer to one raw input, with an explanation on request, which takes longer.

        Raises FlowermlError with a sentence for the person who asked.
        """


class LoadedSource:
    """A saved classifier in this process."""

    is_local = True

    def __init__(self, folder: str | Path) -> None:
        """Load the classifier in a folder; raises ModelError where there is none."""
        self.classifier = Classifier.load(folder)
        self.kind = self.classifier.kind
        self.model = model_json(self.classifier)
        self.name = str(self.model["name"])
        self.classes: tuple[str, ...] | None = self.classifier.classes
        self.is_demo = self.classifier.description["parameters"].get("data.source") == SAMPLE
        self.examples: Sequence[SavedExample] = self._examples()

    def name_of(self, label: str) -> str:
        return self.classifier.names.get(label, label)

    def _examples(self) -> list[SavedExample]:
        """Return its test examples; none, and a warning, where they cannot be read: it answers without them."""
        try:
            return own_examples(self.classifier)
        except FlowermlError as error:
            print(visible(f"warning: the page offers no examples: {error}"), file=sys.stderr)
            return []

    def ask(self, raw: bytes | str, *, top_k: int, explain: bool = False) -> Answer:
        (prediction,) = self.classifier.predict([raw], top_k=top_k)
        explanation = self.classifier.explain(raw) if explain else None
        # By way of the wire format, so that the page shows loaded and served models alike.
        return Answer.from_json(answer_json(prediction, self.model, explanation))


class ServedSource:
    """A model behind `flowerml serve`, which gets the token of $FLOWERML_TOKEN, or behind `mlflow models serve`.

    Not `serving.client.Endpoint`, which retries for an evaluation of thousands of inputs: here a person waits, so a
    server gets one attempt, and a deadline for its whole reply.
    """

    classes: tuple[str, ...] | None = None
    is_demo = False
    examples: Sequence[SavedExample] = ()

    def __init__(self, address: str, *, timeout: float) -> None:
        """Prepare requests to image=URL, text=URL, or a URL alone, whose server is then asked what it serves.

        `timeout`: seconds until the whole reply must be there. Raises ModelError for what is not an address, and for
        a URL alone whose server does not reply.
        """
        kind, url = _split_kind(address)
        self.url = _normalize_url(url)
        self.display_url = without_password(self.url)
        self.name = urlsplit(self.url).netloc.rpartition("@")[2]
        self.is_local = urlsplit(self.url).hostname in LOOPBACK
        self.timeout = timeout
        self.client = httpx.Client(timeout=httpx.Timeout(timeout, connect=min(CONNECT_SECONDS, timeout)))
        self.kind = kind or self._find_kind()

    def name_of(self, label: str) -> str:
        return label

    def ask(self, raw: bytes | str, *, top_k: int, explain: bool = False) -> Answer:
        response = self._post(self.kind, TASKS[self.kind].to_json(raw), {"top_k": top_k, "explain": explain})
        if response.status_code != 200:
            raise self._refused(response)
        try:
            (answer,) = parse_reply(response.content, 1)
            error = parse_error(answer)
            if error is None:
                return Answer.from_json(answer)
        except ModelError as not_ours:
            raise ModelError(f"the server at {self.display_url} answered, but {not_ours}") from None
        raise error

    def _refused(self, response: httpx.Response) -> ModelError:
        said = f"the server at {self.display_url} answered with an error ({response.status_code})"
        if response.status_code == httpx.codes.UNAUTHORIZED:
            return ModelError(f"{said}: it asks for a token; set {TOKEN_VARIABLE}")
        if response.status_code in BUSY:
            return ModelError(f"{said}: {explanation(response.content) or 'it is busy'}; try again later")
        return ModelError(f"{said}; check that it serves a model of kind {self.kind}; its log says more")

    def _find_kind(self) -> str:
        for kind in TASKS:
            response = self._post(kind, "", {})
            if response.status_code == 200:
                return kind
            if response.status_code == httpx.codes.UNAUTHORIZED:
                raise self._refused(response)
        raise ModelError(
            f"{self.display_url}: a server answered, but not with a model of kind {' or '.join(TASKS)} that flowerml "
            "exported; check what it serves"
        )

    def _post(self, kind: str, value: Any, params: dict[str, Any]) -> httpx.Response:
        body = request_json(TASKS[kind].INPUT, [value], params)
        deadline = time.monotonic() + self.timeout
        try:
            with self.client.stream(
                "POST", f"{self.url}/invocations", json=body, headers=authorization(self.url)
            ) as response:
                content = b""
                for chunk in response.iter_bytes():  # httpx's own timeout is from one chunk to the next
                    content += chunk
                    if time.monotonic() > deadline:
                        raise httpx.ReadTimeout("the reply trickles in")
                    if len(content) > MAX_REPLY_BYTES:
                        raise ModelError(f"the server at {self.display_url} sent a reply without end")
                return httpx.Response(response.status_code, content=content)
        except httpx.ConnectTimeout:
            raise self._unreachable("it does not accept the connection") from None
        except httpx.TimeoutException:
            raise ModelError(
                f"the server at {self.display_url} did not answer within {self.timeout:g} s; it may be busy: "
                "try again later"
            ) from None
        except httpx.TransportError as error:
            raise self._unreachable(cause_message(error).lower()) from None

    def _unreachable(self, reason: str) -> ModelError:
        return ModelError(
            f"the server at {self.display_url} cannot be reached ({reason}); start it (flowerml serve), then try again"
        )


def load(models: Sequence[str | Path], endpoints: Sequence[str], *, timeout: float) -> list[Source]:
    """Return all models that can be asked, pictures first.

    Raises ModelError for a folder or an address that cannot be asked, and FlowermlError where there is neither.
    """
    if not models and not endpoints:
        raise FlowermlError("nothing to show: name a classifier's folder, or the address of a served model")
    sources: list[Source] = [
        *map(LoadedSource, models),
        *(ServedSource(address, timeout=timeout) for address in endpoints),
    ]
    return sorted(sources, key=lambda source: list(TASKS).index(source.kind))


def _split_kind(address: str) -> tuple[str | None, str]:
    match = re.match(rf"({'|'.join(TASKS)})=(.*)", address)
    return (match[1], match[2]) if match else (None, address)


def _normalize_url(address: str) -> str:
    url = address if "://" in address else f"http://{address}"
    try:
        parts = urlsplit(url)
        port = parts.port
        httpx.URL(url)  # stricter than urlsplit, and resolving the name is stricter still
        (parts.hostname or "").encode("idna")
    except (ValueError, httpx.InvalidURL):
        parts, port = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        kinds = ", ".join(f"{kind}=URL" for kind in TASKS)
        raise ModelError(
            f"{address!r} is not the address of a server; expected a URL such as http://127.0.0.1:5001, or {kinds}"
        )
    return urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/").removesuffix("/invocations"), "", ""))
