"""The page itself: for each model an input on the left and its answer on the right."""

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from flowerml.core.errors import FlowermlError, InputError
from flowerml.tasks.registry import TASKS
from flowerml.web import refusals, render, samples
from flowerml.web.guard import MAX_PICTURE_BYTES, session_of
from flowerml.web.samples import Sample
from flowerml.web.sources import Source
from flowerml.web.uploads import Uploads

HERE = Path(__file__).parent
MAX_CONCURRENT = 4  # questions to each model, so that a slow server does not hold up questions to another
TOO_LARGE = 1_000_000  # in place of an example's index: page.js does not send a large file
CLICK_SAMPLE_JS = """element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-index]");
  if (button) trigger("click", {index: Number(button.dataset.index)});
});
element.addEventListener("too-large", () => trigger("click", {index: TOO_LARGE}));""".replace(
    "TOO_LARGE", str(TOO_LARGE)
)
SHOW_ANSWER_JS = """watch("value", () => requestAnimationFrame(() => window.flowerml.show(element)));"""
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
        except InputError as error:
            yield render.problem(refusals.of_error(error))
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
    if source.is_demo:
        gr.HTML(render.demo(TASKS[source.kind].SAMPLE_DATA), apply_default_css=False)
    own = samples.of(source, uploads)
    with gr.Row(elem_classes="section"):
        if TASKS[source.kind].FORM == "picture":
            _picture(source, own, view, uploads, port)
        else:
            _text(source, own, view)


def _picture(source: Source, own: list[Sample], view: AnswerView, uploads: Uploads, port: int) -> None:
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
        buttons = gr.HTML(samples.as_html(own, form="picture"), js_on_load=CLICK_SAMPLE_JS, apply_default_css=False)
    result = _result()

    def changed(value: dict[str, Any] | None, request: gr.Request) -> Iterator[tuple[Any, Any]]:
        if not value or not value.get("path"):
            yield gr.skip(), gr.skip()
            return
        try:
            raw = uploads.read(value["path"], session_of(request.cookies, port))
        except FlowermlError as error:
            yield None, render.problem(str(error))
            return
        reason = refusals.of_file(raw)
        if reason is not None:
            yield None, render.problem(reason)  # a browser cannot show it either
            return
        for html in view.html(source, raw):
            yield gr.skip(), html

    def picked(event: gr.EventData) -> tuple[Any, Any]:
        if getattr(event, "index", None) == TOO_LARGE:
            return None, render.problem(refusals.of_size(MAX_PICTURE_BYTES))
        return _picked(own, event), gr.skip()

    # preprocess=False and postprocess=False: a picture's path is a key of `uploads`, which Gradio would open as a file.
    options: dict[str, Any] = {"preprocess": False, "postprocess": False, "api_visibility": "private"}
    picture.change(changed, picture, [picture, result], show_progress="minimal", show_progress_on=result, **options)
    picture.clear(lambda: render.waiting(HINT), None, result, api_visibility="private", show_progress="hidden")
    buttons.click(picked, None, [picture, result], show_progress="hidden", **options)


def _text(source: Source, own: list[Sample], view: AnswerView) -> None:
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
        buttons = gr.HTML(samples.as_html(own, form="text"), js_on_load=CLICK_SAMPLE_JS, apply_default_css=False)
    result = _result()

    def submitted(value: str | None) -> Iterator[str]:
        if not value or not value.strip():
            yield render.waiting("Enter a text first.")
        else:
            yield from view.html(source, value)

    def example(event: gr.EventData) -> Any:
        return _picked(own, event)

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
    picked = buttons.click(example, None, text, api_visibility="private", show_progress="hidden")
    picked.then(None, js=ASK_JS)
    clear.click(None, cancels=asked)
    clear.click(lambda: ("", render.waiting(HINT)), None, [text, result], api_visibility="private")


def _result() -> gr.HTML:
    with gr.Column(elem_classes="card", min_width=320):
        return gr.HTML(render.waiting(HINT), elem_classes="result", js_on_load=SHOW_ANSWER_JS, apply_default_css=False)


def _picked(own: list[Sample], event: gr.EventData) -> Any:
    """Return the value of the example that was clicked."""
    index = getattr(event, "index", None)
    return own[index].value if isinstance(index, int) and index < len(own) else gr.skip()
