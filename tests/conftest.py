import os

# Before other imports, since libraries read these when they are imported. One thread: the tests' tensors are so small
# that on a busy machine two threads would mostly wait for each other.
os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", DVC_NO_ANALYTICS="true", GRADIO_ANALYTICS_ENABLED="False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("PYTHONUNBUFFERED", "1")  # what processes print is compared, and when a closed pipe is noticed
os.environ.setdefault("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")  # a test names the metrics that it expects

import base64
import io
import resource
import shutil
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from filelock import FileLock

from tests.support.browser import CHROMIUM, OPTIONS
from tests.support.project import REPOSITORY, Project, set_params
from tests.support.serving import Served, served

if TYPE_CHECKING:
    from playwright.sync_api import Browser


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker of this suite."""
    config.addinivalue_line("markers", "slow: a file that takes long; skip such files with -m 'not slow'")
    config.addinivalue_line("markers", "extended: left out of `make test`; `make extended` and CI run it")
    config.addinivalue_line("markers", "engines: needs Ray, Dask, Spark or servers; `make test-engines` and CI run it")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the files so that no process of pytest-xdist waits for another.

    The first file has the project reproduced, which takes a minute; meanwhile the other process runs those that do not
    need it. Of either sort slow files come first, so that none is left alone at the end.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    users = {item.path for item in items if "reproduced" in getattr(item, "fixturenames", ())}
    first = next((item.path for item in items if item.path in slow & users), None)
    items.sort(key=lambda item: (item.path != first, item.path in users, item.path not in slow))


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    """Yield a Chromium without a window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=list(OPTIONS))
        yield chromium
        chromium.close()


@pytest.fixture
def limit_file_size() -> Iterator[Callable[[int], None]]:
    """Yield a function that limits the size of files in bytes, like a full disk; the limit ends with the test."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture(scope="session")
def reproduced(tmp_path_factory) -> Project:
    """Return a small copy of this project after its first `dvc repro`, which one of all test processes runs."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # which the processes share
    first, finished = folder / "reproduced", folder / "reproduced.finished"
    with FileLock(folder / "reproduced.lock"):
        if not finished.exists():
            first.mkdir()
            Project(first).run("dvc", "repro")
            finished.touch()
    project = Project.at(first).copy(tmp_path_factory.mktemp("project") / "project")
    project.run(sys.executable, "-m", "flowerml", "models")  # has MLflow find the copy's artifacts
    return project


@pytest.fixture(scope="session")
def flowers_served(reproduced, tmp_path_factory) -> Iterator[Served]:
    """Yield a real `mlflow models serve` of the first version of flowers."""
    registry = f"sqlite:///{reproduced.folder}/mlflow.db"
    with served("models:/flowers/1", tmp_path_factory.mktemp("serve"), tracking_uri=registry) as server:
        yield server


@pytest.fixture(scope="session")
def reviews_served(reproduced, tmp_path_factory) -> Iterator[Served]:
    """Yield a real `mlflow models serve` of the first version of reviews."""
    registry = f"sqlite:///{reproduced.folder}/mlflow.db"
    with served("models:/reviews/1", tmp_path_factory.mktemp("serve"), tracking_uri=registry) as server:
        yield server


@pytest.fixture(scope="session")
def picture(reproduced) -> bytes:
    """Return a flower of the test split."""
    from flowerml.data.examples import Examples

    return bytes(next(Examples(reproduced.folder / "data/flowers/examples.parquet").of("test")).raw)


@pytest.fixture(scope="session")
def flower(picture) -> str:
    """Return the picture in base64."""
    return base64.b64encode(picture).decode()


@pytest.fixture
def changed(tmp_path) -> Callable[[str, Any], Path]:
    """Return a function that writes params.yaml with the value of one dotted name changed, and returns its path."""

    def write(name: str, value: Any) -> Path:
        path = tmp_path / "params.yaml"
        shutil.copy(REPOSITORY / "params.yaml", path)
        set_params(path, {name: value})
        return path

    return write


@pytest.fixture
def pack(tmp_path) -> Callable[..., Path]:
    """Return a function that writes files (name -> content) in order as a folder, tar, tar.gz, tar.xz or zip."""

    def write(files: dict[str, bytes], kind: str = "tar") -> Path:
        path = tmp_path / f"source.{kind}"
        if kind == "folder":
            for name, content in files.items():
                (path / name).parent.mkdir(parents=True, exist_ok=True)
                (path / name).write_bytes(content)
        elif kind == "zip":
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
                for name, content in files.items():
                    archive.writestr(name, content)
        else:
            with tarfile.open(path, f"w:{kind.partition('.')[2]}") as archive:
                for name, content in files.items():
                    entry = tarfile.TarInfo(name)
                    entry.size = len(content)
                    archive.addfile(entry, io.BytesIO(content))
        return path

    return write
