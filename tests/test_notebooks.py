"""The notebooks: run on the embedded data as a reader would run them, they give what they show."""

import re
from pathlib import Path

import nbformat
import pytest

from docsite import comparing
from docsite import notebooks as docs
from flowerml import notebook as notebooks
from tests.support.project import REPOSITORY

NAMES = ("flowers.ipynb", "reviews.ipynb")
ACCURACY = re.compile(r"test accuracy ([\d.]+): \d+ of \d+")
MOST_BYTES = 200_000 * 4 // 3  # of the pictures in all notebooks, in base64


def committed(name: str) -> nbformat.NotebookNode:
    return nbformat.read(REPOSITORY / "notebooks" / name, as_version=4)


def outputs(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


@pytest.mark.extended
@pytest.mark.parametrize("name", NAMES)
def test_notebook_gives_what_it_shows(name, tmp_path):
    shown = committed(name)
    run = docs.stripped(docs.executed(REPOSITORY / "notebooks" / name, tmp_path), shown.metadata)

    assert list(comparing.differences(shown, run)) == []
    assert not list((tmp_path / "opened").iterdir()), "a notebook writes to its temporary folder only"


@pytest.mark.parametrize("name", NAMES)
def test_notebook_shows_how_it_ran(name):
    notebook = committed(name)
    shown = outputs(notebook)
    stderr = "".join(output.text for output in shown if output.get("name") == "stderr").splitlines()
    assert [line for line in stderr if ": training on a " not in line] == []
    assert sum("image/jpeg" in output.get("data", {}) for output in shown) >= 2
    assert not any(output.output_type == "error" for output in shown)
    assert float(ACCURACY.search(shown[-1].text)[1]) > 0.7


@pytest.mark.parametrize("name", NAMES)
def test_notebook_is_stored_clean(name):
    path = REPOSITORY / "notebooks" / name
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)

    assert path.read_text(encoding="utf-8") == nbformat.writes(notebook) + "\n"
    assert all(re.fullmatch("[a-z-]+", cell.id) for cell in notebook.cells)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert notebook == docs.stripped(notebook, notebook.metadata), "run `make notebooks`"
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1)), "run `make notebooks`"
    assert {tag for cell in notebook.cells for tag in cell.metadata.get("tags", [])} <= {comparing.VARIES}


def test_pictures_in_notebooks_are_small():
    pictures = [
        output.data.get("image/jpeg", "") for name in NAMES for output in outputs(committed(name)) if "data" in output
    ]
    assert sum(map(len, pictures)) < MOST_BYTES


def test_first_variable_is_the_readers_own_folder():
    for name in NAMES:
        first = next(cell for cell in committed(name).cells if cell.cell_type == "code")
        assert 'SOURCE = "sample"  # your folder' in first.source


@pytest.mark.parametrize(
    ("change", "problems"),
    [
        (lambda cell: None, 0),
        (lambda cell: cell.outputs[0].update(text="accuracy 0.90 at /tmp/flowerml_…\n"), 0),
        (lambda cell: cell.outputs[0].update(text="accuracy 0.50 at /tmp/flowerml_…\n"), 1),
        (lambda cell: cell.outputs[0].update(text="error at /tmp/flowerml_…\n"), 1),
        (lambda cell: cell.outputs.clear(), 1),
    ],
)
def test_another_output_is_found(change, problems):
    def made() -> nbformat.NotebookNode:
        output = nbformat.v4.new_output("stream", name="stdout", text="accuracy 0.91 at /tmp/flowerml_…\n")
        return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x", id="a", outputs=[output])])

    run = made()
    change(run.cells[0])
    assert len(list(comparing.differences(made(), run))) == problems


def test_kinds_of_one_output_have_no_order():
    def made(*kinds: str) -> nbformat.NotebookNode:
        output = nbformat.v4.new_output("display_data", data=dict.fromkeys(kinds, "a"))
        return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x", id="a", outputs=[output])])

    shown = made("text/html", "text/plain")
    assert list(comparing.differences(shown, made("text/plain", "text/html"))) == []


def test_what_varies_is_stripped():
    text = "epoch 1 took 0.3 s\n/tmp/D/flowerml_a_b1/models in 2 min\n"
    assert docs.without_varying(text) == "epoch 1 took … s\n/tmp/flowerml_…/models in … min\n"


def test_first_cell_can_run_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, value in {notebooks.STARTED: str(tmp_path), **notebooks.QUIET}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")

    results = [(notebooks.begin("pictures", "work"), Path.cwd()) for _ in range(2)]

    assert results == [(str(tmp_path / "pictures"), tmp_path / "work")] * 2
    assert notebooks.begin("sample", "work") == "sample"
