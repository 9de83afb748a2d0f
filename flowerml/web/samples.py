"""The test examples of a model as a row of buttons."""

import base64
from dataclasses import dataclass
from html import escape
from typing import Any

from flowerml.classifier.examples import SavedExample
from flowerml.core.errors import InputError
from flowerml.tasks.records import Form
from flowerml.tasks.registry import TASKS
from flowerml.web.sources import Source
from flowerml.web.uploads import Uploads

CSS_CLASSES: dict[Form, str] = {"picture": "image", "text": "text"}
TITLE = "Or try one of the model’s own test examples, shown with the class it belongs to:"


@dataclass(frozen=True)
class Sample:
    """An input as the page's field takes it (a picture's key and address, or a text), its class, and a preview."""

    value: Any
    name: str
    preview: bytes | str


def of(source: Source, uploads: Uploads) -> list[Sample]:
    """Return a model's own examples that the page can show, and add their pictures to those it may read.

    A preview is made anew, so that no browser opens what a stranger's classifier brings.
    """
    task, samples = TASKS[source.kind], []
    for example in source.examples:
        try:
            preview = task.preview(example.raw)
        except InputError:
            continue
        samples.append(Sample(_value(example, uploads), source.name_of(example.label), preview))
    return samples


def _value(example: SavedExample, uploads: Uploads) -> Any:
    if isinstance(example.raw, str):
        return example.raw
    key = uploads.add_sample(example.raw)
    return {"path": key, "url": f"/gradio_api/file={key}"}


def as_html(samples: list[Sample], *, form: Form) -> str:
    """Return a row of buttons; a click on one sends its index. Without samples it shows nothing."""
    buttons = "".join(_button(index, sample) for index, sample in enumerate(samples))
    row = f'<p class="hint">{TITLE}</p><ul class="samples {CSS_CLASSES[form]}">{buttons}</ul>' if samples else ""
    return f'<div class="samples-of">{row}</div>'  # to which page.js reports a file that it did not send


def _button(index: int, sample: Sample) -> str:
    name = escape(sample.name)
    if isinstance(sample.preview, str):
        content = f'<span class="excerpt">{escape(sample.preview)}</span><span class="class">{name}</span>'
    else:
        source = f"data:image/jpeg;base64,{base64.b64encode(sample.preview).decode()}"
        content = f'<img src="{source}" alt="Example {index + 1}:"><span class="class">{name}</span>'
    return f'<li><button type="button" data-index="{index}">{content}</button></li>'
