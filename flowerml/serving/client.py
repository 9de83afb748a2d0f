"""A classifier behind `mlflow models serve`, asked over HTTP in batches."""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from flowerml.classifier.calibration import parse_known
from flowerml.core.display import one_line
from flowerml.core.errors import InputError, ModelError, cause_message, root_cause
from flowerml.core.urls import without_password
from flowerml.tasks.base import Task

ROWS = 512  # in one request
MAX_BYTES = 64 * 2**20  # of one request; a row alone may have more
CONNECT_SECONDS = 5.0
SECONDS = 60.0  # until an answer; MLflow's own server gives up then
SERVERS_OWN = ("out_of_time", "internal_error")  # errors that say nothing of the input
ALL = 10**6  # a top_k that is above any number of classes, and so means all of them
RETRIES = Retry(
    total=3,
    connect=3,
    read=1,
    status=3,
    backoff_factor=0.5,
    status_forcelist=(502, 503),
    allowed_methods=None,
    raise_on_status=False,
)


@dataclass(frozen=True)
class Answer:
    """The probability of every class, the names of the classes, and whether the best is probable enough.

    `known` is None where the model was exported before there was a threshold.
    """

    probabilities: dict[str, float]
    names: dict[str, str]
    known: bool | None = None


class Endpoint:
    """A served model that was exported here; `task` is what it reads."""

    def __init__(self, url: str, task: Task, *, rows: int = ROWS, seconds: float = SECONDS) -> None:
        """`url` with or without /invocations. Raises ModelError where it is none."""
        self.url = _invocations(url)
        self.shown = without_password(self.url)
        self.task = task
        self.rows = rows
        self.timeout = (min(CONNECT_SECONDS, seconds), seconds)
        logging.getLogger("urllib3").setLevel(logging.ERROR)  # it tells of every retry
        self._session = requests.Session()
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(max_retries=RETRIES))

    def answers(self, raws: Iterable[Any]) -> Iterator[Answer | InputError]:
        """For each raw input, in order, its answer, or what the server says is wrong with it.

        Raises ModelError, one line, where the server is down, slow, or answers as no model of flowerml's does.
        """
        for rows in _batches((self.task.to_json(raw) for raw in raws), self.rows):
            yield from map(self._answer, self._ask(rows))

    def _ask(self, rows: list[Any]) -> list[Any]:
        body = {
            "dataframe_split": {"columns": [self.task.INPUT], "data": [[row] for row in rows]},
            "params": {"top_k": ALL},
        }
        try:
            reply = self._session.post(self.url, json=body, timeout=self.timeout)
        except requests.RequestException as error:
            raise self._unanswered(error, len(rows)) from None
        if not reply.ok:
            raise ModelError(f"{self.shown}: answered with {reply.status_code} {reply.reason}{_told(reply)}")
        return self._predictions(reply, len(rows))

    def _unanswered(self, error: BaseException, count: int) -> ModelError:
        if isinstance(root_cause(error), TimeoutError):
            return ModelError(
                f"{self.shown}: no answer within {self.timeout[1]:g} s to {count} rows; the server is down or busy: "
                "try fewer rows in a request (--batch-size) or more time (--timeout)"
            )
        return ModelError(f"{self.shown}: cannot be asked ({cause_message(error)}); is `mlflow models serve` up?")

    def _predictions(self, reply: requests.Response, count: int) -> list[Any]:
        try:
            found = reply.json()["predictions"]
        except (ValueError, KeyError, TypeError):
            raise self._strange() from None
        if not isinstance(found, list) or len(found) != count:
            raise self._strange()
        return found

    def _answer(self, one: Any) -> Answer | InputError:
        try:
            if "error" in one:
                if one["error"]["code"] in SERVERS_OWN:
                    raise ModelError(f"{self.shown}: {one['error']['message']}; try fewer rows in a request")
                return InputError(str(one["error"]["code"]), str(one["error"]["message"]))
            top = one["top"]
            probabilities = {str(each["label"]): float(each["probability"]) for each in top}
            names = {str(each["label"]): str(each["name"]) for each in top}
            return Answer(probabilities, names, parse_known(one))
        except ModelError:
            raise
        except (KeyError, TypeError, ValueError):
            raise self._strange() from None

    def _strange(self) -> ModelError:
        return ModelError(f"{self.shown}: answered, but not as a model that flowerml exported; what does it serve?")


def is_url(model: str) -> bool:
    """Whether this is the address of a server."""
    return model.lower().startswith(("http://", "https://"))


def _batches(rows: Iterable[Any], most: int) -> Iterator[list[Any]]:
    """At most so many rows at once, and no more than MAX_BYTES of several."""
    batch: list[Any] = []
    size = 0
    for row in rows:
        length = len(row)
        if batch and (len(batch) == most or size + length > MAX_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(row)
        size += length
    if batch:
        yield batch


def _invocations(url: str) -> str:
    try:
        parts = urlsplit(url)
        usable = bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ModelError(f"{url!r} is no address of a server; expected one such as http://127.0.0.1:5001")
    path = parts.path.rstrip("/").removesuffix("/invocations")
    return urlunsplit((parts.scheme, parts.netloc, f"{path}/invocations", parts.query, ""))


def _told(reply: requests.Response) -> str:
    """What the server says of its error, on one line."""
    try:
        message = reply.json()["message"]
    except (ValueError, KeyError, TypeError):
        return "; its log says more"
    # MLflow begins with all the rows it was sent, and comes to the point at the end.
    return f": {one_line(str(message).rpartition('Error: ')[2], 200)}"
