"""Sends a journal of runs to MLflow beside the work that writes it, which never waits for a server."""

import re
import sys
import threading
from typing import TYPE_CHECKING, Any

from flowerml.core.display import one_line
from flowerml.tracking.journal import RUNNING, Entry, Journal

if TYPE_CHECKING:
    from mlflow import MlflowClient

SECONDS_BETWEEN_SENDING = 2.0  # a call to the store takes longer than an epoch of a small network
SECONDS_WHILE_DOWN = 30.0
LONGEST_WAIT = 20.0  # for a server that gives no sign of life, when all that is left to do is to send
METRICS_IN_ONE_CALL = 1000
OTHERS_IN_ONE_CALL = 100
# A tag of every run, by which one is found again whose making was not acknowledged.
IDENTITY = "flowerml.run"
# In the text of a tag: the id of another run of the journal.
REFERENCE = re.compile(r"⟦([^⟧]*)⟧")
# What the server will not take at another time either.
LASTING = ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "INVALID_STATE", "BAD_REQUEST", "PERMISSION_DENIED")


def reference(run: str) -> str:
    """Stands, in the value of a tag, for the id that MLflow gives to a run of the same journal."""
    return f"⟦{run}⟧"


class Mirror:
    """Keeps MLflow up to date with a journal, in a thread of its own, until it is closed.

    When a server is not answering, a line on stderr says so once, it is asked again every SECONDS_WHILE_DOWN, and
    nothing is lost: what has not been received stays in the journal. What a server refuses for good is told of.
    """

    def __init__(self, journal: Journal, client: "MlflowClient", *, server: str) -> None:
        self._journal, self._client, self._server = journal, client, server
        self._changed = threading.Condition()
        self._hurry = self._closed = False
        self._uncertain = len(journal)  # entries up to here may have been received without a word of it
        self.problem = ""
        self._thread = threading.Thread(target=self._run, name="mlflow", daemon=True)
        self._thread.start()

    def flush(self) -> bool:
        """Wait until all is received; False where the server is not answering, or gives no sign for LONGEST_WAIT."""
        with self._changed:
            self._hurry, self.problem = True, ""
            self._changed.notify_all()
            sent = -1
            while self._journal.missing and not self.problem and sent != self._journal.sent:
                sent = self._journal.sent
                self._changed.wait(LONGEST_WAIT)
            self._hurry = False
            return not self._journal.missing

    def close(self) -> bool:
        """Flush, and send nothing more."""
        done = self.flush()
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if done:
            self._thread.join()
        return done

    def _run(self) -> None:
        down = False
        while self._waited(SECONDS_WHILE_DOWN if down else SECONDS_BETWEEN_SENDING):
            while self._journal.missing:
                count, problem = self._attempt()
                with self._changed:
                    if self._closed:
                        return
                    self.problem = problem
                    if problem:
                        self._uncertain = max(self._uncertain, self._journal.sent + 1)
                    else:
                        self._journal.received(count)
                    self._changed.notify_all()
                if problem:
                    break
            if bool(self.problem) != down:
                down = bool(self.problem)
                self._say_whether(down)

    def _waited(self, seconds: float) -> bool:
        """Wait for so long, or until it is in a hurry; False where it is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or (self._hurry and not self.problem), seconds)
            return not self._closed

    def _attempt(self) -> tuple[int, str]:
        """Send the next entries; how many those were, or what is wrong with the server."""
        from mlflow.exceptions import MlflowException

        entries = self._next()
        try:
            try:
                self._send(entries)
            except MlflowException as error:
                if error.error_code not in LASTING or len(entries) == 1:
                    raise
                entries = entries[:1]  # the others may be taken
                self._send(entries)
        except MlflowException as error:
            reason = one_line(error, 300)
            if error.error_code not in LASTING:
                return 0, reason
            say(f"MLflow at {self._server} refused a part of the run {entries[0]['run']!r}: {reason}")
        except OSError as error:
            return 0, one_line(error, 300)
        return len(entries), ""

    def _next(self) -> list[Entry]:
        """What goes into one call: of one run, and no more than the server takes."""
        journal = self._journal
        first, *others = journal.entries[journal.sent : journal.sent + METRICS_IN_ONE_CALL]
        found = [first]
        for entry in others:
            if not (entry["do"] == first["do"] == "log" and entry["run"] == first["run"]):
                break
            if sum(len(one["metrics"]) for one in [*found, entry]) > METRICS_IN_ONE_CALL:
                break
            if any(sum(len(one[kind]) for one in [*found, entry]) > OTHERS_IN_ONE_CALL for kind in ("params", "tags")):
                break
            found.append(entry)
        return found

    def _send(self, entries: list[Entry]) -> None:
        entry, ids = entries[0], self._journal.ids
        run = ids.get(entry["run"], "")
        if entry["do"] == "create":
            ids[entry["run"]] = self._created(entry)
        elif not run:
            return  # refused, which was said
        elif entry["do"] == "log":
            self._logged(run, entries)
        elif entry["do"] == "data":
            self._used(run, entry["values"])
        elif entry["status"] == RUNNING:
            self._client.update_run(run, status=RUNNING)
        else:
            self._client.set_terminated(run, entry["status"], end_time=entry["time"])

    def _created(self, entry: Entry) -> str:
        experiment = self._journal.facts["experiment"]
        identity = f"{self._journal.facts['id']}/{entry['run']}"
        if self._journal.sent < self._uncertain:
            found = self._client.search_runs([experiment], f"tags.`{IDENTITY}` = '{identity}'", max_results=1)
            if found:
                return str(found[0].info.run_id)
        tags = {name: self._resolved(value) for name, value in entry["tags"].items()}
        created = self._client.create_run(
            experiment, run_name=entry["name"], start_time=entry["time"], tags={**tags, IDENTITY: identity}
        )
        return str(created.info.run_id)

    def _logged(self, run: str, entries: list[Entry]) -> None:
        from mlflow.entities import Metric, Param, RunTag

        together: dict[str, list[Any]] = {
            kind: [one for entry in entries for one in entry[kind]] for kind in ("metrics", "params", "tags")
        }
        self._client.log_batch(
            run,
            metrics=[Metric(*one) for one in together["metrics"]],
            params=[Param(*one) for one in together["params"]],
            tags=[RunTag(name, self._resolved(value)) for name, value in together["tags"]],
        )

    def _used(self, run: str, values: dict[str, str]) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        kinds = ("name", "digest", "source_type", "source", "schema", "profile")
        context = InputTag("mlflow.data.context", values["context"])
        self._client.log_inputs(run, [DatasetInput(Dataset(*(values[kind] for kind in kinds)), [context])])

    def _resolved(self, text: str) -> str:
        return REFERENCE.sub(lambda match: self._journal.ids.get(match[1], match[1]), text)

    def _say_whether(self, down: bool) -> None:
        if down:
            kept = f"what is to be logged is kept in {self._journal.path}"
            say(f"MLflow at {self._server} is not answering: {self.problem}; the work goes on, and {kept}")
        else:
            say(f"MLflow at {self._server} answers again, and has all that was kept for it")


def say(line: str) -> None:
    """Tell a person on stderr, beside any bar that is there."""
    from tqdm import tqdm

    tqdm.write(line, file=sys.stderr)
