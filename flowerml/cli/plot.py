"""A figure of an input and its most probable classes, as in the Udacity course."""

import warnings
from pathlib import Path
from typing import Any

import typer
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from flowerml.classifier.classifier import Classifier
from flowerml.classifier.prediction import Prediction
from flowerml.cli.output import short
from flowerml.core.errors import DataError
from flowerml.core.files import replacing

FORMATS = (".png", ".pdf", ".svg", ".jpg", ".jpeg")
BAR_COLOUR = "#3b6ea5"
DOTS_PER_INCH = 150


def refuse_unknown(path: Path) -> None:
    """Raise BadParameter for an unknown file format, before anything is predicted."""
    if path.suffix.lower() not in FORMATS:
        raise typer.BadParameter(f"{path.name!r} does not end in one of {', '.join(FORMATS)}", param_hint="--plot")


def draw(path: Path, classifier: Classifier, raw: Any, prediction: Prediction) -> None:
    """Draw an input above the bars of its most probable classes; of a text, the words for and against the best one.

    The file is written atomically. Raises DataError where it cannot be written.
    """
    figure = Figure(figsize=(6, 8), layout="constrained")
    input_axes, bar_axes = figure.subplots(2, height_ratios=(3, 2))
    best = prediction.top[0]
    classifier.task.draw(
        input_axes, raw, classifier.preprocessing, lambda: classifier.explain(raw), name=_line(best.name)
    )
    input_axes.set_title(_line(best.name) + ("" if prediction.known else f"\n(not sure: {prediction.reason})"))
    _draw_bars(bar_axes, prediction)
    try:
        with replacing(path) as temporary, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about characters that the font lacks
            figure.savefig(temporary, format=path.suffix[1:].lower(), dpi=DOTS_PER_INCH)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror})") from None


def _draw_bars(axes: Axes, prediction: Prediction) -> None:
    top = prediction.top[::-1]
    axes.barh(range(len(top)), [candidate.probability for candidate in top], color=BAR_COLOUR)
    axes.set_yticks(range(len(top)), [_line(candidate.name) for candidate in top])
    axes.set_xlim(0, 1)
    axes.set_xlabel("probability")
    axes.spines[["top", "right"]].set_visible(False)


def _line(text: str) -> str:
    """Return a short line in which matplotlib sees no mathematics."""
    return short(text, 30).replace("$", r"\$")
