"""`flowerml evaluate`: score a saved, registered or served classifier on labelled data."""

import enum
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer

from flowerml.cli import options, output

if TYPE_CHECKING:
    from flowerml.classifier.classifier import Classifier
    from flowerml.core.errors import InputError
    from flowerml.data.examples import Raw
    from flowerml.data.layout import Row
    from flowerml.evaluation.evaluation import Evaluation
    from flowerml.evaluation.intervals import Interval
    from flowerml.evaluation.labelled import LabelledExamples
    from flowerml.evaluation.report import Explains

NAME = "evaluate"
EXAMPLES = """[bold]Examples[/]

  flowerml evaluate models/flowers/classifier flower_data.tar.gz
  flowerml evaluate models:/reviews@champion aclImdb_v1.tar.gz --limit 500 --report reviews.html
  flowerml evaluate models/flowers/classifier data/flowers/examples.parquet
  flowerml evaluate http://127.0.0.1:5001 pictures/ --split all --json
"""
TOP_K = 5
RESAMPLES = 1000  # for each interval
GALLERY = 24  # worst mistakes shown in the report
SHOWN = 5  # unreadable examples, and hardest classes


class Split(enum.StrEnum):
    """The split to score on."""

    all = "all"
    train = "train"
    valid = "valid"
    test = "test"


def main(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A folder, models:/NAME@ALIAS, or the URL of a served model.")
    ],
    data: Annotated[str, typer.Argument(metavar="DATA", help="A folder, archive, table, URL or published name.")],
    split: Annotated[
        Split | None, typer.Option(help="Split to score. Default: test, or all if the data have no splits.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most this many examples of each class.")] = None,
    category_names: options.CategoryNames = None,
    kind: Annotated[options.Kind | None, typer.Option(help="Kind of the data. Default: inferred from it.")] = None,
    changes: options.Changes = None,
    json: options.Json = False,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write a report (HTML) with the mistakes.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Rows in one request to a server.")] = 512,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to wait for a server.")] = 60.0,
) -> None:
    """Score a classifier on labelled examples: accuracy, loss, macro-F1, top-5 and calibration, with 95 % intervals.

    On the data it was trained on, only the test split is scored.
    A served classifier is queried over HTTP like any other client would, and gets the same numbers.
    """
    from flowerml.classifier.classifier import Classifier
    from flowerml.evaluation import scoring
    from flowerml.registry.locate import resolve_model
    from flowerml.serving import client
    from flowerml.tasks.registry import TASKS

    _refuse_folder(report)
    selection = Selection(data, split and split.value, limit, options.parsed(changes))
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flowerml-")))
        classifier = None
        if client.is_url(model):
            labelled = selection.labelled(kind and kind.value, {}, root)
            server = client.Endpoint(model, TASKS[labelled.kind], rows=batch_size, seconds=timeout)
            with ProgressReporter(len(labelled.rows)) as reporter:
                evaluation = scoring.evaluate_endpoint(server, labelled, on_example=reporter)
        else:
            classifier = Classifier.load(stack.enter_context(resolve_model(model)))
            parameters = classifier.description["parameters"]
            labelled = selection.labelled(kind.value if kind else classifier.kind, parameters, root)
            with ProgressReporter(len(labelled.rows)) as reporter:
                evaluation = scoring.evaluate_classifier(classifier, labelled, on_example=reporter)
        if category_names is not None:
            evaluation.names.update(options.names_of(evaluation.classes, category_names))
        intervals = evaluation.intervals(top_k=TOP_K, resamples=RESAMPLES)
        if report is not None:
            _write(report, evaluation, intervals, labelled, classifier, model=model, data=data)
    _print(evaluation, intervals, labelled, unreadable=reporter.unreadable, json=json)


@dataclass(frozen=True)
class Selection:
    """The examples to score on."""

    data: str
    split: str | None
    limit: int | None
    values: Mapping[str, Any]

    def labelled(self, kind: str | None, trained: Mapping[str, Any], root: Path) -> "LabelledExamples":
        """Return these examples; if `trained`, the classifier's parameters, names the same data, in its own splits."""
        from flowerml.evaluation import labelled
        from flowerml.pipeline import adhoc

        if labelled.is_table(Path(self.data)):
            return labelled.from_table(Path(self.data), self.split, limit=self.limit)
        dealt = _is_same(self.data, trained.get("data.source"))
        given = ("data.category_names", "data.source")
        own = {name: value for name, value in trained.items() if name.startswith("data.") and name not in given}
        pipeline, _ = adhoc.pipeline_from_data(
            self.data, kind, self.values, name="data", root=root, start=own if dealt else None
        )
        examples = labelled.from_source(
            pipeline.kind, pipeline.paths, pipeline.data, self.split, dealt=dealt, limit=self.limit
        )
        for warning in examples.warnings:
            output.say(f"warning: {warning}")
        return examples


