"""`flowerml predict`: print the most probable classes of pictures or texts."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flowerml.cli import options, output
from flowerml.config.paths import DESCRIPTION
from flowerml.core.errors import FlowermlError, InputError, ModelError
from flowerml.registry.locate import default_model, resolve_model

if TYPE_CHECKING:
    from flowerml.classifier.classifier import Classifier
    from flowerml.classifier.prediction import ClassProbability, Prediction
    from flowerml.cli.inputs import Input, TableColumns

    Answer = tuple[Input, Prediction | InputError]

NAME = "predict"
TOP_K = 5
NOT_SURE = "not sure"
EXAMPLES = """[bold]Examples[/]

  flowerml predict rose.jpg
  flowerml predict rose.jpg --model models:/flowers@champion --plot rose.png
  flowerml predict pictures/ more/*.png --json > answers.jsonl
  flowerml predict "A film to see twice." reviews/*.txt --top-k 1
  flowerml predict reviews.csv --text-column review --out answers.csv
  curl -s https://example.com/rose.jpg | flowerml predict -
"""


def main(
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="INPUT", help="Files, folders, globs, texts, or - for stdin."),
    ],
    model: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="A folder, or models:/NAME@ALIAS. Default: the matching one in models/."),
    ] = None,
    top_k: Annotated[int, typer.Option(min=1, help="The number of classes for each input.")] = TOP_K,
    category_names: options.CategoryNames = None,
    json: Annotated[bool, typer.Option("--json", help="Print a line of JSON for each input.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write a row for each input (.csv, .jsonl, .parquet). The same command resumes."
        ),
    ] = None,
    text_column: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Column of texts in a table, or its number from 0. Default: as in training."),
    ] = None,
    id_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Column that names the rows. Default: their numbers.")
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw a single input and its classes (.png, .pdf, .svg, .jpg)."),
    ] = None,
    device: Annotated[options.Device, typer.Option(help="Prediction always runs on the CPU.")] = options.Device.auto,
    gpu: options.Gpu = False,
) -> None:
    """Print the most probable classes of pictures or texts.

    Inputs that cannot be read are reported on stderr, and the exit code is 1; the others are still answered.
    """
    from flowerml.classifier.classifier import Classifier
    from flowerml.cli.inputs import Stdin, answers, expanded, kind
    from flowerml.cli.score import table_columns
    from flowerml.serving.version import model_json

    _check_device(device, gpu)
    _refuse_models(inputs)
    if plot is not None:
        from flowerml.cli import plot as figure

        figure.refuse_unknown(plot)
    if out is not None:
        _check_out(out, top_k=top_k, json=json, plot=plot)
    stdin = Stdin()
    with resolve_model(model or default_model(kind(inputs, stdin))) as folder:
        classifier = Classifier.load(folder)
        options.rename(classifier, category_names)
        columns = table_columns(classifier, text_column, id_column, [], option="--text-column")
        expected = expanded(inputs, classifier.task, stdin, columns)
        if out is not None:
            _write(out, classifier, inputs, expected, columns)
            return
        answered: Iterable[Answer] = answers(classifier, expected, top_k=top_k)
        if plot is not None:
            answered = _plotted(plot, classifier, list(answered))
        unreadable = _print_lines(answered, model_json(classifier)) if json else _print_table(answered)
    if unreadable:
        raise typer.Exit(1)


def _check_out(out: Path, *, top_k: int, json: bool, plot: Path | None) -> None:
    """Raise BadParameter for options that say how to print, and FlowermlError for a file that cannot be written."""
    from flowerml.pipeline.score import check_out

    given = {"--top-k": top_k != TOP_K, "--json": json, "--plot": plot is not None}
    if wrong := [name for name, is_given in given.items() if is_given]:
        raise typer.BadParameter(
            f"writes the most probable class alone; leave out {', '.join(wrong)}", param_hint="--out"
        )
    if out.is_dir():
        raise FlowermlError(f"{out}: is a folder; expected the name of a file")
    check_out(str(out))


def _write(
    out: Path, classifier: "Classifier", arguments: list[str], inputs: "Iterable[Input]", columns: "TableColumns"
) -> None:
    """Write the answers to a file, and say how many; the exit code is 1 where an input cannot be read."""
    from dataclasses import asdict

    from tqdm import tqdm

    from flowerml.cli import score
    from flowerml.engine.executors import Place
    from flowerml.pipeline.score import folders
    from flowerml.pipeline.score import score as write_answers
    from flowerml.pipeline.score.pieces import EntryStretch

    identity = {
        **score.identity(classifier),
        "inputs": [folders.state(Path(argument), classifier.task) for argument in arguments],
        "columns": asdict(columns),
    }
    entries = (item.entry() for item in tqdm(inputs, unit="input", disable=None))
    written = write_answers(
        classifier, lambda: iter([EntryStretch(entries)]), str(out), identity=identity, place=Place()
    )
    score.report(written, str(out))


def _print_lines(answers: "Iterable[Answer]", model: dict[str, str | None]) -> int:
    """Print each answer as it comes, as served models give it, on a line; return the number of unreadable inputs."""
    from flowerml.serving.answer import answer_json, error_json

    unreadable = 0
    for item, answer in answers:
        if isinstance(answer, InputError):
            unreadable += 1
            _print_error(item, answer)
            output.json_line({"input": item.name, **error_json(answer, model)})
        else:
            output.json_line({"input": item.name, **answer_json(answer, model)})
    return unreadable


def _print_table(answers: "Iterable[Answer]") -> int:
    """Print all answers as a table; return the number of unreadable inputs."""
    predictions = []
    unreadable = 0
    for item, answer in answers:
        if isinstance(answer, InputError):
            unreadable += 1
            _print_error(item, answer)
        else:
            predictions.append((item.name, answer))
    if len(predictions) == 1 and not unreadable:
        _print_one(*predictions[0])
    elif predictions:
        _print_many(predictions)
    return unreadable


def _print_many(predictions: "list[tuple[str, Prediction]]") -> None:
    rows = [
        [
            output.short(name),
            prediction.top[0].name,
            output.percent(prediction.top[0].probability),
            _doubt(prediction),
            _rest(prediction.top),
        ]
        for name, prediction in predictions
    ]
    output.table(("input", "most probable", "", " ", "then"), rows, numbers=[""])


def _print_error(item: "Input", error: InputError) -> None:
    output.print_error(f"{output.short(item.name) or 'an empty input'}: {error.message}")


def _print_one(name: str, prediction: "Prediction") -> None:
    top = prediction.top
    has_names = any(candidate.name != candidate.label for candidate in top)
    columns = ["", "class", *(["label"] if has_names else []), "probability", " "]
    rows = [
        [
            str(rank),
            candidate.name,
            *([candidate.label] if has_names else []),
            output.percent(candidate.probability),
            output.bar(candidate.probability),
        ]
        for rank, candidate in enumerate(top, 1)
    ]
    title = output.short(name) + ("" if prediction.known else f" ({_doubt(prediction)})")
    output.table(columns, rows, title=title, numbers=["", "probability"])


def _doubt(prediction: "Prediction") -> str:
    """Return that an answer is not sure, and why; nothing for a confident one."""
    return "" if prediction.known else f"{NOT_SURE}: {prediction.reason}"


def _rest(top: "tuple[ClassProbability, ...]") -> str:
    return ", ".join(f"{candidate.name} {output.percent(candidate.probability)}" for candidate in top[1:])


def _plotted(path: Path, classifier: "Classifier", answers: "list[Answer]") -> "list[Answer]":
    """Draw the only answer and return it; raises BadParameter where there are several."""
    from flowerml.cli import plot as figure

    if len(answers) != 1:
        raise typer.BadParameter(f"expected one input to draw, found {len(answers):,}", param_hint="--plot")
    ((item, answer),) = answers
    if not isinstance(answer, InputError):
        figure.draw(path, classifier, item.raw(classifier.task), answer)
    return answers


def _refuse_models(inputs: list[str]) -> None:
    """Raise ModelError for a model among the inputs, as the Udacity course's predict.py took it second."""
    from flowerml.pipeline.score.folders import is_there

    for argument in inputs:
        if argument.startswith("models:/") or is_there(Path(argument, DESCRIPTION)):
            raise ModelError(f"{argument} is a model, not an input; write --model {argument}")


def _check_device(device: options.Device, gpu: bool) -> None:
    if device is options.Device.cuda:
        raise ModelError("prediction runs on the CPU, as in serving; leave out --device")
    if gpu:
        output.say("prediction runs on the CPU; --gpu has no effect")
