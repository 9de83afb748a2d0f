"""The notebooks: run anew, with their outputs kept but for what varies from run to run, and as pages of the site."""

import copy
import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from nbformat import NotebookNode

from docsite.markdown import REPOSITORY

NOTEBOOKS = REPOSITORY / "notebooks"
SECONDS = 600
KERNEL = "docs"
# What a notebook's kernel must not see of the one who runs it.
LEFT_OUT = ("MLFLOW_TRACKING_URI", "FLOWERML_NOTEBOOK_STARTED", "MPLBACKEND", "TQDM_DISABLE")
FOLDERS = ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "TMPDIR")
# Times, temporary folders and how many cores there are.
VARYING = (
    (re.compile(r"\S*/flowerml_\w+"), "/tmp/flowerml_…"),
    (re.compile(r"\b\d+(\.\d+)? (s|ms|min|seconds)\b"), r"… \2"),
    (re.compile(r"\b\d+(:\d\d)+ left\b"), "… s left"),
    (re.compile(r"\bwith \d+ threads?\b"), "with … threads"),
)


def executed(path: Path, scratch: Path) -> NotebookNode:
    """Return a notebook that was run from its first cell to its last; raises CellExecutionError.

    Its files and its kernel's are below `scratch`; the kernel starts in the empty folder `scratch`/opened.
    """
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    (scratch / "opened").mkdir(parents=True)
    with _kernel(scratch):
        resources = {"metadata": {"path": str(scratch / "opened")}}
        NotebookClient(notebook, kernel_name=KERNEL, timeout=SECONDS, resources=resources).execute()
    return notebook


@contextmanager
def _kernel(scratch: Path) -> Iterator[None]:
    """Make a kernel of this interpreter known, with folders of its own."""
    folder = scratch / "jupyter" / "kernels" / KERNEL
    folder.mkdir(parents=True)
    launch = [sys.executable, "-m", "ipykernel_launcher", "--log-level=ERROR", "-f", "{connection_file}"]
    (folder / "kernel.json").write_text(json.dumps({"argv": launch, "display_name": KERNEL, "language": "python"}))
    before = dict(os.environ)
    for name in LEFT_OUT:
        os.environ.pop(name, None)
    for name in FOLDERS:
        (scratch / name).mkdir()
    os.environ |= {"JUPYTER_PATH": str(scratch / "jupyter"), **{name: str(scratch / name) for name in FOLDERS}}
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def stripped(notebook: NotebookNode, metadata: NotebookNode) -> NotebookNode:
    """Return a notebook without what varies from run to run: times, temporary folders and how the kernel was called."""
    kept = copy.deepcopy(notebook)
    kept.metadata = metadata
    for cell in kept.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [_stripped_output(output) for output in _joined(cell.outputs)]
    return kept


def _joined(outputs: Sequence[NotebookNode]) -> Iterator[NotebookNode]:
    """Yield outputs with those of one stream in one: how they are cut depends on the time of each print."""
    for name, group in groupby(outputs, key=lambda output: output.get("name", id(output))):
        first, *others = group
        if isinstance(name, str):
            first.text += "".join(output.text for output in others)
        yield first


def _stripped_output(output: NotebookNode) -> NotebookNode:
    if output.output_type == "stream":
        output.text = without_varying(output.text)
    if "image/jpeg" in output.get("data", {}):
        output.data.pop("image/png", None)  # Pillow offers both
    for kind, content in output.get("data", {}).items():
        if kind.startswith("text/"):
            output.data[kind] = without_varying(content)
    return output


def without_varying(text: str) -> str:
    """Return a text without times and temporary folders.

    >>> without_varying("epoch 3 in 1.5 s, see /tmp/flowerml_a1b2/models")
    'epoch 3 in … s, see /tmp/flowerml_…/models'
    """
    for pattern, replacement in VARYING:
        text = pattern.sub(replacement, text)
    return text


def rerun() -> None:
    """Run every notebook and keep its outputs."""
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        committed = nbformat.read(path, as_version=4)
        with TemporaryDirectory() as scratch:
            notebook = stripped(executed(path, Path(scratch)), committed.metadata)
        path.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
        print(f"ran {path.relative_to(REPOSITORY)}")


def write(folder: Path) -> None:
    """Write each notebook into `folder`/notebooks as a page of Markdown with its pictures beside it."""
    from nbconvert import MarkdownExporter

    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        name = path.stem
        resources = {"unique_key": name, "output_files_dir": f"{name}_files"}
        text, made = MarkdownExporter().from_filename(str(path), resources=resources)
        page = folder / "notebooks" / f"{name}.md"
        page.parent.mkdir(exist_ok=True)
        page.write_text(text, encoding="utf-8")
        for file, content in made["outputs"].items():
            (page.parent / file).parent.mkdir(exist_ok=True)
            (page.parent / file).write_bytes(content)
