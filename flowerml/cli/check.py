"""`flowerml check`: what is wrong with labelled data, before anything is trained on it."""

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
SHOWN = 3  # ids of a finding


def main(
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="A folder, archive, table, URL, published name or examples.parquet.")
    ],
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="A page with pictures of what was found.")] = None,
    fail_on: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A finding or a severity that ends with exit code 1.")
    ] = None,
    kind: Annotated[options.Kind | None, typer.Option(help="Of the data, where it cannot be told.")] = None,
    category_names: options.CategoryNames = None,
    changes: options.Changes = None,
    json: options.Json = False,
) -> None:
    """Look for what is wrong with labelled pictures or texts: copies across splits, two labels, damaged files, ….

    Nothing of yours is changed. Likely label errors show in encodings only: they are looked for by `dvc repro encode`,
    and here for an examples.parquet that has its encoded.arrow beside it.
    """
    from flowerml.checks import page
    from flowerml.data import findings
    from flowerml.tasks.registry import task_of

    names = options.finding_names(fail_on)
    values = options.parsed(changes)
    if category_names is not None:
        values["data.category_names"] = str(category_names)
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")  # a bar in a file is a mess
    with tempfile.TemporaryDirectory(prefix="flowerml-") as root:
        found = _surveyed(data, kind and kind.value, values, Path(root))
        if html is not None:
            page.write(html, data, found.report, task=task_of(found.pipeline), raws=found.raws)
    if json:
        output.json_line({"kind": found.pipeline.kind, **found.report})
    else:
        _print(found.report, html)
    wanted = {*names, *found.pipeline.data.checks.fail_on}
    stopping = findings.failing(found.report["findings"], wanted)
    if stopping:
        raise findings.ChecksError(stopping)


def _surveyed(data: str, kind: str | None, values: dict[str, Any], root: Path) -> "Survey":
    from flowerml.evaluation import labelled
    from flowerml.pipeline import adhoc, check

    if labelled.is_table(Path(data)):
        return check.from_table(Path(data), values)
    pipeline, _ = adhoc.pipeline_from_data(data, kind, values, name="data", root=root)
    return check.from_pipeline(pipeline)


def _print(report: dict[str, Any], html: Path | None) -> None:
    labels = {label for counts in report["classes"].values() for label in counts}
    counts = ", ".join(f"{name} {count:,}" for name, count in report["counts"].items())
    title = f"{len(labels)} classes; {counts}"
    for warning in report["warnings"]:
        output.say(f"warning: {warning}")
    if not report["findings"]:
        print(f"{title}\nnothing was found")
        return
    rows = [
        (one["name"], one["severity"], f"{one['count']:,}", one["text"], _examples(one)) for one in report["findings"]
    ]
    output.table(("finding", "severity", "count", "what", "such as"), rows, title=title, numbers=["count"])
    print(f"with pictures: {html}" if html else "with pictures: --html FILE")


def _examples(finding: dict[str, Any]) -> str:
    return preview_list([output.short(id) for id in finding["ids"]], SHOWN)
