"""The notebooks, run on the embedded data as a reader would run them."""

import json
import re
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from flowerml import notebook as notebooks
from tests.support.project import REPOSITORY

pytestmark = pytest.mark.slow

NOTEBOOKS = ("flowers.ipynb", "reviews.ipynb")
TEST_ACCURACY = "print(result.metrics['accuracy'], len(result.classifier.classes))"


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    """Return the name of a kernel of this interpreter; its files and the notebook's stay in the test's folder."""
    folder = tmp_path / "jupyter/kernels/tested"
    folder.mkdir(parents=True)
    launch = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (folder / "kernel.json").write_text(json.dumps({"argv": launch, "display_name": "tested", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "TMPDIR"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))
    for name in ("MLFLOW_TRACKING_URI", "FLOWERML_NOTEBOOK_STARTED", "MPLBACKEND", "TQDM_DISABLE"):
        monkeypatch.delenv(name, raising=False)
    return "tested"


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebook_ends_above_chance(name, kernel, tmp_path):
    notebook = nbformat.read(REPOSITORY / "notebooks" / name, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(TEST_ACCURACY))
    opened = tmp_path / "opened"
    opened.mkdir()

    resources = {"metadata": {"path": str(opened)}}
    NotebookClient(notebook, kernel_name=kernel, timeout=300, resources=resources).execute()

    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    stderr = "".join(output.text for output in outputs if output.get("name") == "stderr").splitlines()
    assert [line for line in stderr if ": training on a " not in line] == []
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 2
    assert not list(opened.iterdir()), "a notebook writes to its temporary folder only"
    accuracy, classes = map(float, outputs[-1].text.split())
    chance = 1 / classes
    assert accuracy > chance + 0.2 * (1 - chance)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebook_is_stored_clean(name):
    path = REPOSITORY / "notebooks" / name
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)

    assert path.stat().st_size < 60_000
    assert path.read_text(encoding="utf-8") == nbformat.writes(notebook) + "\n"
    assert all(re.fullmatch("[a-z-]+", cell.id) for cell in notebook.cells)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    for cell in notebook.cells:
        assert not cell.metadata
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None


def test_first_cell_can_run_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, value in {notebooks.STARTED: str(tmp_path), **notebooks.QUIET}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")

    results = [(notebooks.begin("pictures", "work"), Path.cwd()) for _ in range(2)]

    assert results == [(str(tmp_path / "pictures"), tmp_path / "work")] * 2
    assert notebooks.begin("sample", "work") == "sample"
