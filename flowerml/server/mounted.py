"""MLflow's own scoring server, mounted for one version: the same answers, but discreet errors.

`scoring_server.init` takes any object with `metadata` and `predict`, and keeps the schema of the first it was given: so
each version has an app of its own. MLflow parses and checks requests, and `Answering` answers their rows, as it does
behind `mlflow models serve`; hence the answers are the same.

MLflow's errors quote the request, hold stack traces, and blame the server for some errors of a sender, such as JSON
that is nested too deeply. None of these bodies is sent: an HttpError with a short reason is raised in their place.
"""

import json
import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from threading import Event, Lock
from typing import TYPE_CHECKING, Any

from flowerml.classifier.classifier import Classifier
from flowerml.classifier.prediction import Prediction
from flowerml.core.display import one_line, printable
from flowerml.core.errors import InputError
from flowerml.server.context import current
from flowerml.server.errors import HttpError, OutOfTime
from flowerml.serving.answering import Answering

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.models import ModelSignature
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

PATH = "/invocations"
LOADER = "mlflow.pyfunc.loaders.code_model"  # of the models that flowerml logs
TIME_SHARE = 0.75  # of a request's seconds, for its rows; the rest is for reading the request and writing the reply
REASON = 160  # bytes of a message that may quote the request
HEAD = 1000  # characters of MLflow's message that tell which it is; the rest may quote a whole request

KEYS = "dataframe_split, dataframe_records, instances or inputs"
REASONS = (
    ("Received a list", f"expected a JSON object with one of {KEYS}, found a list"),
    ("Received unexpected input type", f"expected a JSON object with one of {KEYS}, found another type"),
    ("Received dictionary with input fields", f"expected a JSON object with exactly one of {KEYS}"),
    ("UnicodeDecodeError", "expected UTF-8, found other bytes"),
    ("only supports UTF-8", "expected UTF-8, found another charset"),
    ("Unrecognized content type parameters", "expected no parameter of the content type but charset=utf-8"),
    ("only supports the following", "expected application/json, text/csv or application/vnd.apache.parquet"),
    ("Encountered an unexpected error while evaluating", "the request does not fit the model"),
)  # fmt: skip
"""Parts of MLflow's messages, and what is said instead: the rest of them quotes the request, or much of it."""

NOT_JSON = re.compile(r"JSONDecodeError\([\"'](.{1,80}?: line \d+ column \d+)")
BAD_PARAMETER = re.compile(r"Failed to validate type and shape for '(\w{1,40})': (\w{1,40})")
CODES = {400: "bad_request", 404: "not_found", 405: "method_not_allowed", 415: "unsupported_media_type"}

_log = logging.getLogger(__name__)
_environment_lock = Lock()
_gone: ContextVar[Event | None] = ContextVar("flowerml_gone", default=None)
"""Set when nobody waits for the answer any longer; the thread that works on it sees the context of its request."""


class Invocations:
    """The ASGI app of one version's /invocations. Raises HttpError where MLflow would send an error.

    The first message of `receive` must hold the whole body. When the call is cancelled its work ends after the row that
    is being computed. `seconds` is the time of a request.
    """

    def __init__(
        self,
        classifier: Classifier,
        model: dict[str, str | None],
        signature: "ModelSignature",
        *,
        seconds: float,
    ) -> None:
        self._rows = _Rows(Answering(classifier, model, seconds=TIME_SHARE * seconds, observe=_observe, check=_check))
        self._app = _scoring_server(self._rows, signature, seconds)

    def close(self) -> None:
        """Let go of the classifier: MLflow's app is a cycle of objects, which would keep it until some later time."""
        self._rows.answering = None

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Answer a request, whatever its path."""
        if not any(name == b"content-type" for name, _ in scope["headers"]):  # for which MLflow fails
            raise HttpError(415, CODES[415], "expected a Content-Type, such as application/json; found none")
        reply = _Reply(send)
        gone = Event()
        token = _gone.set(gone)
        try:
            await self._app({**scope, "path": PATH, "raw_path": PATH.encode(), "root_path": ""}, receive, reply)
        except Exception as error:  # a bug of MLflow's or its answer to what the standard library refuses
            if reply.passes:
                raise
            raise _refusal(error) from None
        finally:
            gone.set()
            _gone.reset(token)
        if not reply.passes:
            raise _http_error(reply)


class _Rows:
    """The part of a pyfunc that MLflow calls with a checked table."""

    def __init__(self, answering: Answering) -> None:
        self.answering: Answering | None = answering

    def predict(self, model_input: "pd.DataFrame", params: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """Return one answer for each row, as `flowerml.serving.pyfunc` does."""
        assert self.answering is not None, "a version is closed when nobody holds it any longer"
        return self.answering.table(model_input, params, trim=True)


class _Reply:
    """Where MLflow's app sends: a 200 passes, anything else is kept to be read."""

    def __init__(self, send: "Send") -> None:
        self._send = send
        self.passes = False
        self.status = 500
        self.headers: dict[str, str] = {}
        self._chunks: list[bytes] = []

    async def __call__(self, message: "Message") -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.passes = self.status == 200
            self.headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in message["headers"]}
        if self.passes:
            await self._send(message)
        else:
            self._chunks.append(message.get("body", b""))

    def message(self) -> str:
        """Return the message of MLflow's error, or the text that it sends without one."""
        body = b"".join(self._chunks)
        try:
            content = json.loads(body)
            return str(content.get("message") or content.get("detail"))
        except (ValueError, AttributeError, RecursionError):
            return body.decode("utf-8", "replace")


