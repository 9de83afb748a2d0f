"""`flowerml score` on workers that is killed half-way, or loses a worker, writes the bytes of one that is not."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.project import REPOSITORY

MODEL = REPOSITORY / "tests/classifier/saved_by_0_1_0"
ROWS = 12_000
TIMEOUT = 240.0  # seconds

pytestmark = pytest.mark.extended


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Return a folder with a table of texts that take a few seconds."""
    folder = tmp_path_factory.mktemp("source")
    texts = [f"good film {number} " + "never say bad great scene " * (number % 50) for number in range(ROWS)]
    pq.write_table(pa.table({"text": texts}), folder / "a.parquet", row_group_size=1500)
    return folder


def start(folder, out, workers):
    command = [sys.executable, "-m", "flowerml", "score", "a.parquet", "--model", str(MODEL), "--out", out]
    return subprocess.Popen(
        [*command, "--workers", str(workers)], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finish(process):
    output = process.communicate(timeout=TIMEOUT)[0]
    assert process.returncode == 0, output
    return output


def written(folder, out):
    """Return how far the answers of a running command are: bytes of its .part, or parts."""
    if out.endswith("/"):
        return len(list((folder / out).glob("part-*")))
    part = folder / f"{out}.part"
    return part.stat().st_size if part.exists() else 0


def wait_for_more(process, folder, out):
    """Wait until a command has written more than before it started; it may end by then."""
    before, begin = written(folder, out), time.monotonic()
    while process.poll() is None and written(folder, out) <= before:
        assert time.monotonic() - begin < TIMEOUT
        time.sleep(0.002)


def children(pid):
    """Return the ids of the processes below one."""
    try:
        inner = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    return [*inner, *(below for child in inner for below in children(child))]


def contents(folder, out):
    path = folder / out
    files = sorted(path.glob("[!.]*")) if path.is_dir() else [path]
    return {file.name: file.read_bytes() for file in files}


@pytest.mark.parametrize("out", ["answers.csv", "answers/"])
def test_killed_driver_is_resumed_to_the_same_bytes(source, out):
    finish(start(source, f"expected-{out}", 1))
    kills = 0
    for _ in range(5):
        process = start(source, out, 2)
        wait_for_more(process, source, out)
        below = children(process.pid)
        if process.poll() is None:
            process.kill()
            kills += 1
        process.communicate()
        begin = time.monotonic()
        while any(Path(f"/proc/{child}").exists() for child in below):  # a worker does not outlive its driver
            assert time.monotonic() - begin < 120
            time.sleep(0.05)
    assert kills
    finish(start(source, out, 2))
    expected = {
        name.removeprefix("expected-"): content for name, content in contents(source, f"expected-{out}").items()
    }
    assert contents(source, out) == expected


def test_lost_workers_are_replaced(source):
    finish(start(source, "one.parquet", 1))
    process = start(source, "two.parquet", 2)
    wait_for_more(process, source, "two.parquet")
    workers = [child for child in children(process.pid) if not children(child)]
    for worker in workers[-2:]:
        os.kill(worker, signal.SIGKILL)
    finish(process)
    assert contents(source, "two.parquet")["two.parquet"] == contents(source, "one.parquet")["one.parquet"]
