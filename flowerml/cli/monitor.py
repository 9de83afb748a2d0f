"""`flowerml monitor`: whether what a served model is asked has changed, and how good it is where labels come later."""

import math
import re
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flowerml.cli import options, output

if TYPE_CHECKING:
    from flowerml.monitoring.drift import Comparison
    from flowerml.monitoring.labels import Labelled
    from flowerml.pipeline.monitor import Monitored

NAME = "monitor"
EXAMPLES = """[bold]Examples[/]

  flowerml monitor predictions.jsonl --model models:/flowers@champion
  flowerml monitor predictions.jsonl --model models:/flowers/3 --since 7d --out drift.html
  flowerml monitor logs/ --model models/flowers --labels labels.csv --json

Exit code 3 where the last window has drifted, 2 for a wrong option, 1 for any other error.
"""
DRIFTED = 3  # the exit code
WINDOW = 500
LEVEL = 0.02
ACCURACY_LEVEL = 0.05  # of the one test of the accuracy
SHOWN = 8  # tests that are printed beside those that are significant
SECONDS = {"m": 60, "h": 3600, "d": 86400}

_AGO = re.compile(r"(\d{1,6})([mhd])")


def main(
    log: Annotated[
        str, typer.Argument(metavar="LOG", help="What `flowerml serve --log` writes: a file, a folder of logs, a glob.")
    ],
    model: Annotated[
        str, typer.Option(metavar="MODEL", help="The model that answered: a folder, models:/NAME@ALIAS or /VERSION.")
    ],
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="From here: 2026-01-31, 2026-01-31T08:00, or 12h or 7d ago.")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Up to here, likewise.")] = None,
    window: Annotated[
        int, typer.Option(min=50, max=10_000, help="Distinct inputs that are tested at a time; the last ones decide.")
    ] = WINDOW,
    level: Annotated[
        float, typer.Option(min=1e-6, max=0.5, help="Chance of a false alarm, of all tests of a window together.")
    ] = LEVEL,
    labels: Annotated[
        Path | None,
        typer.Option(metavar="CSV", help="Labels that came later: a table with the columns digest and label."),
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write a page (HTML): what changed.")] = None,
    json: options.Json = False,
    record: Annotated[
        bool, typer.Option("--run/--no-run", help="Record it as a run of MLflow (at MLFLOW_TRACKING_URI).")
    ] = True,
) -> None:
    """Show whether the inputs of a served model are still like the validation examples, from its prediction log.

    Each number of an input and its answer is tested by itself, and all features together; Holm's correction bounds the
    chance of a false alarm. An input that was sent several times counts once.
    """
    from flowerml.classifier.classifier import Classifier
    from flowerml.monitoring.labels import read_labels
    from flowerml.pipeline import monitor
    from flowerml.registry.locate import resolve_model

    now = time.time()
    start, end = _time(since, now, "--since", -math.inf), _time(until, now, "--until", math.inf)
    if start >= end:
        raise typer.BadParameter(f"expected a time after --since {since}, found {until}", param_hint="--until")
    if out is not None and out.is_dir():
        raise typer.BadParameter(f"{str(out)!r} is a folder; expected the name of a file", param_hint="--out")
    later = None if labels is None else read_labels(labels)
    with ExitStack() as stack:
        classifier = Classifier.load(stack.enter_context(resolve_model(model)))
        monitored = monitor.run(log, classifier, since=start, until=end, window=window, level=level, later=later)
        if monitored.damage.count:
            output.say(f"warning: {monitored.damage}")
        if out is not None:
            _write(out, monitored, log)
    if json:
        output.json_line(monitored.to_json())
    else:
        _print(monitored)
    if record:
        output.say(f"MLflow run {monitor.log_run(monitored, out)} of the experiment {monitored.model[0]}")
    if monitored.history.latest.drifted:
        raise typer.Exit(DRIFTED)


