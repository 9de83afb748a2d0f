"""Sends a journal of runs to MLflow from a thread of its own, so that the work never waits for a server."""

import re
import sys
import threading
from typing import TYPE_CHECKING, Any

from flowerml.core import os_errors
from flowerml.core.display import one_line, visible
from flowerml.core.urls import scrub
from flowerml.tracking.journal import RUNNING, Entry, Journal

if TYPE_CHECKING:
    from mlflow import MlflowClient

# Seconds. A call to the store takes longer than an epoch of a small network, so entries are sent in batches.
SEND_INTERVAL = 2.0
RETRY_INTERVAL = 30.0
FLUSH_TIMEOUT = 20.0  # without progress
# What MLflow accepts in one `log_batch`.
MAX_METRICS = 1000
MAX_PARAMS, MAX_TAGS = 100, 100
# The tag by which a run is recognized whose creation was not acknowledged.
IDENTITY = "flowerml.run"
# In the value of a tag: a run of the same journal, replaced by its id when the tag is sent, as a child may be created
# on the server after its parent's tag is written. Brackets that occur in no name of ours.
REFERENCE = re.compile(r"⟦([^⟧]*)⟧")
# Errors that a retry does not mend.
PERMANENT = ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "INVALID_STATE", "BAD_REQUEST", "PERMISSION_DENIED")


def reference(run: str) -> str:
    """Return a placeholder, for the value of a tag, for the MLflow id of a run of the same journal."""
    return f"⟦{run}⟧"


