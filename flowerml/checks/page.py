"""The findings as one page with pictures: nothing in it is loaded from elsewhere, and nothing in it runs."""

import base64
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from flowerml.core import files
from flowerml.core.errors import InputError
from flowerml.tasks.base import Task

HERE = Path(__file__).parent
GROUPS = 24  # of a finding that are shown
EACH = 6  # examples of a group

Raws = Callable[[set[str]], Iterator[tuple[str, Any]]]
"""From ids to those of them that there are, each with its raw input."""


def write(path: Path, title: str, report: Mapping[str, Any], *, task: Task, raws: Raws) -> None:
    """Write the page of a report (as `checks.json` has it), atomically; the same report gives the same bytes."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    findings = [{**one, "shown": _shown(one)} for one in report["findings"]]
    wanted = {id for one in findings for group in one["shown"] for id in group}
    previews = dict(_previews(wanted, task, raws)) if wanted else {}
    text = environment.get_template("page.html").render(
        title=title, counts=report["counts"], classes=_classes(report), findings=findings, previews=previews
    )
    with files.replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def _shown(finding: Mapping[str, Any]) -> list[list[str]]:
    groups = finding.get("groups") or [[id] for id in finding["ids"]]
    return [group[:EACH] for group in groups[:GROUPS]]


def _classes(report: Mapping[str, Any]) -> int:
    return len({label for counts in report["classes"].values() for label in counts})


def _previews(wanted: set[str], task: Task, raws: Raws) -> Iterator[tuple[str, dict[str, str]]]:
    for id, raw in raws(wanted):
        try:
            preview = task.preview(raw)
        except InputError:  # among the findings are what cannot be read
            continue
        if isinstance(preview, bytes):
            yield id, {"picture": f"data:image/jpeg;base64,{base64.b64encode(preview).decode()}"}
        else:
            yield id, {"text": preview}
