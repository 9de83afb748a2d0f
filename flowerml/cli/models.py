"""`flowerml models`: list the registered versions."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flowerml.cli import options, output

if TYPE_CHECKING:
    from flowerml.registry.client import Version

NAME = "models"
EXAMPLES = """[bold]Examples[/]

  flowerml models
  flowerml models flowers --json
  flowerml predict rose.jpg --model models:/flowers/3
"""
DIGEST_LENGTH = 12  # characters, as git abbreviates commits
MAX_REASON = 500  # characters


def main(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Only this registered model.")] = None,
    json: options.Json = False,
) -> None:
    """List the registered versions, with aliases, accuracy, data and the gate's decision.

    With NAME it also shows the reason for each decision.
    The registry is MLflow's at MLFLOW_TRACKING_URI, by default mlflow.db in this folder.
    """
    from flowerml.registry import client

    versions = client.versions(name)
    if json:
        for version in versions:
            output.json_line(_as_json(version))
    elif versions:
        columns = ("model", "version", "alias", "accuracy", "data", "registered", "gate")
        output.table(columns, map(_row, versions), numbers=("version", "accuracy"))
        for version in versions if name else ():
            if version.reason:
                output.print_text(f"  version {version.version}: {output.short(version.reason, MAX_REASON)}")
    else:
        output.say("no registered models yet; `dvc repro` and `flowerml register FOLDER NAME` register classifiers")


def _row(version: "Version") -> list[str]:
    accuracy = "" if version.accuracy is None else f"{version.accuracy:.4f}"
    digest = (version.data_digest or "")[:DIGEST_LENGTH]
    created = f"{datetime.fromtimestamp(version.created):%Y-%m-%d %H:%M}"
    verdict = output.short(version.verdict or "")
    return [version.name, str(version.version), ", ".join(version.aliases), accuracy, digest, created, verdict]


def _as_json(version: "Version") -> dict[str, Any]:
    created = datetime.fromtimestamp(version.created, UTC).isoformat(timespec="seconds")
    return {**asdict(version), "created": created}
