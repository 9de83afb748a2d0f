"""Sends a journal of runs to MLflow from a thread of its own, so that the work never waits for a server."""

import re
import sys
import threading
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from flowerml.core import os_errors
from flowerml.core.display import one_line, visible
from flowerml.core.urls import scrub
from flowerml.tracking.calls import Call, Numbered, calls
from flowerml.tracking.journal import RUNNING, Entry, Journal

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput

# Seconds. A call to the store takes longer than an epoch of a small network, so entries are sent in batches.
SEND_INTERVAL = 2.0
RETRY_INTERVAL = 30.0
FLUSH_TIMEOUT = 20.0  # without progress
# Entries that are sent together. Several trials at once write theirs in turns, and each run's go into one call.
WINDOW = 1000
LOOK_AHEAD = 20_000  # entries, in search of those that do not wait for a run which the server fails on
FAILURES = 3  # in a row, of different runs, by which the server and not the runs has a problem
# The tag by which a run is recognized whose creation was not acknowledged.
IDENTITY = "flowerml.run"
NAME = "mlflow.runName"  # the tag that has a run's name
# In the value of a tag: a run of the same journal, replaced by its id when the tag is sent, as a child may be created
# on the server after its parent's tag is written. Brackets that occur in no name of ours.
REFERENCE = re.compile(r"⟦([^⟧]*)⟧")
# Errors that a retry does not mend.
PERMANENT = ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "INVALID_STATE", "BAD_REQUEST", "PERMISSION_DENIED")
# MLflow calls an error of a database that is not about the connection BAD_REQUEST, also where it is only a standby.
TRANSIENT = ("read-only transaction", "recovery is in progress", "starting up", "shutting down")


def reference(run: str) -> str:
    """Return a placeholder, for the value of a tag, for the MLflow id of a run of the same journal."""
    return f"⟦{run}⟧"


@dataclass(frozen=True)
class Failure:
    """Why a call has to wait; `of_run`: the server answers, and may do so for other runs."""

    problem: str
    of_run: bool


