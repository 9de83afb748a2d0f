"""A client of a classifier behind `flowerml serve` or `mlflow models serve`, which asks over HTTP in batches."""

import logging
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from urllib3.util import Retry

from flowerml.core.display import printable
from flowerml.core.errors import InputError, ModelError, cause_message, root_cause
from flowerml.core.urls import without_password, without_secrets
from flowerml.serving.answer import Scores, parse_error, parse_reply, request_json
from flowerml.serving.server_error import explanation
from flowerml.serving.token import TOKEN_VARIABLE, authorization
from flowerml.tasks.base import Task

ROWS = 512  # of one request
MAX_BYTES = 64 * 2**20  # of one request of several rows; a single row may be larger
CONNECT_SECONDS = 5.0
SECONDS = 60.0  # until the reply; MLflow's own server gives up then
SERVER_ERRORS = ("out_of_time", "internal_error")  # codes that say nothing of the input
ALL_CLASSES = 10**6  # as top_k: above any number of classes
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


class _Bearer(AuthBase):
    """Sends the token. As a header of the session, requests would replace it by what ~/.netrc has for the host."""

    def __init__(self, header: dict[str, str]) -> None:
        self.header = header

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers.update(self.header)
        return request


class Endpoint:
    """A served model that flowerml exported, and the task whose inputs it takes.

    A server with a token gets that of $FLOWERML_TOKEN.
    """

    def __init__(self, url: str, task: Task, *, rows: int = ROWS, seconds: float = SECONDS) -> None:
        """Prepare requests of at most `rows` rows to `url`, with or without /invocations; raises ModelError."""
        self.url = _invocations_url(url)
        self.display_url = without_password(self.url)
        self.task = task
        self.rows = rows
        self.timeout = (min(CONNECT_SECONDS, seconds), seconds)
        logging.getLogger("urllib3").setLevel(logging.ERROR)  # it logs every retry
        self._session = requests.Session()
        if token := authorization(self.url):
            self._session.auth = _Bearer(token)
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(max_retries=RETRIES))

    def answers(self, raws: Iterable[Any]) -> Iterator[Scores | InputError]:
        """Yield the scores of all classes for each raw input, in order, or the server's error for that input.

        Raises ModelError, one line, where the server is down, slow, or does not reply as a flowerml model does.
        """
        for rows in _batches((self.task.to_json(raw) for raw in raws), self.rows):
            yield from map(self._answer, self._ask(rows))

    def _ask(self, rows: list[str]) -> list[dict[str, Any]]:
        body = request_json(self.task.INPUT, rows, {"top_k": ALL_CLASSES})
        try:
            # Following a redirect would send the inputs to whatever host the server names.
            reply = self._session.post(self.url, json=body, timeout=self.timeout, allow_redirects=False)
        except requests.RequestException as error:
            raise self._no_reply(error, len(rows)) from None
        if reply.is_redirect:
            target = printable(without_secrets(reply.headers["Location"]))
            raise ModelError(f"{self.display_url}: redirects to {target}; give that address if the inputs may go there")
        if not reply.ok:
            raise ModelError(f"{self.display_url}: answered with {reply.status_code} {reply.reason}{_reason(reply)}")
        try:
            return parse_reply(reply.content, len(rows))
        except ModelError:
            raise self._foreign_reply() from None

    def _no_reply(self, error: BaseException, count: int) -> ModelError:
        if isinstance(root_cause(error), TimeoutError):
            return ModelError(
                f"{self.display_url}: no answer within {self.timeout[1]:g} s to {count} rows; the server is down or "
                "busy: try fewer rows in a request (--batch-size) or more time (--timeout)"
            )
        return ModelError(
            f"{self.display_url}: cannot be reached ({cause_message(error)}); is the server running (flowerml serve)?"
        )

    def _answer(self, answer: dict[str, Any]) -> Scores | InputError:
        try:
            error = parse_error(answer)
            scores = error or Scores.from_json(answer)
        except ModelError:
            raise self._foreign_reply() from None
        if error is not None and error.code in SERVER_ERRORS:
            raise ModelError(f"{self.display_url}: {error.message}; try fewer rows in a request (--batch-size)")
        return scores

    def _foreign_reply(self) -> ModelError:
        return ModelError(
            f"{self.display_url}: answered, but not as a model that flowerml exported; check what it serves"
        )


def is_url(model: str) -> bool:
    """Return whether this is the address of a server, and not a folder or models:/NAME.

    >>> is_url("http://127.0.0.1:5001"), is_url("models:/flowers/1")
    (True, False)
    """
    return model.lower().startswith(("http://", "https://"))


def _batches(rows: Iterable[str], limit: int) -> Iterator[list[str]]:
    """Yield lists of at most `limit` rows, and of at most MAX_BYTES unless a row alone has more."""
    batch: list[str] = []
    size = 0
    for row in rows:
        if batch and (len(batch) == limit or size + len(row) > MAX_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(row)
        size += len(row)
    if batch:
        yield batch


def _invocations_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        is_valid = bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_valid = False
    if not is_valid:
        raise ModelError(f"{url!r} is not the address of a server; expected one such as http://127.0.0.1:5001")
    path = parts.path.rstrip("/").removesuffix("/invocations")
    return urlunsplit((parts.scheme, parts.netloc, f"{path}/invocations", parts.query, ""))


def _reason(reply: requests.Response) -> str:
    """Return the server's explanation of an error, on one line."""
    if reply.status_code == requests.codes.unauthorized:
        return f": it asks for a token; set {TOKEN_VARIABLE}"
    reason = explanation(reply.content)
    return "; its log says more" if reason is None else f": {reason}"
