"""Compare two saved classifiers, or two sets of repeats, on test examples that none of them was trained on."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from flowerml.config.paths import Paths
from flowerml.core.display import preview_list
from flowerml.core.errors import DataError, InputError, ModelError
from flowerml.data.examples import Examples, Raw
from flowerml.data.layout import Row
from flowerml.evaluation import comparison, labelled, scoring
from flowerml.evaluation.comparison import Comparison
from flowerml.evaluation.labelled import LabelledExamples
from flowerml.registry.candidates import logged_test
from flowerml.registry.repeats import Side

if TYPE_CHECKING:
    import pandas as pd

    from flowerml.classifier.classifier import Classifier

WORK = Path(".flowerml")  # where `flowerml train` keeps example tables


Start = Callable[[int], scoring.OnExample]
"""Called before each classifier is scored, with the number of examples that follow."""


@dataclass(frozen=True)
class Compared:
    """A comparison, and what it was made on: predictions that were logged, unless `scored`.

    `left_out` counts test examples that a classifier was trained or chosen on; `unknown` are the sides, a or b, whose
    training examples are not here, so that nobody can tell.
    """

    comparison: Comparison
    split: str
    scored: bool
    left_out: int = 0
    unreadable: int = 0
    unknown: tuple[str, ...] = ()


def check(first: Side, second: Side) -> None:
    """Raise ModelError for sides that cannot be compared: of other kinds or classes, or with a classifier in common."""
    if first.first.kind != second.first.kind:
        raise ModelError(
            f"{first.model} is a classifier of kind {first.first.kind}, {second.model} of kind {second.first.kind}; "
            "expected two of the same kind"
        )
    ours, theirs = set(first.first.classes), set(second.first.classes)
    if ours != theirs:
        only = "; ".join(
            f"only {side.model} has {preview_list(sorted(labels))}"
            for side, labels in ((first, ours - theirs), (second, theirs - ours))
            if labels
        )
        raise ModelError(f"expected two classifiers of the same classes, found others: {only}")
    if first.digests & second.digests:
        raise ModelError(
            f"{first.model} and {second.model} have a network in common, which does not differ from itself; "
            "name two others"
        )


def logged(first: Side, second: Side) -> Compared | None:
    """Return the comparison of two registered versions by their logged predictions; None where it takes a scoring."""
    ours, theirs = logged_test(first.model), logged_test(second.model)
    if ours is None or theirs is None or ours.digest != theirs.digest:
        return None
    return Compared(comparison.compare([ours.predictions], [theirs.predictions]), "test", scored=False)


def example_table(first: Side, second: Side) -> Path:
    """Return the example table here that both were trained on, and whose test split both can be scored on.

    Raises DataError where there is none.
    """
    digests = first.data_digests | second.data_digests
    for side in (first, second):
        for path in _tables(side):
            if digests == {Examples(path).digest()}:
                return path
    why = "were trained on different data" if len(digests) > 1 else "were trained on data that are not here"
    raise DataError(
        f"{first.model} and {second.model} {why}; name the test examples: flowerml compare A B DATA (a folder, "
        "archive, table, URL or example table)"
    )


def run(
    first: Side,
    second: Side,
    chosen: Sequence[LabelledExamples],
    *,
    start: Start,
    warn: Callable[[str], None],
) -> Compared:
    """Score both on the test examples that belong to both, and compare.

    `chosen` are the examples for each side: the same, or other splits of the same data where each has its own. Raises
    DataError where none is left.
    """
    examples, unknown = _in_common(first, second, chosen)
    left_out = len(chosen[0].rows) - len(examples.rows)
    if left_out:
        warn(
            f"{left_out:,} of {len(chosen[0].rows):,} examples are left out: a classifier was trained or chosen on them"
        )
    failed: set[str] = set()
    tables = [
        [_predictions(classifier, examples, failed, start) for classifier in side.classifiers]
        for side in (first, second)
    ]
    return Compared(
        comparison.compare(*tables),
        examples.split,
        scored=True,
        left_out=left_out,
        unreadable=len(failed),
        unknown=unknown,
    )


def _predictions(
    classifier: "Classifier", examples: LabelledExamples, failed: set[str], start: Start
) -> "pd.DataFrame":
    show = start(len(examples.rows))

    def on_example(row: Row, error: InputError | None) -> None:
        if error is not None:
            failed.add(row.id)
        show(row, error)

    return scoring.evaluate_classifier(classifier, examples, on_example=on_example).predictions()


def _in_common(
    first: Side, second: Side, chosen: Sequence[LabelledExamples]
) -> tuple[LabelledExamples, tuple[str, ...]]:
    """Return the examples that no classifier has seen, as far as is known, and the sides of which it is not known."""
    examples = chosen[0]
    kept = {row.id for row in examples.rows} & {row.id for row in chosen[1].rows}
    known = {"a": _training_digests(first), "b": _training_digests(second)}
    if seen := set[str]().union(*(digests for digests in known.values() if digests)):
        kept -= {row.id for row, raw in examples.read() if not isinstance(raw, InputError) and _digest(raw) in seen}
    if not kept:
        raise DataError(
            "expected test examples that neither classifier was trained or chosen on, found none among "
            f"{len(examples.rows):,}; name other data"
        )
    return _only(examples, kept), tuple(name for name, digests in known.items() if digests is None)


def _only(examples: LabelledExamples, ids: set[str]) -> LabelledExamples:
    if len(ids) == len(examples.rows):
        return examples

    def read() -> Iterator[tuple[Row, Raw | InputError]]:
        return ((row, raw) for row, raw in examples.read() if row.id in ids)

    return replace(examples, rows=[row for row in examples.rows if row.id in ids], read=read)


def _training_digests(side: Side) -> set[str] | None:
    """Return the digests of what a side was trained or chosen on; None where its example table is not here."""
    for path in _tables(side):
        if side.data_digests == {Examples(path).digest()}:
            return {key.digest for key in Examples(path).keys("train", "valid")}
    return None


def _tables(side: Side) -> list[Path]:
    """Return the example tables here that a side may have been trained on."""
    name = side.first.description["trained"].get("pipeline")
    roots = (Path(), WORK)
    paths = [Paths(name, root).examples for root in roots] if name and Path(name).name == name else []
    return [path for path in paths if labelled.is_table(path)]


def _digest(raw: Raw) -> str:
    return hashlib.sha256(raw.encode() if isinstance(raw, str) else raw).hexdigest()
