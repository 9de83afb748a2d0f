"""`flowerml check`: find problems in labelled data before training on it."""

import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flowerml.cli import options, output
from flowerml.core.display import preview_list

if TYPE_CHECKING:
    from flowerml.pipeline.check import Survey

NAME = "check"
EXAMPLES = """[bold]Examples[/]

  flowerml check my_pictures/
  flowerml check flower_data.tar.gz --html findings.html
  flowerml check reviews.csv --set data.text_column=review --fail-on leak --fail-on error
  flowerml check data/flowers/examples.parquet --json
"""
SHOWN_IDS = 3  # of a finding


def main(
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="A folder, archive, table, URL, published name or examples.parquet.")
    ],
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write a page (HTML) that shows the findings.")
    ] = None,
    fail_on: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Exit with code 1 for this finding or severity. Repeatable."),
    ] = None,
    kind: Annotated[options.Kind | None, typer.Option(help="Kind of the data. Default: inferred from it.")] = None,
    category_names: options.CategoryNames = None,
    changes: options.Changes = None,
    json: options.Json = False,
) -> None:
    """Find problems in labelled pictures or texts: copies across splits, conflicting labels, damaged files, ….

    Your data are not changed.
    Likely label errors show in encodings only: in an examples.parquet beside encoded.arrow, or by `dvc repro encode`.
    """
    from flowerml.checks import page
    from flowerml.data import findings
    from flowerml.tasks.registry import task_of

    names = options.finding_names(fail_on)
    values = options.parsed(changes)
    if category_names is not None:
        values["data.category_names"] = str(category_names)
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")  # progress bars clutter a log file
    with tempfile.TemporaryDirectory(prefix="flowerml-") as root:
        survey = _survey(data, kind and kind.value, values, Path(root))
        if html is not None:
            page.write(html, data, survey.report, task=task_of(survey.pipeline), raws=survey.raws)
    if json:
        output.json_line({"kind": survey.pipeline.kind, **survey.report})
    else:
        _print(survey.report, html)
    fail_on_names = {*names, *survey.pipeline.data.checks.fail_on}
    failing = findings.failing(survey.report["findings"], fail_on_names)
    if failing:
        raise findings.ChecksError(failing)


def _survey(data: str, kind: str | None, values: dict[str, Any], root: Path) -> "Survey":
    from flowerml.evaluation import labelled
    from flowerml.pipeline import adhoc, check

    if labelled.is_table(Path(data)):
        return check.from_table(Path(data), values)
    pipeline, _ = adhoc.pipeline_from_data(data, kind, values, name="data", root=root)
    return check.from_pipeline(pipeline)


def _print(report: dict[str, Any], html: Path | None) -> None:
    from flowerml.pipeline import extract

    for warning in report["warnings"]:
        output.say(f"warning: {warning}")
    output.print_text("\n".join(extract.overview(report)))
    _print_findings(report, html)


def _print_findings(report: dict[str, Any], html: Path | None) -> None:
    if not report["findings"]:
        output.print_text("no findings")
        return
    rows = [
        (finding["name"], finding["severity"], f"{finding['count']:,}", finding["text"], _examples(finding))
        for finding in report["findings"]
    ]
    output.table(("finding", "severity", "count", "description", "examples"), rows, numbers=["count"])
    output.print_text(f"wrote {html}" if html else "see them on a page: --html FILE")


def _examples(finding: dict[str, Any]) -> str:
    return preview_list([output.short(id) for id in finding["ids"]], SHOWN_IDS)
