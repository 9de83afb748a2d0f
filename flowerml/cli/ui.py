"""`flowerml ui`: look at runs, models and versions in MLflow's pages."""

import signal
import sys
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from flowerml.cli import output

if TYPE_CHECKING:
    from mlflow import MlflowClient

NAME = "ui"
EXAMPLES = """[bold]Examples[/]

  flowerml ui
  flowerml ui flowers --port 5002
  flowerml ui --open
"""


def main(
    experiment: Annotated[
        str | None,
        typer.Argument(metavar="[EXPERIMENT]", help="The experiment to link. Default: that of the last run."),
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port on this machine.")] = 5000,
    open_: Annotated[bool, typer.Option("--open", help="Open the link in the browser.")] = False,
) -> None:
    """Start MLflow's pages on 127.0.0.1, and print a link to the runs, with the columns that matter.

    The database is the one at MLFLOW_TRACKING_URI, by default mlflow.db in this folder. If that is a server, its link
    is printed. Ctrl-C ends it.
    """
    from mlflow import MlflowClient

    from flowerml.tracking import connection, ui
    from flowerml.tracking.experiment import link

    _check_project(connection.is_default())
    connection.check()
    client = MlflowClient()
    number = _experiment(client, experiment)
    store = connection.uri()
    if store.startswith(("http://", "https://")):
        _show(link(connection.address().rstrip("/"), number), client, open_=open_)
        return
    _end_on_signals()
    output.say("starting MLflow …")
    try:
        with ui.running(store, port) as process:
            _show(link(ui.address(port), number), client, open_=open_)
            output.say("Ctrl-C ends it")
            process.wait()
            raise typer.Exit(process.returncode)
    except KeyboardInterrupt:
        output.say("ended")


def _check_project(is_default: bool) -> None:
    """Raise FlowermlError, one line, rather than let MLflow create an empty database in a folder without a project."""
    from flowerml.config.params import PARAMS_FILE
    from flowerml.core.errors import FlowermlError
    from flowerml.tracking.connection import DEFAULT_PATH

    if is_default and not DEFAULT_PATH.exists() and not PARAMS_FILE.exists():
        raise FlowermlError(
            f"no {DEFAULT_PATH} and no {PARAMS_FILE} in {Path.cwd()}; run this in the project's folder, or set "
            "MLFLOW_TRACKING_URI"
        )


def _end_on_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell ignores the first for what it runs with `&`
        signal.signal(number, _interrupt)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as `nohup` has it
        signal.signal(signal.SIGHUP, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _experiment(client: "MlflowClient", name: str | None) -> str | None:
    """Return the id of an experiment, by default that of the last run; None without runs. Raises FlowermlError."""
    from flowerml.core.errors import FlowermlError
    from flowerml.tracking.experiment import complete

    experiments = client.search_experiments()
    for each in experiments:
        complete(client, each)
    ids = {each.name: each.experiment_id for each in experiments}
    if name is not None and name not in ids:
        raise FlowermlError(f"no experiment {name!r}; known are {', '.join(sorted(ids))}")
    if name is not None:
        return str(ids[name])
    last = client.search_runs(list(ids.values()), order_by=["attributes.start_time DESC"], max_results=1)
    return str(last[0].info.experiment_id) if last else None


def _show(runs: str, client: "MlflowClient", *, open_: bool) -> None:
    """Print the links, and open the first one."""
    from flowerml.tracking.experiment import models_link

    server = runs.partition("/#/")[0]
    output.print_text(f"runs:   {runs}")
    if client.search_registered_models(max_results=1):
        output.print_text(f"models: {models_link(server)}")
    sys.stdout.flush()  # a program that waits for the link reads it now
    if open_:
        typer.launch(runs)
