"""Loading a version to be served: its classifier, the reference that travels in it, and its own /invocations.

The installed flowerml loads the version's classifier, never its code: two pyfuncs in one process would share the
first one's. So a version that this flowerml reads, but answers otherwise than the one that made it, must be refused:
its input example has to get the answer that is stored with it.
"""

import asyncio
import hashlib
import json
import logging
import shutil
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowerml.classifier import saved
from flowerml.classifier.classifier import Classifier
from flowerml.classifier.examples import read_examples
from flowerml.config.paths import DESCRIPTION
from flowerml.core import files
from flowerml.core.errors import FlowermlError, ModelError
from flowerml.core.regular import read_regular
from flowerml.monitoring.reference import Reference, read_reference
from flowerml.registry.locate import classifier_folder
from flowerml.registry.signature import signature
from flowerml.registry.stored import StoredExample, stored_example
from flowerml.server.errors import HttpError
from flowerml.server.mounted import Invocations
from flowerml.serving.answer import parse_error, request_json
from flowerml.serving.memory import trim_malloc
from flowerml.serving.version import DEPTH, model_json

if TYPE_CHECKING:
    from mlflow.models import ModelSignature
    from starlette.types import Message

MLMODEL = "MLmodel"
SERVING_EXAMPLE = "serving_input_example.json"  # which MLflow writes: a request's body
MAX_MLMODEL = 10**6  # bytes; a signature takes 2 kB
MAX_EXAMPLE = 64 * 2**20  # bytes; an example may be a photograph


class Refused(ModelError):
    """A version that is broken, or that this flowerml answers otherwise than the one that made it."""


_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False, kw_only=True)
class Loaded:
    """A version that is being served. Whoever answers with it holds it: with its last holder its files are removed.

    `model` is {"name", "version"} as in its answers, `digest` the SHA-256 of classifier.json, which has those of all
    other files, and `loaded_at` in seconds since 1970. `examples` are inputs stored with it, as JSON values:
    its input example or, where a classifier is served from its folder, its test examples.
    """

    classifier: Classifier
    model: dict[str, str | None]
    address: str
    digest: str
    loaded_at: float
    reference: Reference | None
    examples: tuple[Any, ...]
    invocations: Invocations


def load(files_of: Path, address: str, *, seconds: float, threads: int | None = None, owned: bool = False) -> Loaded:
    """Return the version whose files lie in a folder, once it is checked. Raises Refused.

    `files_of` is the classifier's folder, or one that contains it, as MLflow writes them. `seconds` is the time of a
    request. Where the folder is `owned` it is removed with the version.
    """
    folder = files_of
    try:
        folder = classifier_folder(files_of, address)
        loaded, example, request = files.read_version(folder, lambda: _read(folder, address, seconds, threads))
        _check(loaded, example, request)
    except FlowermlError as error:  # its paths are of no use to others, and /health shows it
        raise Refused(str(error).replace(f"{folder}: ", "").replace(str(folder), address)) from None
    except Exception as error:  # out of memory, or files that a stranger made
        _log.exception("%s: cannot be loaded", address)
        raise Refused(f"it cannot be loaded ({type(error).__name__}); the server's log says more") from None
    remains = weakref.finalize(loaded, _discard, loaded.invocations.close, files_of if owned else None)
    remains.atexit = False  # the folder of all downloads is removed then
    return loaded


def _read(
    folder: Path, address: str, seconds: float, threads: int | None
) -> tuple[Loaded, StoredExample | None, bytes | None]:
    """Return a version, the example stored with it, and the body of MLflow's request for it."""
    content = _read_bytes(folder / DESCRIPTION, saved.MAX_BYTES)
    classifier = Classifier.load(folder, threads=threads)
    saved.check_weights(folder, classifier.description)
    model = model_json(classifier)
    logged = next((parent for parent in folder.resolve().parents[:DEPTH] if (parent / MLMODEL).is_file()), None)
    example = None if logged is None else stored_example(logged)
    if example is not None:
        request = json.dumps(request_json(classifier.task.INPUT, example.inputs, {})).encode()
    elif logged is not None and (logged / SERVING_EXAMPLE).is_file():
        request = _read_bytes(logged / SERVING_EXAMPLE, MAX_EXAMPLE)
    else:
        request = None
    loaded = Loaded(
        classifier=classifier,
        model=model,
        address=address,
        digest=hashlib.sha256(content).hexdigest(),
        loaded_at=time.time(),
        reference=read_reference(folder, classifier.description),
        examples=_examples(classifier) if example is None else tuple(example.inputs),
        invocations=Invocations(classifier, model, _signature(logged, classifier), seconds=seconds),
    )
    return loaded, example, request


def _examples(classifier: Classifier) -> tuple[Any, ...]:
    """Return the test examples that travel with a classifier, as JSON values."""
    return tuple(classifier.task.to_json(example.raw) for example in read_examples(classifier))


def _signature(logged: Path | None, classifier: Classifier) -> "ModelSignature":
    """Return the signature of a logged model, or that of this flowerml."""
    import yaml
    from mlflow.exceptions import MlflowException
    from mlflow.models import ModelSignature

    if logged is None:
        return signature(classifier.task.INPUT)
    try:
        return ModelSignature.from_dict(yaml.safe_load(read_regular(logged / MLMODEL, limit=MAX_MLMODEL))["signature"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, yaml.YAMLError, MlflowException):
        raise ModelError(f"its {MLMODEL} has no signature that can be read; register it again") from None


def _check(loaded: Loaded, example: StoredExample | None, request: bytes | None) -> None:
    """Raise ModelError unless the input example gets its stored answer, and a good one from /invocations.

    A classifier without an example has been run once on random input, when it was loaded.
    """
    reason = None if example is None else example.disagreement(loaded.classifier)
    if reason is not None:
        raise ModelError(f"its input example is answered otherwise than when it was registered: {reason}")
    # Without a request, one that shows whether the signature takes what the task reads; its row may get an error.
    probe = json.dumps(request_json(loaded.classifier.task.INPUT, [""], {})).encode()
    for answer in asyncio.run(_ask(loaded.invocations, request or probe)):
        if example is None and request is not None and (error := parse_error(answer)) is not None:
            raise ModelError(f"its input example gets the error {error.code}: {error.message}")


async def _ask(invocations: Invocations, request: bytes) -> list[Mapping[str, Any]]:
    """Return the answers to a body of JSON. Raises ModelError where it is refused."""
    body = bytearray()

    async def receive() -> "Message":
        return {"type": "http.request", "body": request, "more_body": False}

    async def send(message: "Message") -> None:
        body.extend(message.get("body", b""))

    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "path": "/invocations",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
    }
    try:
        await invocations(scope, receive, send)
    except HttpError as error:
        raise ModelError(f"its own signature refuses an input that its task reads: {error.message}") from None
    answers = json.loads(body)["predictions"]
    assert isinstance(answers, list), "MLflow wraps what Answering returns"
    return answers


def _read_bytes(path: Path, limit: int) -> bytes:
    try:
        return read_regular(path, limit=limit)
    except OSError as error:
        raise ModelError(f"{path.name} cannot be read ({error.strerror})") from None


def _discard(close: Callable[[], None], folder: Path | None) -> None:
    """Free a version's memory and remove its files, in a thread: the last to hold it may be the event loop."""

    def discard() -> None:
        close()
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        trim_malloc()

    threading.Thread(target=discard, name="discard", daemon=True).start()