class Mirror:
    """Keeps MLflow up to date with a journal, in a thread, until it is closed.

    While the server is not responding, stderr says so once and sending is retried every RETRY_INTERVAL; nothing is
    lost, as entries that are not acknowledged stay in the journal. Entries that MLflow rejects for good are reported.
    """

    def __init__(self, journal: Journal, client: "MlflowClient", *, server: str) -> None:
        self._journal, self._client, self._server = journal, client, server
        self._changed = threading.Condition()
        self._flushing = self._closed = False
        self._maybe_sent = len(journal)  # entries up to here may have been received without an acknowledgement
        self.problem = ""
        self._thread = threading.Thread(target=self._run, name="mlflow", daemon=True)
        self._thread.start()

    def flush(self) -> bool:
        """Wait until everything is acknowledged; return False if the server fails or makes no progress."""
        with self._changed:
            self._flushing, self.problem = True, ""
            self._changed.notify_all()
            sent = -1
            while self._journal.pending and not self.problem and sent != self._journal.sent:
                sent = self._journal.sent
                self._changed.wait(FLUSH_TIMEOUT)
            self._flushing = False
            return not self._journal.pending

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
            while self._journal.pending:
                count, problem = self._attempt()
                with self._changed:
                    if self._closed:
                        return
                    if not problem:
                        problem = self._acknowledge(count)
                    if problem:
                        self._maybe_sent = max(self._maybe_sent, self._journal.sent + 1)
                    self.problem = problem
                    self._changed.notify_all()
                if problem:
                    break
            if bool(self.problem) != down:
                down = bool(self.problem)
                self._report(down)

    def _acknowledge(self, count: int) -> str:
        """Record that entries were received; return why the journal cannot be written, such as a full disk."""
        try:
            self._journal.acknowledge(count)
        except OSError as error:
            return os_errors.explain_os_error(error) or os_errors.reason(error)
        return ""

    def _wait(self, seconds: float) -> bool:
        """Wait, or until a flush; return False when the mirror is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or (self._flushing and not self.problem), seconds)
            return not self._closed

    def _attempt(self) -> tuple[int, str]:
        """Send the next batch; return the number of its entries, and what is wrong with the server."""
        from mlflow.exceptions import MlflowException

        batch = self._next_batch()
        try:
            try:
                self._send(batch)
            except MlflowException as error:
                if error.error_code not in PERMANENT or len(batch) == 1:
                    raise
                batch = batch[:1]  # the rest may be accepted
                self._send(batch)
        except MlflowException as error:
            reason = os_errors.reason(error)
            if error.error_code not in PERMANENT:
                return 0, reason
            notify(f"MLflow at {self._server} rejected part of the run {batch[0]['run']!r}: {reason}")
        except OSError as error:
            return 0, one_line(error, 300)
        return len(batch), ""

    def _next_batch(self) -> list[Entry]:
        """Return the entries for one call: of one run, and no more than MLflow accepts."""
        journal = self._journal
        first, *rest = journal.entries[journal.sent : journal.sent + MAX_METRICS]
        batch = [first]
        for entry in rest:
            if not (entry["do"] == first["do"] == "log" and entry["run"] == first["run"]):
                break
            if any(
                sum(len(logged[kind]) for logged in [*batch, entry]) > most
                for kind, most in (("metrics", MAX_METRICS), ("params", MAX_PARAMS), ("tags", MAX_TAGS))
            ):
                break
            batch.append(entry)
        return batch

    def _send(self, batch: list[Entry]) -> None:
        entry, ids = batch[0], self._journal.ids
        run_id = ids.get(entry["run"], "")
        if entry["do"] == "create":
            ids[entry["run"]] = self._create_run(entry)
        elif not run_id:
            return  # its creation was rejected, which was reported
        elif entry["do"] == "log":
            self._log_batch(run_id, batch)
        elif entry["do"] == "data":
            self._log_dataset(run_id, entry["values"])
        elif entry["status"] == RUNNING:
            self._client.update_run(run_id, status=RUNNING)
        else:
            self._client.set_terminated(run_id, entry["status"], end_time=entry["time"])

    def _create_run(self, entry: Entry) -> str:
        experiment_id = self._journal.header["experiment"]
        identity = f"{self._journal.header['id']}/{entry['run']}"
        if self._journal.sent < self._maybe_sent:
            runs = self._client.search_runs([experiment_id], f"tags.`{IDENTITY}` = '{identity}'", max_results=1)
            if runs:
                return str(runs[0].info.run_id)
        tags = {name: self._resolve(value) for name, value in entry["tags"].items()}
        run = self._client.create_run(
            experiment_id, run_name=entry["name"], start_time=entry["time"], tags={**tags, IDENTITY: identity}
        )
        return str(run.info.run_id)

    def _log_batch(self, run_id: str, batch: list[Entry]) -> None:
        from mlflow.entities import Metric, Param, RunTag

        merged: dict[str, list[Any]] = {
            kind: [value for entry in batch for value in entry[kind]] for kind in ("metrics", "params", "tags")
        }
        self._client.log_batch(
            run_id,
            metrics=[Metric(*metric) for metric in merged["metrics"]],
            params=[Param(*param) for param in merged["params"]],
            tags=[RunTag(name, self._resolve(value)) for name, value in merged["tags"]],
        )

    def _log_dataset(self, run_id: str, values: dict[str, str]) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        fields = ("name", "digest", "source_type", "source", "schema", "profile")
        context = InputTag("mlflow.data.context", values["context"])
        self._client.log_inputs(run_id, [DatasetInput(Dataset(*(values[field] for field in fields)), [context])])

    def _resolve(self, text: str) -> str:
        """Replace references by the ids that MLflow has given."""
        return REFERENCE.sub(lambda match: self._journal.ids.get(match[1], match[1]), text)

    def _report(self, down: bool) -> None:
        if down:
            kept = f"what is logged is kept in {self._journal.path}"
            notify(f"MLflow at {self._server} is not responding: {self.problem}; the work continues, and {kept}")
        else:
            notify(f"MLflow at {self._server} is responding again and has received everything that was kept for it")


def notify(message: str) -> None:
    """Print a line on stderr, above any progress bar, without the secrets of any address in it."""
    from tqdm import tqdm

    tqdm.write(visible(scrub(message)), file=sys.stderr)
