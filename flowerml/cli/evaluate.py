"""`flowerml evaluate`: how good a classifier is on labelled data, saved, registered or served."""

import enum
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
RESAMPLES = 1000  # behind each interval
GALLERY = 24  # of the worst mistakes
SHOWN = 5  # of the unreadable, and of the hardest classes


class Split(enum.StrEnum):
    """What of the data is taken."""

    all = "all"
    train = "train"
    valid = "valid"
    test = "test"


def main(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A folder, models:/NAME@ALIAS, or the URL of a served one.")
    ],
    data: Annotated[str, typer.Argument(metavar="DATA", help="A folder, archive, table, URL or published name.")],
    split: Annotated[Split | None, typer.Option(help="Default: test, or all where the data have no splits.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many of each class.")] = None,
    category_names: options.CategoryNames = None,
    kind: Annotated[options.Kind | None, typer.Option(help="Of the data, where it cannot be told.")] = None,
    changes: options.Changes = None,
    json: options.Json = False,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write a page (HTML) of what is right and what is not.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Rows in one request to a server.")] = 512,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds a server has to answer.")] = 60.0,
) -> None:
    """Score a classifier on labelled examples: accuracy, loss, macro-F1, top-5 and calibration, with 95 % intervals.

    Of the data it was trained on, those are taken that were kept for the test.
    A served one is asked over HTTP as any other client asks it, and gets the same numbers.
    """
    from flowerml.classifier.classifier import Classifier
    from flowerml.evaluation import scoring
    from flowerml.registry.locate import resolve_model
    from flowerml.serving import client
    from flowerml.tasks.registry import TASKS

    _refuse_folder(report)
    wanted = _Wanted(data, split and split.value, limit, options.parsed(changes))
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flowerml-")))
        classifier = None
        if client.is_url(model):
            labelled = wanted.found(kind and kind.value, {}, root)
            server = client.Endpoint(model, TASKS[labelled.kind], rows=batch_size, seconds=timeout)
            with _Told(len(labelled.rows)) as told:
                found = scoring.evaluate_endpoint(server, labelled, on_example=told)
        else:
            classifier = Classifier.load(stack.enter_context(resolve_model(model)))
            parameters = classifier.description["parameters"]
            labelled = wanted.found(kind.value if kind else classifier.kind, parameters, root)
            with _Told(len(labelled.rows)) as told:
                found = scoring.evaluate_classifier(classifier, labelled, on_example=told)
        if category_names is not None:
            found.names.update(options.names_of(found.classes, category_names))
        numbers = found.intervals(top_k=TOP_K, resamples=RESAMPLES)
        if report is not None:
            _write(report, found, numbers, labelled, classifier, model=model, data=data)
    _print(found, numbers, labelled, unread=told.unread, json=json)


@dataclass(frozen=True)
class _Wanted:
    """Which examples are asked for."""

    data: str
    split: str | None
    limit: int | None
    values: Mapping[str, Any]

    def found(self, kind: str | None, trained: Mapping[str, Any], root: Path) -> "LabelledExamples":
        """These examples. Of the data that a classifier was `trained` on (its parameters), those dealt to its test."""
        from flowerml.evaluation import labelled
        from flowerml.pipeline import adhoc

        if labelled.is_table(Path(self.data)):
            return labelled.from_table(Path(self.data), self.split, limit=self.limit)
        dealt = _is_same(self.data, trained.get("data.source"))
        names = ("data.category_names", "data.source")
        own = {name: value for name, value in trained.items() if name.startswith("data.") and name not in names}
        pipeline, _ = adhoc.pipeline_from_data(
            self.data, kind, self.values, name="data", root=root, start=own if dealt else None
        )
        found = labelled.from_source(
            pipeline.kind, pipeline.paths, pipeline.data, self.split, dealt=dealt, limit=self.limit
        )
        for warning in found.warnings:
            output.say(f"warning: {warning}")
        return found


def _is_same(data: str, source: str | None) -> bool:
    """Whether both name the same data, be it by another path."""
    return source is not None and (data == source or Path(data).resolve() == Path(source).resolve())


class _Told:
    """Hears of each example: a bar on a terminal, a line for each of the first that cannot be read."""

    def __init__(self, count: int) -> None:
        from tqdm import tqdm

        self.unread = 0
        self._bar = tqdm(total=count, desc="evaluate", unit="example", disable=not sys.stderr.isatty())

    def __enter__(self) -> "_Told":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()
        if self.unread > SHOWN:
            output.say(f"warning: … and {self.unread - SHOWN:,} more; they are not in the numbers")

    def __call__(self, row: "Row", error: "InputError | None") -> None:
        self._bar.update()
        if error is not None:
            self.unread += 1
            if self.unread <= SHOWN:
                self._bar.write(f"warning: left out {output.short(row.id)}: {error.message}", file=sys.stderr)


def _refuse_folder(report: Path | None) -> None:
    """Raises BadParameter, before anything is scored."""
    if report is not None and report.is_dir():
        raise typer.BadParameter(f"{str(report)!r} is a folder; expected the name of a file", param_hint="--report")


def _write(
    path: Path,
    found: "Evaluation",
    numbers: "Mapping[str, Interval]",
    labelled: "LabelledExamples",
    classifier: "Classifier | None",
    *,
    model: str,
    data: str,
) -> None:
    """Write the page; of a served classifier (None) without why, as each would be fifty requests."""
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
            *(path, found, numbers, subject), raws=raws, explain=explain, gallery_size=GALLERY, resamples=RESAMPLES
        )
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror})") from None
    output.say(f"wrote {path}")


def _explains(classifier: "Classifier") -> "Explains":
    return lambda raw, label: classifier.explain(raw, label=label)


def _print(
    found: "Evaluation", numbers: "Mapping[str, Interval]", labelled: "LabelledExamples", *, unread: int, json: bool
) -> None:
    count = len(found.targets)
    if json:
        estimates = {name: one.estimate for name, one in numbers.items()}
        limits = {name: one.limits() for name, one in numbers.items()}
        about = {"examples": count, "left_out": unread, "split": labelled.split}
        output.json_line({**estimates, "intervals": limits, **about})
        return
    rows = [
        (name.replace("_", " "), f"{one.estimate:.4f}", f"{one.low:.4f} to {one.high:.4f}")
        for name, one in numbers.items()
    ]
    title = f"{count:,} examples ({labelled.split}), {len(found.classes)} classes"
    output.table(("", "", "95 % interval"), rows, title=title, numbers=("", "95 % interval"))
    if len(found.classes) > 2:
        _print_hardest(found)


def _print_hardest(found: "Evaluation") -> None:
    table = found.per_class().query("support > 0").sort_values("f1", kind="stable").head(SHOWN)
    columns = ("name", "precision", "recall", "f1", "support")
    rows = [
        [str(row["name"]), *(f"{row[one]:.3f}" for one in columns[1:4]), str(row["support"])]
        for _, row in table.iterrows()
    ]
    output.table(("hardest classes", *columns[1:]), rows, numbers=columns[1:])
