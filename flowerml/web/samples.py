"""Inputs to try, which the task offers, as a row of buttons."""

import base64
from dataclasses import dataclass
from html import escape
from pathlib import Path

from flowerml.data.examples import Raw
from flowerml.tasks.base import Form

CSS_CLASSES: dict[Form, str] = {"picture": "image", "text": "text"}


@dataclass(frozen=True)
class Sample:
    """An input as the page's input field takes it (the path of a picture, or a text), and the content of its button."""

    value: str
    html: str


def pictures(raws: list[Raw], folder: Path) -> list[Sample]:
    """Write pictures to the folder and return them. They have numbers and no names: the model is to name them."""
    samples = []
    for number, raw in enumerate(raws, start=1):
        assert isinstance(raw, bytes)
        path = folder / f"sample_{number}.jpg"
        path.write_bytes(raw)
        source = f"data:image/jpeg;base64,{base64.b64encode(raw).decode()}"
        samples.append(Sample(str(path), f'<img src="{source}" alt="Sample picture {number}">'))
    return samples


def texts(raws: list[Raw]) -> list[Sample]:
    """Return texts to try."""
    return [Sample(str(raw), f"<span>{escape(str(raw))}</span>") for raw in raws]


def as_html(samples: list[Sample], *, form: Form) -> str:
    """Return a row of buttons; a click on one sends its index. Empty where there are no samples."""
    if not samples:
        return ""
    buttons = "".join(
        f'<li><button type="button" data-index="{index}">{sample.html}</button></li>'
        for index, sample in enumerate(samples)
    )
    return f'<p class="hint">Or try one of these:</p><ul class="samples {CSS_CLASSES[form]}">{buttons}</ul>'
