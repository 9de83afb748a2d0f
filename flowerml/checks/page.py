"""The findings as one HTML page with previews; it loads nothing from elsewhere and runs no scripts."""

import base64
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from flowerml.core import files
from flowerml.core.errors import InputError
from flowerml.tasks.base import Task

HERE = Path(__file__).parent
MAX_GROUPS = 24  # of a finding that are shown
MAX_EXAMPLES = 6  # of a group

Raws = Callable[[set[str]], Iterator[tuple[str, Any]]]
"""From ids to (id, raw input) of those that can be read."""


def write(path: Path, title: str, report: Mapping[str, Any], *, task: Task, raws: Raws) -> None:
    """Write the page of a report (as in `checks.json`), atomically; the same report gives the same bytes."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    findings = [{**finding, "shown": _shown_groups(finding)} for finding in report["findings"]]
    wanted = {id for finding in findings for group in finding["shown"] for id in group}
    previews = dict(_previews(wanted, task, raws)) if wanted else {}
    text = environment.get_template("page.html").render(
        title=title, counts=report["counts"], classes=_class_count(report), findings=findings, previews=previews
    )
    with files.replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def _shown_groups(finding: Mapping[str, Any]) -> list[list[str]]:
    groups = finding.get("groups") or [[id] for id in finding["ids"]]
    return [group[:MAX_EXAMPLES] for group in groups[:MAX_GROUPS]]


def _class_count(report: Mapping[str, Any]) -> int:
    return len({label for counts in report["classes"].values() for label in counts})


def _previews(wanted: set[str], task: Task, raws: Raws) -> Iterator[tuple[str, dict[str, str]]]:
    for id, raw in raws(wanted):
        try:
            preview = task.preview(raw)
        except InputError:  # a finding may be that an example is unreadable
            continue
        if isinstance(preview, bytes):
            yield id, {"picture": f"data:image/jpeg;base64,{base64.b64encode(preview).decode()}"}
        else:
            yield id, {"text": preview}
