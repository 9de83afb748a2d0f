"""The demo in docs/how-to/monitor.md: a version changes under traffic, dark pictures raise the alarm."""

import contextlib
import json
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import TypeVar

import pytest

from tests.support.project import REPOSITORY, Project

ADDRESS = re.compile(r"serving at (http://\S+)")
SECONDS = 60.0

T = TypeVar("T")

pytestmark = pytest.mark.extended


@pytest.fixture
def project(tmp_path) -> Project:
    """Return a project whose reference has enough examples for a comparison."""
    project = Project(tmp_path)
    project.set({"flowers.data.sample_per_class": 30})
    project.run("dvc", "repro", "export@flowers")
    return project


@pytest.fixture
def server(project) -> Iterator[str]:
    """Yield the address of a server that follows the alias, and logs."""
    command = ["flowerml", "serve", "models:/flowers@champion", "--port", "0", "--poll", "0.5", "--no-access-log"]
    command += ["--log", "predictions.jsonl"]
    log = project.folder / "serve.log"
    with log.open("w") as stderr:
        process = subprocess.Popen(command, cwd=project.folder, env=project.environment(), stderr=stderr)
    try:
        yield until(lambda: ADDRESS.findall(log.read_text()), "the server does not answer")[0]
    finally:
        process.terminate()
        process.wait(timeout=SECONDS)
    assert process.returncode == 0


def until(find: Callable[[], T], failure: str) -> T:
    """Return what `find` finds within SECONDS, once that is true."""
    deadline = time.monotonic() + SECONDS
    while not (found := find()):
        assert time.monotonic() < deadline, failure
        time.sleep(0.2)
    return found


def fetch(url: str) -> str:
    with contextlib.closing(urllib.request.urlopen(url, timeout=60)) as reply:
        return str(reply.read().decode())


def test_demo(project, server):
    def send(*options: str) -> str:
        return project.run(sys.executable, str(REPOSITORY / "examples/traffic.py"), server, *options).stdout

    def answers(number: int) -> bool:
        return bool(json.loads(fetch(f"{server}health"))["models"]["flowers"]["version"] == str(number))

    def logged(count: int) -> bool:
        return len((project.folder / "predictions.jsonl").read_text().splitlines()) >= count

    def monitor() -> subprocess.CompletedProcess[str]:
        command = ("flowerml", "monitor", "predictions.jsonl", "--model", "models:/flowers@champion", "--window", "80")
        return project.run(*command, "--no-run", "--json", check=False)

    assert send("--count", "10").startswith("flowers version 1: 10 answers")
    project.run("dvc", "repro", "-f", "-s", "export@flowers")
    until(lambda: answers(2), "the alias moved, and the server did not follow")
    assert send("--count", "80", "--seed", "2").startswith("flowers version 2: 80 answers")
    until(lambda: logged(90), "the log lacks answers")
    quiet = monitor()
    assert (quiet.returncode, json.loads(quiet.stdout)["drifted"]) == (0, False), quiet.stdout + quiet.stderr
    send("--count", "80", "--seed", "3", "--brightness", "0.2")
    until(lambda: logged(170), "the log lacks answers")
    alarm = monitor()
    assert (alarm.returncode, json.loads(alarm.stdout)["drifted"]) == (3, True), alarm.stdout + alarm.stderr
    pattern = re.compile(r'^flowerml_drift\{model="flowers",version="2"\} 1\.0$', re.MULTILINE)
    until(lambda: pattern.search(fetch(f"{server}metrics")), "no alarm in /metrics")
    project.run("flowerml", "rollback", "flowers")
    until(lambda: answers(1), "the alias moved back, and the server did not follow")
