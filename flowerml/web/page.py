"""The page itself: for each model an input on the left, and its answer on the right."""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from flowerml.core.errors import FlowermlError
from flowerml.tasks.registry import TASKS
from flowerml.web import render, samples
from flowerml.web.samples import Sample
from flowerml.web.sources import Source

HERE = Path(__file__).parent
LARGEST_PICTURE = 32 * 2**20  # as much as served models read
AT_ONCE = 4  # answers in the making, for each model; a slow server must not hold up those who ask another
PICK = """element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-index]");
  if (button) trigger("click", {index: Number(button.dataset.index)});
});"""
SHOW = """watch("value", () => {
  const card = element.closest(".card");
  if (card.getBoundingClientRect().top > 0.7 * window.innerHeight) card.scrollIntoView({block: "start"});
});"""  # on a phone the answer is below the samples
ASK = """() => [...document.querySelectorAll(".ask")].find((button) => button.offsetParent).click()"""
HINT = "The answer appears here."

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Asking:
    """How answers are asked for and judged. `unsure`: see `Answer.is_unsure`."""

    top_k: int
    unsure: float | None

    def html(self, source: Source, raw: bytes | str) -> Iterator[str]:
        """The answer as HTML, then the same with what spoke for it; where there is no answer, why."""
        start = time.perf_counter()
        try:
            found = source.ask(raw, top_k=self.top_k)
            seconds = time.perf_counter() - start
            shown = partial(render.answer, poles=TASKS[source.kind].POLES, seconds=seconds, unsure=self.unsure)
            yield shown(found, note="Looking for what spoke for it …")
            try:
                yield shown(source.ask(raw, top_k=self.top_k, explain=True))
            except FlowermlError as error:
                yield shown(found, note=f"What spoke for it cannot be told: {error}.")
        except FlowermlError as error:
            yield render.problem(str(error))
        except Exception:  # a bug; the page must not go on showing the answer to something else
            log.exception("no answer")
            yield render.problem(
                "something went wrong inside this page; what it was is in the log where it was started"
            )


def build(sources: list[Source], asking: Asking, folder: Path) -> gr.Blocks:
    """The page of these models; `folder` takes what the page needs as files."""
    with gr.Blocks(title="flowerml", analytics_enabled=False, delete_cache=(60, 600)) as page:
        gr.HTML(_header(sources), elem_id="header", apply_default_css=False)
        if len(sources) == 1:
            _section(sources[0], asking, folder)
        else:
            with gr.Tabs(elem_id="tasks"):
                for source, title in zip(sources, titles(sources), strict=True):
                    with gr.Tab(title):
                        _section(source, asking, folder)
    page.queue(api_open=False, default_concurrency_limit=AT_ONCE, max_size=64)
    return page


def titles(sources: list[Source]) -> list[str]:
    """What each model's tab is called; with the model's name where there are two of a kind."""
    found = [_title(source) for source in sources]
    return [
        title if found.count(title) == 1 else f"{title}: {source.name}"
        for title, source in zip(found, sources, strict=True)
    ]


def _title(source: Source) -> str:
    return TASKS[source.kind].title(source.classes)


def _header(sources: list[Source]) -> str:
    kinds = dict.fromkeys(_title(source).lower() for source in sources)
    here = all(source.is_here for source in sources)
    promise = (
        "What you enter stays on the machine that serves this page."
        if here
        else "What you enter goes to the servers this page was started with."
    )
    return (
        "<h1>Ask the model</h1>"
        f"<p>Give it a {' or a '.join(kinds)}: it answers with what it takes it for, how sure it is, and why. "
        f"{promise}</p>"
    )


def _section(source: Source, asking: Asking, folder: Path) -> None:
    with gr.Row(elem_classes="section"):
        if TASKS[source.kind].FORM == "picture":
            _picture(source, asking, folder)
        else:
            _text(source, asking)


def _picture(source: Source, asking: Asking, folder: Path) -> None:
    with gr.Column(elem_classes="card", min_width=320):
        picture = gr.Image(
            label="Picture",
            show_label=False,
            type="filepath",
            image_mode=None,
            height=340,
            sources=["upload", "webcam", "clipboard"],
            placeholder="Drop, paste or choose a picture",
            buttons=[],
            alt_text="The picture that was asked about",
            elem_classes="picture",
        )
        offered = samples.pictures(TASKS[source.kind].samples(source.classes), folder)
        row = gr.HTML(samples.as_html(offered, form="picture"), js_on_load=PICK, apply_default_css=False)
    result = _result()

    def changed(value: dict[str, Any] | None) -> Iterator[str]:
        if not value or not value.get("path"):
            yield render.waiting(HINT)
        else:
            yield from asking.html(source, Path(value["path"]).read_bytes())

    # Not preprocessed: Gradio would open the picture, and tell of one it cannot read in words of its own. That the file
    # is one that was uploaded here is checked before.
    picture.change(changed, picture, result, preprocess=False, api_visibility="private", show_progress="minimal")
    row.click(_picked(offered), None, picture, api_visibility="private", show_progress="hidden")


def _text(source: Source, asking: Asking) -> None:
    with gr.Column(elem_classes="card", min_width=320):
        text = gr.Textbox(
            label=_title(source),
            info="Enter asks; Shift and Enter begin a new line.",
            placeholder="Type or paste it here",
            lines=1,
            max_lines=16,
            elem_classes="text",
        )
        with gr.Row(elem_classes="buttons"):
            ask = gr.Button("Ask", variant="primary", elem_classes="ask")
            clear = gr.Button("Clear", variant="secondary")
        offered = samples.texts(TASKS[source.kind].samples(source.classes))
        row = gr.HTML(samples.as_html(offered, form="text"), js_on_load=PICK, apply_default_css=False)
    result = _result()

    def submitted(value: str) -> Iterator[str]:
        if not value.strip():
            yield render.waiting("There is nothing to judge yet.")
        else:
            yield from asking.html(source, value)

    # All ways to ask lead through one event, of which one runs at a time: no earlier answer comes after a later one.
    shown = {"outputs": result, "api_visibility": "private", "show_progress": "minimal", "trigger_mode": "always_last"}
    asked = gr.on([text.submit, ask.click], submitted, text, **shown)
    picked = row.click(_picked(offered), None, text, api_visibility="private", show_progress="hidden")
    picked.then(None, js=ASK)
    clear.click(None, cancels=asked)
    clear.click(lambda: ("", render.waiting(HINT)), None, [text, result], api_visibility="private")


def _result() -> gr.HTML:
    with gr.Column(elem_classes="card", min_width=320):
        return gr.HTML(render.waiting(HINT), elem_classes="result", js_on_load=SHOW, apply_default_css=False)


def _picked(offered: list[Sample]) -> Callable[[gr.EventData], str]:
    def value(event: gr.EventData) -> str:
        return offered[int(event.index)].value

    return value
