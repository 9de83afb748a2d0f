"""`flowerml predict`: what is in these pictures, or how these texts are meant."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flowerml.cli import options, output
from flowerml.config.paths import DESCRIPTION
from flowerml.core.errors import InputError, ModelError
from flowerml.registry.locate import default_model, resolve_model

if TYPE_CHECKING:
    from flowerml.classifier.classifier import Classifier, ClassProbability, Prediction
    from flowerml.cli.inputs import Input

    Answer = tuple[Input, Prediction | InputError]

NAME = "predict"
NOT_SURE = "not sure"
EXAMPLES = """[bold]Examples[/]

  flowerml predict rose.jpg
  flowerml predict rose.jpg --model models:/flowers@champion --plot rose.png
  flowerml predict pictures/ more/*.png --json > answers.jsonl
  flowerml predict "A film to see twice." reviews/*.txt --top-k 1
  curl -s https://example.com/rose.jpg | flowerml predict -
"""


def main(
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="INPUT", help="Files, folders, globs, - for stdin, and texts themselves."),
    ],
    model: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="A folder, or models:/NAME@ALIAS. Default: the one in models/ that fits."),
    ] = None,
    top_k: Annotated[int, typer.Option(min=1, help="How many classes of each input.")] = 5,
    category_names: options.CategoryNames = None,
    json: Annotated[bool, typer.Option("--json", help="A line of JSON for each input.")] = False,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw the one input and its classes (.png, .pdf, .svg, .jpg)."),
    ] = None,
    device: Annotated[options.Device, typer.Option(help="Predicting runs on the CPU.")] = options.Device.auto,
    gpu: options.Gpu = False,
) -> None:
    """Tell the most probable classes of pictures or texts.

    What cannot be read is told on stderr and the rest is answered; the exit code is then 1.
    """
    from flowerml.classifier.classifier import Classifier
    from flowerml.cli import inputs as reading

    _remark_on_device(device, gpu)
    _refuse_models(inputs)
    if plot is not None:
        from flowerml.cli import plot as figure

        figure.refuse_unknown(plot)
    stdin = reading.Stdin()
    with resolve_model(model or default_model(reading.kind(inputs, stdin))) as folder:
        classifier = Classifier.load(folder)
        options.rename(classifier, category_names)
        found = reading.expanded(inputs, classifier.task, stdin)
        answers: Iterable[Answer] = reading.answers(classifier, found, top_k=top_k)
        if plot is not None:
            answers = _drawn(plot, classifier, list(answers))
        unread = _print_lines(answers) if json else _print_table(answers)
    if unread:
        raise typer.Exit(1)


def _print_lines(answers: "Iterable[Answer]") -> int:
    """A line of JSON for each answer, as it comes; gives how many inputs could not be read."""
    unread = 0
    for one, answer in answers:
        if isinstance(answer, InputError):
            unread += 1
            _tell(one, answer)
            output.json_line({"input": one.name, "error": {"code": answer.code, "message": answer.message}})
        else:
            output.json_line({"input": one.name, **answer.to_json()})
    return unread


def _print_table(answers: "Iterable[Answer]") -> int:
    """All answers as a table; gives how many inputs could not be read."""
    told = []
    unread = 0
    for one, answer in answers:
        if isinstance(answer, InputError):
            unread += 1
            _tell(one, answer)
        else:
            told.append((one.name, answer))
    if len(told) == 1 and not unread:
        _print_one(*told[0])
    elif told:
        _print_many(told)
    return unread


def _print_many(told: "list[tuple[str, Prediction]]") -> None:
    rows = [
        [
            *(output.short(name), found.top[0].name, output.percent(found.top[0].probability)),
            *("" if found.known else NOT_SURE, _rest(found.top)),
        ]
        for name, found in told
    ]
    output.table(("input", "most probable", "", " ", "then"), rows, numbers=[""])


def _tell(one: "Input", error: InputError) -> None:
    output.tell_error(f"{output.short(one.name) or 'an empty input'}: {error.message}")


def _print_one(name: str, found: "Prediction") -> None:
    top = found.top
    labelled = any(one.name != one.label for one in top)
    columns = ["", "class", *(["label"] if labelled else []), "probability", " "]
    rows = [
        [
            *(str(number), one.name, *([one.label] if labelled else [])),
            *(output.percent(one.probability), output.bar(one.probability)),
        ]
        for number, one in enumerate(top, 1)
    ]
    title = output.short(name) + ("" if found.known else f" ({NOT_SURE}: it may be none of the classes)")
    output.table(columns, rows, title=title, numbers=["", "probability"])


def _rest(top: "tuple[ClassProbability, ...]") -> str:
    return ", ".join(f"{one.name} {output.percent(one.probability)}" for one in top[1:])


def _drawn(path: Path, classifier: "Classifier", answers: "list[Answer]") -> "list[Answer]":
    """The answers, once the only one of them is drawn."""
    from flowerml.cli import plot as figure

    if len(answers) != 1:
        raise typer.BadParameter(f"draws one input, and there are {len(answers):,}", param_hint="--plot")
    ((one, answer),) = answers
    if not isinstance(answer, InputError):
        figure.draw(path, classifier, one.raw(classifier.task), answer)
    return answers


def _refuse_models(inputs: list[str]) -> None:
    """The course's predict took the checkpoint as its second argument."""
    from flowerml.cli.inputs import is_there

    for one in inputs:
        if one.startswith("models:/") or is_there(Path(one, DESCRIPTION)):
            raise ModelError(f"{one} is a model, and not an input; say --model {one}")


def _remark_on_device(device: options.Device, gpu: bool) -> None:
    if device is options.Device.cuda:
        raise ModelError("predicting runs on the CPU, as it does where the classifier is served; leave --device out")
    if gpu:
        output.say("predicting runs on the CPU; --gpu changes nothing")
