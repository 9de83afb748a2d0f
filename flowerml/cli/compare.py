"""`flowerml compare`: whether one classifier is better than another, or chance explains the difference."""

import enum
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flowerml.cli import options, output
from flowerml.cli.evaluate import ProgressReporter, Selection, Split
from flowerml.core.errors import FlowermlError

if TYPE_CHECKING:
    from flowerml.evaluation.comparison import Answers, Difference
    from flowerml.evaluation.labelled import LabelledExamples
    from flowerml.evaluation.scoring import OnExample
    from flowerml.pipeline.compare import Compared
    from flowerml.registry.repeats import Side

NAME = "compare"
EXAMPLES = """[bold]Examples[/]

  flowerml compare models:/flowers/4 models:/flowers@champion
  flowerml compare models/deep/classifier models/flowers/classifier flower_data.tar.gz
  flowerml compare models/deep/repeats models/flat/repeats --json
  flowerml compare models/new models/old pictures/ --fail-on worse
"""


class Verdict(enum.StrEnum):
    """What the interval says of A against B."""

    worse = "worse"
    unclear = "unclear"


def main(
    first: Annotated[
        str, typer.Argument(metavar="A", help="A classifier, models:/NAME/VERSION or @ALIAS, or a folder of repeats.")
    ],
    second: Annotated[str, typer.Argument(metavar="B", help="Another one, of the same classes.")],
    data: Annotated[
        str | None,
        typer.Argument(
            metavar="[DATA]",
            help="Test examples, as for evaluate. Default: those that both were evaluated on, if they are here.",
        ),
    ] = None,
    split: Annotated[
        Split | None, typer.Option(help="Split to compare on. Default: test, or all if the data have no splits.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most this many examples of each class.")] = None,
    alone: Annotated[
        bool, typer.Option("--alone", help="Compare the classifiers themselves, without the repeats beside them.")
    ] = False,
    fail_on: Annotated[
        list[Verdict] | None,
        typer.Option(help="Exit with code 1 where A is worse, or where it is unclear. Repeatable."),
    ] = None,
    changes: options.Changes = None,
    json: options.Json = False,
) -> None:
    """Show whether A is better than B: the 95 % interval of the difference on the same test examples.

    A folder of repeats (train.repeats) stands for its recipe: the interval then also covers other seeds.
    Examples that either was trained or chosen on are left out where that is known.
    """
    from flowerml.pipeline import compare
    from flowerml.registry.repeats import open_side

    values = options.parsed(changes)
    with ExitStack() as stack:
        sides = (
            stack.enter_context(open_side(first, alone=alone)),
            stack.enter_context(open_side(second, alone=alone)),
        )
        compare.check(*sides)
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flowerml-")))
        chosen_here = split is not None or limit is not None
        compared = None if data is not None or chosen_here else compare.logged(*sides)
        if compared is None:
            examples = _examples(sides, data, split and split.value, limit, values, root)
            with _Reporters() as reporters:
                compared = compare.run(*sides, examples, start=reporters.start, warn=_warn)
    if json:
        output.json_line(_as_json(sides, compared))
    else:
        _print(sides, compared)
    verdict = compared.comparison.accuracy.verdict
    if verdict in (fail_on or []):
        raise FlowermlError(f"A is {verdict} than B" if verdict == "worse" else "it is unclear which is better")


def _examples(
    sides: "tuple[Side, Side]",
    data: str | None,
    split: str | None,
    limit: int | None,
    values: dict[str, Any],
    root: Path,
) -> "list[LabelledExamples]":
    """Return the examples for each side, in its own splits where DATA is what it was trained on."""
    from flowerml.pipeline import compare

    source = data if data is not None else str(compare.example_table(*sides))
    selection = Selection(source, split, limit, values)
    return [
        selection.labelled(side.first.kind, side.first.description["parameters"], root / str(number))
        for number, side in enumerate(sides)
    ]


class _Reporters(ExitStack):
    """A progress bar for each classifier that is scored, one after the other."""

    def start(self, count: int) -> "OnExample":
        self.close()
        return self.enter_context(ProgressReporter(count))


def _warn(text: str) -> None:
    output.say(f"warning: {text}")


def _as_json(sides: "tuple[Side, Side]", compared: "Compared") -> dict[str, Any]:
    comparison = compared.comparison
    better = comparison.differing
    described = {
        name: {
            "model": side.model,
            "classifiers": len(side.classifiers),
            "accuracy": float(answers.accuracies().mean()),
            "accuracy_std": _deviation(answers),
            "loss": float(answers.losses.mean()),
            "answered_better": count,
            "training_examples_known": name not in compared.unknown,
        }
        for name, side, answers, count in zip("ab", sides, (comparison.first, comparison.second), better, strict=True)
    }
    return {
        **described,
        "accuracy": _limits(comparison.accuracy),
        "loss": _limits(comparison.loss),
        "verdict": comparison.accuracy.verdict,
        "examples": comparison.examples,
        "split": compared.split,
        "scored": compared.scored,
        "left_out": {"trained_on": compared.left_out, "unreadable": compared.unreadable},
    }


def _limits(difference: "Difference") -> dict[str, float | None]:
    return {
        "difference": difference.interval.estimate,
        **difference.interval.limits(),
        "standard_error_of_examples": difference.examples,
        "standard_error_of_seeds": difference.seeds,
    }


def _print(sides: "tuple[Side, Side]", compared: "Compared") -> None:
    from flowerml.evaluation import comparison

    result = compared.comparison
    rows = [
        [
            name,
            output.short(side.model),
            _networks(side),
            _accuracy(answers),
            f"{answers.losses.mean():.4f}",
            f"{count:,}",
        ]
        for name, side, answers, count in zip("AB", sides, (result.first, result.second), result.differing, strict=True)
    ]
    scored = "" if compared.scored else ", by their logged predictions"
    title = f"{result.examples:,} examples ({compared.split}), {len(sides[0].first.classes)} classes{scored}"
    columns = ("", "classifier", "", "accuracy", "loss", "answered better")
    output.table(columns, rows, title=title, numbers=columns[3:])
    for sentence in comparison.sentences(result):
        output.print_text(sentence)
    output.print_text(comparison.loss_sentence(result))
    for name in compared.unknown:
        output.say(
            f"note: the examples that {name.upper()} was trained on are not here; it may have seen some of these"
        )


def _networks(side: "Side") -> str:
    count = len(side.classifiers)
    return "" if count == 1 else f"{count} repeats"


def _accuracy(answers: "Answers") -> str:
    spread = _deviation(answers)
    mean = f"{answers.accuracies().mean():.4f}"
    return mean if spread is None else f"{mean} ± {spread:.4f}"


def _deviation(answers: "Answers") -> float | None:
    """Return the standard deviation of the accuracy over repeats; None for a single classifier."""
    accuracies = answers.accuracies()
    return float(accuracies.std(ddof=1)) if len(accuracies) > 1 else None
