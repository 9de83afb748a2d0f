"""The course's figure: the input, and what the classifier makes of it."""

import warnings
from pathlib import Path
from typing import Any

import typer
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from flowerml.classifier.classifier import Classifier, Prediction
from flowerml.cli.output import short
from flowerml.core.errors import DataError
from flowerml.core.files import replacing

FORMATS = (".png", ".pdf", ".svg", ".jpg", ".jpeg")
PLAIN = "#3b6ea5"
DOTS_PER_INCH = 150


def refuse_unknown(path: Path) -> None:
    """Raises BadParameter, before anything is predicted, for what cannot be drawn to."""
    if path.suffix.lower() not in FORMATS:
        raise typer.BadParameter(f"{path.name!r} does not end in one of {', '.join(FORMATS)}", param_hint="--plot")


def draw(path: Path, classifier: Classifier, raw: Any, prediction: Prediction) -> None:
    """Draw an input above the bars of its most probable classes, a text with the words that spoke for and against.

    The file is written whole or not at all. Raises DataError where it cannot be written.
    """
    figure = Figure(figsize=(6, 8), layout="constrained")
    above, below = figure.subplots(2, height_ratios=(3, 2))
    best = prediction.top[0]
    classifier.task.draw(above, raw, classifier.preprocessing, lambda: classifier.explain(raw), name=_line(best.name))
    above.set_title(_line(best.name) + ("" if prediction.known else " (not sure)"))
    _bars(below, prediction)
    try:
        with replacing(path) as temporary, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of characters the font does not have
            figure.savefig(temporary, format=path.suffix[1:].lower(), dpi=DOTS_PER_INCH)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror})") from None


def _bars(axes: Axes, prediction: Prediction) -> None:
    top = prediction.top[::-1]
    axes.barh(range(len(top)), [one.probability for one in top], color=PLAIN)
    axes.set_yticks(range(len(top)), [_line(one.name) for one in top])
    axes.set_xlim(0, 1)
    axes.set_xlabel("probability")
    _only_axes(axes)


def _only_axes(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)


def _line(text: str) -> str:
    """Short, and nothing in it is read as mathematics."""
    return short(text, 30).replace("$", r"\$")