class Mirror:
    """Keeps MLflow up to date with a journal, in a thread, until it is closed.

    While the server is not responding, stderr says so once and sending is retried every RETRY_INTERVAL; nothing is
    lost, as entries that are not acknowledged stay in the journal. Entries that MLflow rejects for good are reported.
    A run that the server fails on waits for the next retry, and the others go on.

    Entries of different runs overtake each other, and those of one run keep their order. What is sent twice after a
    kill is recorded once: MLflow takes an equal metric, parameter, tag or data set for the same one, and a run is
    recognized by a tag.
    """

    def __init__(self, journal: Journal, client: "MlflowClient", *, server: str) -> None:
        self._journal, self._client, self._server = journal, client, server
        self._changed = threading.Condition()
        self._flushing = self._closed = False
        self._maybe_sent = len(journal)  # entries up to here may have been received without an acknowledgement
        self._received: set[int] = set()  # numbers of entries after the first that is not received
        self._calls = 0
        self._reported: set[tuple[str, str]] = set()
        self.problem = ""
        self._thread = threading.Thread(target=self._run, name="mlflow", daemon=True)
        self._thread.start()

    def flush(self) -> bool:
        """Wait until everything is acknowledged; return False if the server fails or makes no progress."""
        with self._changed:
            self._flushing, self.problem = True, ""
            self._changed.notify_all()
            calls = -1
            while self._journal.pending and not self.problem and calls != self._calls:
                calls = self._calls
                self._changed.wait_for(partial(self._went_on, calls), FLUSH_TIMEOUT)
            self._flushing = False
            return not self._journal.pending

    def _went_on(self, calls: int) -> bool:
        """Return whether there was another call since so many, or a problem."""
        return bool(self.problem) or self._calls != calls

    def close(self) -> bool:
        """Flush and stop sending; return whether everything is acknowledged."""
        flushed = self.flush()
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if flushed:
            self._thread.join()
        return flushed

    def _run(self) -> None:
        down = False
        while self._wait(RETRY_INTERVAL if down else SEND_INTERVAL):
            problem = self._send_pending()
            with self._changed:
                self.problem = problem
                self._changed.notify_all()
            if bool(problem) != down and not self._closed:
                down = bool(problem)
                self._report(down)

    def _wait(self, seconds: float) -> bool:
        """Wait, or until a flush; return False when the mirror is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or (self._flushing and not self.problem), seconds)
            return not self._closed

    def _send_pending(self) -> str:
        """Send what is not sent; return what is wrong with the server, also if only some runs have to wait."""
        failing: dict[str, str] = {}
        in_a_row = 0
        if problem := self._acknowledge():  # what was received while the journal could not be written
            return problem
        while waiting := self._next_calls(failing):
            while waiting and not self._closed:
                call, *waiting = waiting
                if call.run in failing:
                    continue
                outcome = self._attempt(call)
                if isinstance(outcome, list):
                    waiting = outcome + waiting
                elif outcome is None:
                    in_a_row = 0
                    if problem := self._acknowledge(call.numbers):
                        return problem
                else:
                    failing[call.run] = outcome.problem
                    in_a_row += 1
                    if not outcome.of_run or in_a_row == FAILURES:
                        return outcome.problem
        return next(iter(failing.values()), "")

    def _next_calls(self, failing: Collection[str]) -> list[Call]:
        """Return the calls for the first entries that are not sent; none when the mirror is closed."""
        window: list[Numbered] = []
        with self._changed:
            if self._closed:
                return []
            first = self._journal.sent
            for number, entry in enumerate(self._journal.unsent(LOOK_AHEAD), start=first):
                if number not in self._received and entry["run"] not in failing:
                    window.append((number, entry))
                    if len(window) == WINDOW:
                        break
        return calls(window)

    def _attempt(self, call: Call) -> "Failure | list[Call] | None":
        """Send a call: return None if it was received or rejected for good, why it has to wait, or smaller calls."""
        from mlflow.exceptions import MlflowException, RestException

        try:
            self._send(call)
        except MlflowException as error:
            reason = os_errors.reason(error)
            if error.error_code not in PERMANENT or any(words in str(error) for words in TRANSIENT):
                self._maybe_sent = max(self._maybe_sent, call.numbers[-1] + 1)
                is_answer = isinstance(error, RestException) and error.error_code != "TEMPORARILY_UNAVAILABLE"
                return Failure(reason, of_run=is_answer and call.kind != "create")
            if len(call.entries) > 1 and error.error_code != "RESOURCE_DOES_NOT_EXIST":
                return call.halves()  # all but the cause may be accepted
            if (call.run, reason) not in self._reported:
                self._reported.add((call.run, reason))
                notify(f"MLflow at {self._server} rejected part of the run {call.run!r}: {reason}")
        except OSError as error:
            self._maybe_sent = max(self._maybe_sent, call.numbers[-1] + 1)
            return Failure(one_line(error, 300), of_run=False)
        return None

    def _acknowledge(self, numbers: Iterable[int] = ()) -> str:
        """Record that entries were received; return why the journal cannot be written, such as a full disk."""
        with self._changed:
            if self._closed:
                return ""
            self._received.update(numbers)
            first = end = self._journal.sent
            while end in self._received:
                end += 1
            try:
                if end > first:
                    self._journal.acknowledge(end - first)
            except OSError as error:
                return os_errors.explain_os_error(error) or os_errors.reason(error)
            self._received.difference_update(range(first, end))
            self._calls += 1
            self._changed.notify_all()
        return ""

    def _send(self, call: Call) -> None:
        entry, ids = call.entries[0], self._journal.ids
        run_id = ids.get(call.run, "")
        if call.kind == "create":
            self._journal.assign(call.run, self._create_run(entry, call.numbers[0]))
        elif not run_id:
            return  # its creation was rejected, which was reported
        elif call.kind == "log":
            self._log_batch(run_id, call.entries)
        elif call.kind == "data":
            self._client.log_inputs(run_id, [_dataset(entry["values"]) for entry in call.entries])
        elif entry["status"] == RUNNING:
            self._client.update_run(run_id, status=RUNNING)
        else:
            self._client.set_terminated(run_id, entry["status"], end_time=entry["time"])

    def _create_run(self, entry: Entry, number: int) -> str:
        experiment_id = self._journal.header["experiment"]
        identity = f"{self._journal.header['id']}/{entry['run']}"
        if number < self._maybe_sent:
            runs = self._client.search_runs([experiment_id], f"tags.`{IDENTITY}` = '{identity}'", max_results=1)
            if runs:
                return str(runs[0].info.run_id)
        tags = {name: self._resolve(value) for name, value in entry["tags"].items()}
        run = self._client.create_run(
            experiment_id, run_name=entry["name"], start_time=entry["time"], tags={**tags, IDENTITY: identity}
        )
        return str(run.info.run_id)

    def _log_batch(self, run_id: str, entries: Iterable[Entry]) -> None:
        from mlflow.entities import Metric, Param, RunTag

        merged: dict[str, list[Any]] = {
            kind: [value for entry in entries for value in entry[kind]] for kind in ("metrics", "params", "tags")
        }
        tags = dict(merged["tags"])
        if name := tags.pop(NAME, None):
            # MLflow's own log_batch would change the name in a second transaction, which SQLite's lock holds up.
            self._client.update_run(run_id, name=name)
        self._client.log_batch(
            run_id,
            metrics=[Metric(*metric) for metric in merged["metrics"]],
            params=[Param(*param) for param in merged["params"]],
            tags=[RunTag(name, self._resolve(value)) for name, value in tags.items()],
        )

    def _resolve(self, text: str) -> str:
        """Replace references by the ids that MLflow has given."""
        return REFERENCE.sub(lambda match: self._journal.ids.get(match[1], match[1]), text)

    def _report(self, down: bool) -> None:
        if down:
            kept = f"what is logged is kept in {self._journal.path}"
            notify(f"MLflow at {self._server} is not responding: {self.problem}; the work continues, and {kept}")
        else:
            notify(f"MLflow at {self._server} is responding again and has received everything that was kept for it")


def _dataset(values: dict[str, str]) -> "DatasetInput":
    from mlflow.entities import Dataset, DatasetInput, InputTag

    fields = ("name", "digest", "source_type", "source", "schema", "profile")
    context = InputTag("mlflow.data.context", values["context"])
    return DatasetInput(Dataset(*(values[field] for field in fields)), [context])


def notify(message: str) -> None:
    """Print a line on stderr, above any progress bar, without the secrets of any address in it."""
    from tqdm import tqdm

    tqdm.write(visible(scrub(message)), file=sys.stderr)
