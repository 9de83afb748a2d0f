"""Whether a notebook that was run again gave what its page shows: the same outputs, with numbers nearly the same."""

import base64
import io
import re
from collections.abc import Iterator

import numpy as np
from nbformat import NotebookNode
from PIL import Image

NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
VARIES = "varies"
"""The tag of a cell whose rows depend on the last digits of a training: only its kind of output is compared."""
NUMBERS = 0.15
"""How far a number may be from the one that is shown, absolute or relative: processors add in another order."""
PIXELS = 0.08
"""How far pixels may be apart on average, of 1: a curve or a heat map that differs in the last digits."""


def differences(shown: NotebookNode, run: NotebookNode) -> Iterator[str]:
    """Yield a line for each output that is not as a notebook shows it."""
    for before, after in zip(shown.cells, run.cells, strict=True):
        if before.cell_type == "code":
            for problem in _of_cell(before, after):
                yield f"cell {before.id}: {problem}"


def _of_cell(before: NotebookNode, after: NotebookNode) -> Iterator[str]:
    kinds = [[_kinds(output) for output in cell.outputs] for cell in (before, after)]
    if kinds[0] != kinds[1]:
        yield f"expected outputs {kinds[0]}, found {kinds[1]}"
        return
    if VARIES in before.metadata.get("tags", []):
        return
    for expected, found in zip(before.outputs, after.outputs, strict=True):
        for kind in _kinds(expected):
            first, second = _content(expected, kind), _content(found, kind)
            if kind.startswith("image/"):
                yield from _of_pictures(first, second)
            elif not same_text(first, second):
                yield f"expected {first!r}, found {second!r}"


def _kinds(output: NotebookNode) -> tuple[str, ...]:
    return tuple(sorted(output.data)) if "data" in output else (output.get("name", output.output_type),)


def _content(output: NotebookNode, kind: str) -> str:
    return str(output.data[kind] if "data" in output else output.get("text", ""))


def same_text(first: str, second: str) -> bool:
    """Return whether two texts are the same but for small differences of numbers and spaces.

    >>> same_text("accuracy  0.91", "accuracy 0.93"), same_text("accuracy 0.91", "accuracy 0.4")
    (True, False)
    """
    words = [re.sub(r"[\s-]+", " ", NUMBER.sub("#", text)) for text in (first, second)]
    numbers = [list(map(float, NUMBER.findall(text))) for text in (first, second)]
    pairs = list(zip(*numbers, strict=False))
    return words[0] == words[1] and all(abs(a - b) <= NUMBERS * max(1.0, abs(a)) for a, b in pairs)


def _of_pictures(first: str, second: str) -> Iterator[str]:
    before, after = _pixels(first), _pixels(second)
    if before.shape != after.shape:
        yield f"expected a picture of {before.shape}, found one of {after.shape}"
    elif (apart := float(np.abs(before - after).mean())) > PIXELS:
        yield f"the picture differs by {apart:.2f} on average"


def _pixels(content: str) -> np.ndarray:
    picture = Image.open(io.BytesIO(base64.b64decode(content)))
    return np.asarray(picture.convert("RGB"), dtype=np.float64) / 255
