"""A full disk with mlflow.db on it: one line that says to make room, and nothing is lost."""

import errno
import os
import subprocess
import sys

import pytest
from mlflow.exceptions import MlflowException

from flowerml.core.errors import FlowermlError
from flowerml.tracking import connection
from flowerml.tracking.journal import Journal
from flowerml.tracking.mirror import Mirror
from tests.support.project import REPOSITORY

FULL = "(sqlite3.OperationalError) database or disk is full\n[SQL: INSERT INTO runs (name) VALUES (?)]"
# Three runs: the second with a full disk, the last with room again.
PROGRAM = """
from pathlib import Path
from flowerml.core.errors import FlowermlError
from flowerml.tracking import runs
def record():
    with runs.run("experiment", "run", {}) as run:
        run.run_id
record()
filler = Path("disk/filler").open("wb", buffering=0)
try:
    while filler.write(bytes(2**12)):
        pass
except OSError:
    pass
try:
    record()
except FlowermlError as error:
    print(error)
Path("disk/filler").unlink(); filler.close()
record()
print("recorded")
"""


def test_full_disk_at_first_call_says_make_room():
    def fail() -> None:
        raise MlflowException(FULL)

    with pytest.raises(FlowermlError) as refused:
        connection.first_call(fail)
    assert str(refused.value) == (
        f"{connection.address()}: No space left on device ((sqlite3.OperationalError) database or disk is full); "
        "make room on the disk, then re-run the command"
    )


def test_full_disk_in_a_run_says_make_room(tmp_path):
    mount = "mkdir disk && mount -t tmpfs -o size=3m tmpfs disk"
    # A namespace of its own, in which anybody may mount a file system in memory.
    space = ["unshare", "--map-root-user", "--user", "--mount", "sh", "-c"]
    allowed = subprocess.run([*space, mount], cwd=tmp_path, capture_output=True, text=True)
    if allowed.returncode != 0:
        pytest.skip(f"a small disk cannot be mounted here: {allowed.stderr.strip()}")
    (tmp_path / "disk").rmdir()
    environment = f"PYTHONPATH='{REPOSITORY}' MLFLOW_TRACKING_URI=sqlite:///disk/mlflow.db"
    done = subprocess.run(
        [*space, f'{mount} && {environment} exec "$@"', "sh", sys.executable, "-c", PROGRAM],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    message, recorded = done.stdout.splitlines()
    assert message.startswith(f"sqlite:///{tmp_path}/disk/mlflow.db: No space left on device (")
    assert message.endswith("database or disk is full); make room on the disk, then re-run the command")
    assert recorded == "recorded" and "Traceback" not in done.stderr and "SQL:" not in done.stderr


def test_half_written_line_is_taken_back(tmp_path, monkeypatch):
    journal, write = Journal(tmp_path / "runs.jsonl", experiment="1"), os.write
    journal.create("search", name="search", tags={}, time=0)
    room = 10

    def write_while_there_is_room(descriptor: int, content: bytes) -> int:
        nonlocal room
        if not room:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = write(descriptor, content[:room])
        room -= written
        return written

    monkeypatch.setattr(os, "write", write_while_there_is_room)
    with pytest.raises(OSError):
        journal.log("search", params=[("seed", "0")])
    room = 10**6
    journal.end("search", "FAILED", time=1)
    assert [entry["do"] for entry in Journal(journal.path).unsent(9)] == ["create", "status"]


class Accepting:
    """An MLflow server that accepts everything."""

    def set_terminated(self, *_: object, **__: object) -> None:
        return None


def test_unwritable_journal_does_not_end_sending(tmp_path, monkeypatch, capsys):
    journal, write = Journal(tmp_path / "runs.jsonl", experiment="1"), os.write
    journal.create("search", name="search", tags={}, time=0)
    journal.assign("search", "1")
    journal.acknowledge(1)
    journal.end("search", "FINISHED", time=1)

    def fail(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", fail)
    mirror = Mirror(journal, Accepting(), server="here")  # type: ignore[arg-type]
    assert not mirror.flush() and journal.pending == 1
    assert mirror.problem == f"{journal.path}: No space left on device; make room on the disk, then re-run the command"
    monkeypatch.setattr(os, "write", write)
    assert mirror.close() and Journal(journal.path).pending == 0
    assert "Traceback" not in capsys.readouterr().err
