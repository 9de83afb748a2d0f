"""A terminal in a folder of its own that runs the fences of a page in order and compares what they print."""

import csv
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Self

from docsite.console import Step, steps
from docsite.markdown import Fence, Page
from flowerml.tasks.image import sample as flowers
from flowerml.tasks.text import sample as reviews

SECONDS = 900.0
"""That a command may take; on a busy machine `dvc repro` needs minutes."""
START_SECONDS = 180.0
"""Until a server has printed what the page shows."""
SPECIES = ("daisy", "rose", "tulip")
PER_CLASS = 12
REVIEWS = 100  # of each label
NAMES = {"neg": "negative", "pos": "positive"}
# Before and after a command, so that `cd` and `export` hold for the next one.
BEFORE = '[ ! -f "$STATE/folder" ] || { . "$STATE/environment"; cd "$(cat "$STATE/folder")"; }\n'
AFTER = '\ncode=$?; pwd > "$STATE/folder"; export -p > "$STATE/environment"; exit $code'
QUIET = {
    "DVC_NO_ANALYTICS": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "GIT_AUTHOR_NAME": "reader",
    "GIT_AUTHOR_EMAIL": "reader@example.com",
    "GIT_COMMITTER_NAME": "reader",
    "GIT_COMMITTER_EMAIL": "reader@example.com",
    "COLUMNS": "120",
    "TERM": "dumb",
    "NO_COLOR": "1",
}
LEFT_OUT = ("GIT_", "MLFLOW_", "DVC_", "FLOWERML_", "PYTEST_", "VIRTUAL_ENV", "PYTHONPATH")


class Session:
    """A terminal that begins in `folder`, in which there are pictures and reviews to try.

    >>> with Session(Path("/tmp/reader")) as session:  # doctest: +SKIP
    ...     faults = list(session.read(Page(Path("README.md").resolve())))
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "here"
        self._state = folder / "state"
        self._servers: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        self._state.mkdir(parents=True)
        (self._state / "home").mkdir()
        if not self.folder.exists():
            prepare(self.folder)
        return self

    def __exit__(self, *error: object) -> None:
        for server in self._servers:
            if server.poll() is None:
                os.killpg(server.pid, signal.SIGTERM)
                server.wait(START_SECONDS)

    def read(self, page: Page) -> Iterator[str]:
        """Run the fences of a page; yield what the first command that differs from it does."""
        for fence in page.fences():
            for fault in self._run(fence):
                yield f"{page.name}:{fence.line}: {fault}"
                return

    def _run(self, fence: Fence) -> Iterator[str]:
        if fence.language == "console":
            *first, last = steps(fence)
            for step in first:
                yield from self._step(step)
            yield from self._serve(last) if "background" in fence.flags else self._step(last)
        elif "run" in fence.flags:
            if fence.language == "python":
                (self._state / "page.py").write_text(fence.text, encoding="utf-8")
                yield from self._step(Step('python "$STATE/page.py"', 0, ()))
            else:
                yield from self._step(Step(fence.text, 0, ()))

    def _step(self, step: Step) -> Iterator[str]:
        """Run a command; yield what differs from the page."""
        log = self._state / "output"
        with log.open("wb") as output:
            try:
                code = self._start(step.command, output).wait(SECONDS)
            except subprocess.TimeoutExpired:
                yield f"{step.command}: not done within {SECONDS:g} s"
                return
        printed = log.read_text(encoding="utf-8", errors="replace")
        if code != step.exit_code:
            yield f"{step.command}: expected exit code {step.exit_code}, found {code}:\n{printed}"
        elif not step.matches(printed):
            yield _difference(step, printed)

    def _serve(self, step: Step) -> Iterator[str]:
        """Start a command that goes on while the rest of the page is read, and wait until it has printed its lines."""
        log = self._state / f"server{len(self._servers)}"
        with log.open("wb") as output:
            server = self._start(step.command, output)
        self._servers.append(server)
        deadline = time.monotonic() + START_SECONDS
        while not step.begins(printed := log.read_text(encoding="utf-8", errors="replace")):
            if server.poll() is not None or time.monotonic() > deadline:
                yield _difference(step, printed)
                return
            time.sleep(0.1)

    def _start(self, command: str, output: IO[bytes]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            ["bash", "-c", BEFORE + command + AFTER],
            cwd=self.folder,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(LEFT_OUT)}
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        own = {"PATH": path, "STATE": str(self._state), "HOME": str(self._state / "home")}
        fonts = str(Path.home() / ".cache" / "matplotlib")  # listing them takes seconds in every new HOME
        return {**kept, **QUIET, **own, "MPLCONFIGDIR": fonts}


def _difference(step: Step, printed: str) -> str:
    return "\n".join([f"{step.command}: the page says", *step.printed, "but it prints", printed])


def prepare(folder: Path) -> None:
    """Write what pages begin with: my_pictures/ (a folder for each class), rose.jpg and reviews.csv."""
    for species in SPECIES:
        (folder / "my_pictures" / species).mkdir(parents=True)
        for index in range(PER_CLASS):
            picture = folder / "my_pictures" / species / f"{index}.jpg"
            picture.write_bytes(flowers.jpeg(species, index, 0))
    shutil.copy(folder / "my_pictures" / "rose" / "0.jpg", folder / "rose.jpg")
    rng = random.Random(0)
    rows = [(reviews.compose(label, rng=rng), NAMES[label]) for _ in range(REVIEWS) for label in NAMES]
    with (folder / "reviews.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("review", "label"), *rows])