def _check() -> None:
    gone = _gone.get()
    if gone is not None and gone.is_set():
        raise InputError("client_gone", "nobody waits for the answer")


def _observe(raw: Any, prediction: Prediction | InputError) -> None:
    request = current.get()
    if request is not None and request.observe is not None:
        request.observe(raw, prediction)


def _scoring_server(rows: _Rows, signature: "ModelSignature", seconds: float) -> "ASGIApp":
    """Return MLflow's app; of a version only its signature is used, never its code."""
    from mlflow.environment_variables import _MLFLOW_IS_IN_SERVING_ENVIRONMENT, MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT
    from mlflow.models import Model
    from mlflow.pyfunc import FLAVOR_NAME, MAIN, PyFuncModel, scoring_server

    _configure()
    model = PyFuncModel(Model(signature=signature, flavors={FLAVOR_NAME: {MAIN: LOADER}}), rows)
    # `init` reads one variable, and sets the other, which would change how models with type hints are checked.
    with _restored(_MLFLOW_IS_IN_SERVING_ENVIRONMENT.name, MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT.name):
        os.environ[MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT.name] = str(max(1, round(seconds)))
        app: ASGIApp = scoring_server.init(model)
    return app


@cache
def _configure() -> None:
    """Have strings as Python objects in this process, and no warnings of MLflow's that quote requests.

    `flowerml.serving.pyfunc` gives the reason for the first. pandas has no option that is not of the whole process, but
    that threads share.
    """
    import pandas as pd

    pd.set_option("future.infer_string", False)
    logging.getLogger("mlflow").setLevel(logging.ERROR)


@contextmanager
def _restored(*names: str) -> Iterator[None]:
    """Restore environment variables after the block."""
    with _environment_lock:
        before = {name: os.environ.get(name) for name in names}
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


def _refusal(error: Exception) -> HttpError:
    """Return what is said where MLflow's app fails before it answers."""
    if isinstance(error, RecursionError):
        return HttpError(400, CODES[400], "expected JSON, found it nested too deeply")
    if isinstance(error, ValueError) and "integer string conversion" in str(error):
        return HttpError(400, CODES[400], "expected JSON, found a number of more than 4,300 digits")
    _log.error("MLflow's scoring server failed", exc_info=error)
    return HttpError(500, "internal_error", "the server failed; its log says why")


def _http_error(reply: _Reply) -> HttpError:
    if reply.status == 504:
        return OutOfTime()
    if reply.status >= 500:
        return HttpError(500, "internal_error", "the server failed; its log says why")
    headers = {"allow": reply.headers["allow"]} if "allow" in reply.headers else {}
    return HttpError(reply.status, CODES.get(reply.status, CODES[400]), _reason(reply.message()), headers)


def _reason(message: str) -> str:
    """Return a short reason: MLflow quotes the rows it was sent first, and gives the reason last.

    >>> _reason("Failed to predict data 'a rose'. \\nError: Model is missing inputs ['image'].")
    "Model is missing inputs ['image']."
    """
    head = message[:HEAD]
    if not head.startswith("Failed to predict data"):
        if match := NOT_JSON.search(head):
            return f"expected JSON; {match[1]}"
        for part, reason in REASONS:
            if part in head:
                return reason
    if match := BAD_PARAMETER.search(head):
        return f"params: expected {match[1]} to be of type {match[2]}, found another"
    reason = printable(one_line(message.rpartition("Error: ")[2], REASON)).strip("'")
    if reason.startswith("AttributeError"):  # pandas has the same column twice
        return "the request cannot be read as a table"
    return reason.encode("ascii", "backslashreplace")[:REASON].decode()
