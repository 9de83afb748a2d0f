"""The page itself: for each model an input on the left and its answer on the right."""

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
from flowerml.web.guard import session_of
from flowerml.web.samples import Sample
from flowerml.web.sources import Source
from flowerml.web.uploads import Uploads

HERE = Path(__file__).parent
MAX_CONCURRENT = 4  # questions to each model, so that a slow server does not hold up questions to another
CLICK_SAMPLE_JS = """element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-index]");
  if (button) trigger("click", {index: Number(button.dataset.index)});
});"""
SCROLL_TO_ANSWER_JS = """watch("value", () => {
  const card = element.closest(".card");
  if (card.getBoundingClientRect().top > 0.7 * window.innerHeight) card.scrollIntoView({block: "start"});
});"""  # on a phone the answer is below the fold, under the samples
ASK_JS = """() => [...document.querySelectorAll(".ask")].find((button) => button.offsetParent).click()"""
HINT = "The answer appears here."

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AnswerView:
    """Asks a model and shows its answer. `unsure`: see `Answer.is_unsure`."""

    top_k: int
    unsure: float | None

    def html(self, source: Source, raw: bytes | str) -> Iterator[str]:
        """Yield the answer as HTML, then the same with its explanation; or the reason why there is no answer."""
        start = time.perf_counter()
        try:
            answer = source.ask(raw, top_k=self.top_k)
            seconds = time.perf_counter() - start
            show = partial(render.answer, poles=TASKS[source.kind].POLES, seconds=seconds, unsure=self.unsure)
            yield show(answer, note="Looking for what spoke for it …")
            try:
                yield show(source.ask(raw, top_k=self.top_k, explain=True))
            except FlowermlError as error:
                yield show(answer, note=f"There is no explanation: {error}.")
        except FlowermlError as error:
            yield render.problem(str(error))
        except Exception:  # a bug; the page must not keep showing the answer to another input
            log.exception("no answer")
            yield render.problem("something went wrong in this page; the log where it was started says what")


def build(sources: list[Source], view: AnswerView, uploads: Uploads, port: int) -> gr.Blocks:
    """Return the page of these models, which reads pictures from `uploads`; `port` tells its sessions from others'."""
    with gr.Blocks(title="flowerml", analytics_enabled=False) as page:
        gr.HTML(_header(sources), elem_id="header", apply_default_css=False)
        if len(sources) == 1:
            _section(sources[0], view, uploads, port)
        else:
            with gr.Tabs(elem_id="tasks"):
                for source, title in zip(sources, titles(sources), strict=True):
                    with gr.Tab(title):
                        _section(source, view, uploads, port)
    page.queue(api_open=False, default_concurrency_limit=MAX_CONCURRENT, max_size=64)
    return page


def titles(sources: list[Source]) -> list[str]:
    """Return the title of each model's tab; models with the same title are distinguished by name."""
    tabs = [_title(source) for source in sources]
    return [
        title if tabs.count(title) == 1 else f"{title}: {source.name}"
        for title, source in zip(tabs, sources, strict=True)
    ]


def _title(source: Source) -> str:
    return TASKS[source.kind].title(source.classes)


def _header(sources: list[Source]) -> str:
    inputs = " or a ".join(dict.fromkeys(_title(source).lower() for source in sources))
    privacy = (
        "What you enter stays on the machine that serves this page."
        if all(source.is_local for source in sources)
        else "What you enter goes to the servers that this page was started with."
    )
    return (
        "<h1>Ask the model</h1>"
        f"<p>Give it a {inputs}. It answers with the most probable class, how sure it is, and why. {privacy}</p>"
    )


def _section(source: Source, view: AnswerView, uploads: Uploads, port: int) -> None:
    with gr.Row(elem_classes="section"):
        if TASKS[source.kind].FORM == "picture":
            _picture(source, view, uploads, port)
        else:
            _text(source, view)


def _picture(source: Source, view: AnswerView, uploads: Uploads, port: int) -> None:
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
            alt_text="The picture the answer is about",
            elem_classes="picture",
        )
        inputs = samples.pictures(TASKS[source.kind].samples(source.classes), uploads)
        buttons = gr.HTML(samples.as_html(inputs, form="picture"), js_on_load=CLICK_SAMPLE_JS, apply_default_css=False)
    result = _result()

    def changed(value: dict[str, Any] | None, request: gr.Request) -> Iterator[str]:
        if not value or not value.get("path"):
            yield render.waiting(HINT)
            return
        try:
            raw = uploads.read(value["path"], session_of(request.cookies, port))
        except FlowermlError as error:
            yield render.problem(str(error))
        else:
            yield from view.html(source, raw)

    # preprocess=False and postprocess=False: a picture's path is a key of `uploads`, which Gradio would open as a file.
    picture.change(changed, picture, result, preprocess=False, api_visibility="private", show_progress="minimal")
    buttons.click(_picked(inputs), None, picture, postprocess=False, api_visibility="private", show_progress="hidden")


def _text(source: Source, view: AnswerView) -> None:
    with gr.Column(elem_classes="card", min_width=320):
        text = gr.Textbox(
            label=_title(source),
            info="Press Enter to ask, Shift+Enter for a new line.",
            placeholder="Type or paste a text here",
            lines=1,
            max_lines=16,
            elem_classes="text",
        )
        with gr.Row(elem_classes="buttons"):
            ask = gr.Button("Ask", variant="primary", elem_classes="ask")
            clear = gr.Button("Clear", variant="secondary")
        inputs = samples.texts(TASKS[source.kind].samples(source.classes))
        buttons = gr.HTML(samples.as_html(inputs, form="text"), js_on_load=CLICK_SAMPLE_JS, apply_default_css=False)
    result = _result()

    def submitted(value: str | None) -> Iterator[str]:
        if not value or not value.strip():
            yield render.waiting("Enter a text first.")
        else:
            yield from view.html(source, value)

    # Every way to ask ends in one event, which runs once at a time, so that no earlier answer follows a later one.
    asked = gr.on(
        [text.submit, ask.click],
        submitted,
        text,
        result,
        api_visibility="private",
        show_progress="minimal",
        trigger_mode="always_last",
    )
    picked = buttons.click(_picked(inputs), None, text, api_visibility="private", show_progress="hidden")
    picked.then(None, js=ASK_JS)
    clear.click(None, cancels=asked)
    clear.click(lambda: ("", render.waiting(HINT)), None, [text, result], api_visibility="private")


def _result() -> gr.HTML:
    with gr.Column(elem_classes="card", min_width=320):
        return gr.HTML(
            render.waiting(HINT), elem_classes="result", js_on_load=SCROLL_TO_ANSWER_JS, apply_default_css=False
        )


def _picked(inputs: list[Sample]) -> Callable[[gr.EventData], Any]:
    def value(event: gr.EventData) -> Any:
        index = getattr(event, "index", None)
        return inputs[index].value if isinstance(index, int) and index < len(inputs) else gr.skip()

    return value
