"""What a notebook needs beside the package: a folder to work in, and progress as ordinary output of a cell."""

import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import TYPE_CHECKING

from flowerml.cli import progress
from flowerml.core.progress import in_notebook
from flowerml.data.catalogue import PUBLISHED
from flowerml.data.download import is_url
from flowerml.pipeline import download
from flowerml.tracking import connection

if TYPE_CHECKING:
    from flowerml.search.study import Search

STARTED = "FLOWERML_NOTEBOOK_STARTED"
# MLflow reads it when it is imported, so a notebook calls `begin` before it imports others.
QUIET = {"MLFLOW_LOGGING_LEVEL": "WARNING"}
QUALITY = 75  # of figures as JPEG


def begin(source: str, work: str | None) -> str:
    """Change to the folder `work` (None: a new temporary one) for all outputs; return the source as seen from there.

    Relative paths are seen from the folder the kernel was started in, however often this is called. Runs are recorded
    in `work`/mlflow.db unless MLFLOW_TRACKING_URI says otherwise; raises FlowermlError where they cannot be.
    """
    started = Path(os.environ.setdefault(STARTED, str(Path.cwd())))
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    warnings.filterwarnings("ignore", message="IProgress not found")  # tqdm works without ipywidgets too
    folder = Path(tempfile.mkdtemp(prefix="flowerml_")) if work is None else started / Path(work).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    if in_notebook():
        _show_small_figures()
    connection.check()
    is_path = not (source == download.SAMPLE or source in PUBLISHED or is_url(source))
    return str(started / Path(source).expanduser()) if is_path else source


def _show_small_figures() -> None:
    """Show figures as JPEG: eight photographs take 60 KB, and 650 KB as PNG, which the notebook keeps."""
    from matplotlib_inline.backend_inline import set_matplotlib_formats

    set_matplotlib_formats("jpeg", pil_kwargs={"quality": QUALITY})


@contextmanager
def lines(search: "Search") -> Iterator[progress.Lines]:
    """Print a line for each epoch to stdout; a notebook shows stderr as an error."""
    with redirect_stderr(sys.stdout), progress.Lines(search) as epoch_lines:
        yield epoch_lines