def _is_same(data: str, source: str | None) -> bool:
    """Return whether both name the same data, even by different paths."""
    if source is None or data == source:
        return source is not None
    try:
        return Path(data).resolve() == Path(source).resolve()
    except (OSError, ValueError):  # a text that cannot be a path
        return False


class ProgressReporter:
    """A progress bar on a terminal, and a warning for each of the first examples that cannot be read."""

    def __init__(self, count: int) -> None:
        from tqdm import tqdm

        self.unreadable = 0
        self._bar = tqdm(total=count, desc="evaluate", unit="example", disable=not sys.stderr.isatty())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()
        if self.unreadable > SHOWN:
            output.say(f"warning: … and {self.unreadable - SHOWN:,} more were skipped")

    def __call__(self, row: "Row", error: "InputError | None") -> None:
        self._bar.update()
        if error is not None:
            self.unreadable += 1
            if self.unreadable <= SHOWN:
                self._bar.write(
                    output.safe(f"warning: skipped {output.short(row.id)}: {error.message}"), file=sys.stderr
                )


def _refuse_folder(report: Path | None) -> None:
    """Raise BadParameter for a folder, before anything is scored."""
    if report is not None and report.is_dir():
        raise typer.BadParameter(f"{str(report)!r} is a folder; expected the name of a file", param_hint="--report")


def _write(
    path: Path,
    evaluation: "Evaluation",
    intervals: "Mapping[str, Interval]",
    labelled: "LabelledExamples",
    classifier: "Classifier | None",
    *,
    model: str,
    data: str,
) -> None:
    """Write the report; of a served classifier (None) without explanations, as each would take fifty requests."""
    from flowerml.core.errors import DataError, InputError
    from flowerml.evaluation import report

    def raws(ids: Collection[str]) -> "Iterator[tuple[str, Raw]]":
        for row, raw in labelled.read():
            if row.id in ids and not isinstance(raw, InputError):
                yield row.id, raw

    tested = f"{data} ({labelled.split})"
    if classifier is None:
        subject = report.Subject(model, labelled.kind, {"model": model, "tested on": tested}, {})
        explain = None
    else:
        subject = report.Subject.from_classifier(classifier, title=model, model=model, data=tested, digest=None)
        explain = _explains(classifier)
    try:
        report.write(
            path,
            evaluation,
            intervals,
            subject,
            raws=raws,
            explain=explain,
            gallery_size=GALLERY,
            resamples=RESAMPLES,
        )
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror})") from None
    output.say(f"wrote {path}")


def _explains(classifier: "Classifier") -> "Explains":
    return lambda raw, label: classifier.explain(raw, label=label)


def _print(
    evaluation: "Evaluation",
    intervals: "Mapping[str, Interval]",
    labelled: "LabelledExamples",
    *,
    unreadable: int,
    json: bool,
) -> None:
    count = len(evaluation.targets)
    if json:
        estimates = {name: interval.estimate for name, interval in intervals.items()}
        output.json_line(
            {
                **estimates,
                "intervals": {name: interval.limits() for name, interval in intervals.items()},
                "examples": count,
                "left_out": unreadable,
                "split": labelled.split,
            }
        )
        return
    rows = [
        (name.replace("_", " "), f"{interval.estimate:.4f}", f"{interval.low:.4f} to {interval.high:.4f}")
        for name, interval in intervals.items()
    ]
    title = f"{count:,} examples ({labelled.split}), {len(evaluation.classes)} classes"
    output.table(("", "", "95 % interval"), rows, title=title, numbers=("", "95 % interval"))
    if len(evaluation.classes) > 2:
        _print_hardest(evaluation)


def _print_hardest(evaluation: "Evaluation") -> None:
    table = evaluation.per_class().query("support > 0").sort_values("f1", kind="stable").head(SHOWN)
    columns = ("name", "precision", "recall", "f1", "support")
    rows = [
        [str(row["name"]), *(f"{row[metric]:.3f}" for metric in ("precision", "recall", "f1")), str(row["support"])]
        for _, row in table.iterrows()
    ]
    output.table(("hardest classes", *columns[1:]), rows, numbers=columns[1:])
