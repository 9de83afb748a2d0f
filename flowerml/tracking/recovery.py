"""What becomes of the journals of earlier processes: sent, resumed, or archived until the server responds."""

import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from flowerml.core.locks import try_lock
from flowerml.tracking import connection
from flowerml.tracking.journal import Journal
from flowerml.tracking.mirror import Mirror, notify

if TYPE_CHECKING:
    from mlflow import MlflowClient

WORK = Path(".flowerml")
SUFFIX = ".jsonl"
ARCHIVE = "unsent"
SQLITE = connection.SQLITE


def journal_path(experiment: str, run: str) -> Path:
    """Return the file of a run's journal, in a folder that git ignores."""
    WORK.mkdir(exist_ok=True)
    if not (WORK / ".gitignore").exists():
        (WORK / ".gitignore").write_text("*\n")
    return WORK / "runs" / f"{quote(experiment, safe=' ')}.{run}{SUFFIX}"


def recover(client: "MlflowClient", own: Path, resume: str | None) -> None:
    """Send what earlier processes could not, and end the runs of those that were killed.

    Journals of processes still at work, of other servers and of the run to resume are left alone.
    """
    _recover_journal(client, own, resume)
    for path in set(own.parent.glob(f"*{SUFFIX}")) - {own}:
        with try_lock(path.with_suffix(".lock")) as free:
            if free:
                _recover_journal(client, path, None)
    with try_lock(own.parent / f"{ARCHIVE}.lock") as free:
        for path in own.parent.glob(f"{ARCHIVE}/*{SUFFIX}") if free else ():
            _recover_journal(client, path, None)


def archive(journal: Journal, mirror: Mirror | None, *, keep: bool) -> None:
    """Send the rest, if there is a mirror; what cannot be sent moves to the archive, for `recover`.

    With `keep` the journal stays in its place, for the run to be resumed.
    """
    complete = mirror.close() if mirror else not journal.pending
    journal.close()
    path = journal.path
    if complete and not keep:
        path.unlink()
    if not complete and not keep:
        folder = path.parent if path.parent.name == ARCHIVE else path.parent / ARCHIVE
        folder.mkdir(exist_ok=True)
        path = path.replace(folder / f"{journal.header['id']}{SUFFIX}")
    if not complete:
        server = journal.header.get("server", "")
        notify(
            f"MLflow at {server} has not received everything of the run {journal.name!r}: "
            f"{journal.pending} entries are kept in {path} and will be sent when the next run starts here"
        )


def now() -> int:
    """Return the time in milliseconds, as MLflow counts it."""
    return int(time.time() * 1000)


def _recover_journal(client: "MlflowClient", path: Path, resume: str | None) -> None:
    if not path.exists():
        return
    journal = Journal(path)
    server = connection.address()
    same_server = _is_same(journal.header.get("server", ""), server)
    if same_server and resume is not None and journal.header["resume"] == resume:
        journal.close()
        if not _exists(client, journal):
            notify(f"MLflow at {server} no longer has the run {journal.name!r} that was to be resumed; starting anew")
            path.unlink()
        return
    for run in journal.open_runs:
        journal.log(run, tags=[("reason", "its process was killed")])
        journal.end(run, "KILLED", time=now())
    archive(journal, Mirror(journal, client, server=server) if same_server else None, keep=False)


def _is_same(former: str, server: str) -> bool:
    """Return whether a journal's server is the one of now: also a SQLite database that was moved with its project."""
    paths = [Path(each.removeprefix(SQLITE)) for each in (former, server) if each.startswith(SQLITE)]
    if former == server or len(paths) < 2:
        return former == server
    return paths[0].name == paths[1].name and not paths[0].exists()


def _exists(client: "MlflowClient", journal: Journal) -> bool:
    """Return False if the server has lost the first run of a journal; one that it never received counts as there."""
    from mlflow.exceptions import MlflowException

    try:
        return journal.name not in journal.ids or bool(client.get_run(journal.ids[journal.name]))
    except MlflowException as error:
        return error.error_code != "RESOURCE_DOES_NOT_EXIST"
