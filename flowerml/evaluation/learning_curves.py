"""The learning curves of a training as a picture."""

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from flowerml.core.files import replacing

COLOURS = {"train": "#8a8f98", "valid": "#3b6ea5"}
DOTS_PER_INCH = 150


def draw(table: pd.DataFrame, path: Path, *, best: int) -> None:
    """Draw curves.csv, with its `best` epoch marked, as a PNG; the same table gives the same bytes.

    `table` has the columns epoch, split, measure and value.
    """
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for axes, measure in zip(figure.subplots(1, 2), ("accuracy", "loss"), strict=True):
        _draw(axes, table[table["measure"] == measure], best)
        axes.set_ylabel(measure)
        if measure == "accuracy":
            axes.set_ylim(top=1.01)
    with replacing(path) as temporary:
        # Without the version of matplotlib in the file.
        figure.savefig(temporary, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})


def _draw(axes: Axes, rows: pd.DataFrame, best: int) -> None:
    for split, colour in COLOURS.items():
        curve = rows[rows["split"] == split].dropna()
        marker = "o" if len(curve) == 1 else ""
        axes.plot(curve["epoch"], curve["value"], color=colour, marker=marker, label=split)
        if split == "valid":
            chosen = curve[curve["epoch"] == best]
            axes.plot(chosen["epoch"], chosen["value"], "o", color=colour, label=f"the kept epoch, {best}")
    axes.set_xlabel("epoch")
    axes.set_xlim(0, int(rows["epoch"].max()) + 1)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(frameon=False)