def _time(text: str | None, now: float, option: str, default: float) -> float:
    """Return a time in seconds since 1970; a time without a zone is local. Raises BadParameter."""
    if text is None:
        return default
    if ago := _AGO.fullmatch(text):
        return now - int(ago[1]) * SECONDS[ago[2]]
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        raise typer.BadParameter(
            f"expected a time such as 2026-01-31, 2026-01-31T08:00, 30m, 12h or 7d; found {text!r}", param_hint=option
        ) from None


def _write(path: Path, monitored: "Monitored", log: str) -> None:
    from flowerml.core.errors import DataError
    from flowerml.pipeline import monitor

    try:
        monitor.write_page(path, monitored, log)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror})") from None
    output.say(f"wrote {path}")


def _print(monitored: "Monitored") -> None:
    history = monitored.history
    latest = history.latest
    names = [comparison.name for comparison in latest.comparisons if comparison.drifted]
    rows = [_row(comparison) for comparison in latest.comparisons[: max(len(names), SHOWN)]]
    columns = ("", "test", "statistic", "p (Holm)", "effect", "validation", "now", "")
    title = (
        f"{monitored.title}: {latest.distinct:,} inputs, {_day(latest.since)} to {_day(latest.until)}, "
        f"against {latest.examples:,} validation examples"
    )
    output.table(columns, rows, title=title, numbers=("statistic", "p (Holm)", "validation", "now"))
    rest = len(latest.comparisons) - len(rows)
    if rest:
        output.print_text(f"  {rest} more tests without a significant change")
    if len(history.windows) > 1:
        drifted = sum(window.drifted for window in history.windows)
        output.print_text(f"  {drifted} of {len(history.windows)} windows of {history.size:,} inputs have drifted")
    if history.since is None:
        output.print_text(f"no drift was found (level {latest.level:g} for all {len(latest.comparisons)} tests)")
    else:
        output.print_text(f"drifted since {_day(history.since)}: {', '.join(names)}")
    if monitored.labelled is not None:
        _print_accuracy(monitored.labelled)


def _row(comparison: "Comparison") -> list[str]:
    category = "" if comparison.category is None else f" {output.short(comparison.category, 30)}"
    return [
        comparison.name,
        comparison.test,
        f"{comparison.statistic:.3g}",
        f"{comparison.corrected:.2g}",
        f"{comparison.measure} {comparison.effect:.2f}",
        _value(comparison, comparison.reference) + category,
        _value(comparison, comparison.window),
        "changed" if comparison.drifted else "",
    ]


def _value(comparison: "Comparison", value: float | None) -> str:
    if value is None:
        return ""
    return output.percent(value) if comparison.category is not None else f"{value:.4g}"


def _print_accuracy(labelled: "Labelled") -> None:
    rows = [
        (
            f"{_day(period.since)} to {_day(period.until)}",
            f"{period.count:,}",
            output.percent(period.interval.estimate),
            f"{output.percent(period.interval.low)} to {output.percent(period.interval.high)}",
        )
        for period in (*labelled.periods, *((labelled.overall,) if len(labelled.periods) > 1 else ()))
    ]
    columns = ("accuracy from labels", "answers", "accuracy", "95 % interval")
    output.table(columns, rows, numbers=columns[1:])
    if labelled.expected is not None and labelled.p is not None:
        expected = labelled.expected
        verdict = "significant" if labelled.p <= ACCURACY_LEVEL else "not significant"
        output.print_text(
            f"on {expected.count:,} {expected.split} examples it was {output.percent(expected.share)}; the difference "
            f"is {verdict} (p {labelled.p:.2g})"
        )
    if labelled.unknown:
        output.print_text(f"{labelled.unknown:,} have a label that is no class of the classifier, and count as wrong")
    if labelled.unmatched:
        output.print_text(f"{labelled.unmatched:,} labels are of inputs that the log does not have")


def _day(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC).astimezone():%Y-%m-%d %H:%M}"
