"""Inputs to try, which the task offers, as a row of buttons."""

import base64
from dataclasses import dataclass
from html import escape
from typing import Any

from flowerml.data.examples import Raw
from flowerml.tasks.records import Form
from flowerml.web.uploads import Uploads

CSS_CLASSES: dict[Form, str] = {"picture": "image", "text": "text"}


@dataclass(frozen=True)
class Sample:
    """An input as the page's field takes it (a picture's key and address, or a text), and its button's content."""

    value: Any
    html: str


def pictures(raws: list[Raw], uploads: Uploads) -> list[Sample]:
    """Add pictures to those the page may read. They have numbers and no names: the model is to name them."""
    samples = []
    for number, raw in enumerate(raws, start=1):
        assert isinstance(raw, bytes)
        key = uploads.add_sample(raw)
        source = f"data:image/jpeg;base64,{base64.b64encode(raw).decode()}"
        value = {"path": key, "url": f"/gradio_api/file={key}"}
        samples.append(Sample(value, f'<img src="{source}" alt="Sample picture {number}">'))
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
