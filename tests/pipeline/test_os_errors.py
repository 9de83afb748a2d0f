"""Full disks, unwritable places, Ctrl-C and concurrent commands: one line, an exit code, and no damage."""

import errno
import signal
import subprocess
from pathlib import Path

import pytest

from flowerml.core import files, os_errors
from flowerml.engine.fit import Trainer
from flowerml.search.checkpoint import Checkpoint
from tests.engine.test_fit import SECTION, batches, head
from tests.search.test_resume import first_trial
from tests.support.killing import (
    is_finished,
    kill_when,
    recorded_runs,
    stage_command,
    start,
    temporary_files,
)
from tests.support.project import Project

pytestmark = pytest.mark.slow


def test_full_disk_keeps_former_file(tmp_path, limit_file_size):
    files.write_json(tmp_path / "numbers.json", [1])
    limit_file_size(1000)
    with pytest.raises(OSError, match="numbers") as refused:
        files.write_json(tmp_path / "numbers.json", list(range(1000)))
    limit_file_size(10**9)
    assert files.read_json(tmp_path / "numbers.json") == [1]
    assert [path.name for path in tmp_path.iterdir()] == ["numbers.json"]
    assert os_errors.explain_os_error(refused.value) == (
        f"{tmp_path}/numbers.json: File too large; allow larger files (ulimit -f), then re-run the command"
    )


def test_full_disk_keeps_former_checkpoint(changed, tmp_path, limit_file_size):
    training, record = Trainer(head(), batches(), **SECTION), first_trial(changed)
    checkpoint = Checkpoint(tmp_path / "checkpoint", "key")
    record.report(next(training))
    checkpoint.write(record, training)
    record.report(next(training))
    limit_file_size(1000)
    with pytest.raises(OSError) as refused:
        checkpoint.write(record, training)
    limit_file_size(10**9)
    assert refused.value.errno == errno.EFBIG and os_errors.explain_os_error(refused.value).startswith(str(tmp_path))
    assert len(Checkpoint(tmp_path / "checkpoint", "key").running(record).epochs) == 1


def test_failed_write_keeps_former_folder(tmp_path):
    with files.replacing(tmp_path / "folder") as temporary:
        temporary.mkdir()
        (temporary / "file").write_text("former")
    with pytest.raises(OSError) as refused, files.replacing(tmp_path / "folder") as temporary:
        temporary.mkdir()
        raise OSError(errno.ENOSPC, "No space left on device")
    assert (tmp_path / "folder/file").read_text() == "former"
    assert refused.value.filename == str(tmp_path / "folder")


def test_only_dead_process_files_are_removed(tmp_path):
    dead = subprocess.Popen(["true"])
    dead.wait()
    (tmp_path / f".file.{dead.pid}.tmp").mkdir()
    (tmp_path / ".file.1.tmp").write_text("of a running process")
    files.write_json(tmp_path / "file", 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".file.1.tmp", "file"]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            OSError(errno.ENOSPC, "x", "a/b"),
            "a/b: No space left on device; make room on the disk, then re-run the command",
        ),
        (OSError(errno.EROFS, "x", "a"), "a: Read-only file system; work in another folder"),
        (
            PermissionError(errno.EACCES, "x", "a"),
            "a: Permission denied; check that you may write there, then re-run the command",
        ),
        (RuntimeError("(sqlite3.OperationalError) database or disk is full"), "No space left on device ((sqlite3"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "; make room on the disk"),
    ],
)
def test_os_error_is_one_line(error, line):
    message = os_errors.explain_os_error(error)
    assert message is not None and line in message and "\n" not in message


@pytest.mark.parametrize("error", [ValueError("bad"), FileNotFoundError(errno.ENOENT, "x", "a"), KeyError("a")])
def test_bug_is_not_explained(error):
    assert os_errors.explain_os_error(error) is None


@pytest.fixture(scope="module")
def project(reproduced, tmp_path_factory) -> Project:
    return reproduced.copy(tmp_path_factory.mktemp("refused") / "project")


def test_full_disk_names_the_file(project):
    (project.folder / "data/flowers/examples.parquet").unlink()
    line = " ".join(stage_command("extract", "flowers"))
    limited = f"unset COVERAGE_PROCESS_CONFIG; ulimit -f 20; exec {line}"  # coverage could not save its data either
    done = project.run("bash", "-c", limited, check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "error: data/flowers/examples.parquet: File too large; allow larger files" in done.stderr
    assert not (project.folder / "data/flowers/examples.parquet").exists() and not temporary_files(project.folder)
    project.run(*stage_command("extract", "flowers"))


def test_file_in_place_of_folder_is_one_line(project):
    reports = project.folder / "reports/flowers"
    reports.rename(project.folder / "kept")
    reports.touch()
    done = project.run(*stage_command("evaluate", "flowers"), check=False)
    reports.unlink()
    (project.folder / "kept").rename(reports)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "error: reports/flowers: " in done.stderr and "expected a folder, found a file" in done.stderr


def begun(records: Path) -> bool:
    """Return whether a search has recorded its first trial, and is not finished."""
    lines = records.read_text(encoding="utf-8").splitlines() if records.exists() else []
    return len(lines) > 1 and "finished" not in lines[-1]


@pytest.mark.extended
def test_search_survives_ctrl_c_and_two_at_once(project):
    project.set({"flowers.train.epochs": 60, "flowers.train.batch_size": 16, "flowers.train.search.trials": 2})
    train, checkpoint = stage_command("train", "flowers"), project.folder / "data/flowers/checkpoint"
    output = kill_when(project, train, lambda _: begun(checkpoint / "records.jsonl"), signal.SIGINT)
    assert output.endswith("interrupted; re-run the command to resume\n") and "Traceback" not in output
    assert {run["status"] for run in recorded_runs(project)} <= {"FINISHED", "KILLED"}
    first, second = start(project, train), start(project, train)
    outputs = [process.communicate()[0] for process in (first, second)]
    assert first.returncode == second.returncode == 0
    assert sum("flowers: another process is running it" in text for text in outputs) == 1
    assert {run["status"] for run in recorded_runs(project)} == {"FINISHED"} and is_finished(checkpoint)
