"""Gradio's server with everything off that leaves this machine or that the page does not use."""

import os
from pathlib import Path

import gradio as gr
from starlette.middleware import Middleware

from flowerml.web.guard import Guard
from flowerml.web.page import HERE, MAX_PICTURE_BYTES, AnswerView, build
from flowerml.web.sources import Source

FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")
MONOSPACE = ("ui-monospace", "Consolas", "monospace")


def serve(sources: list[Source], *, host: str, port: int, top_k: int, unsure: float | None, folder: Path) -> gr.Blocks:
    """Return the page of these models, which is served in a thread of its own."""
    page = build(sources, AnswerView(top_k, unsure), folder)
    _bypass_proxies(host)
    page.launch(
        server_name=f"[{host}]" if ":" in host else host,
        server_port=port,
        prevent_thread_lock=True,
        quiet=True,
        share=False,
        inline=False,
        show_error=False,
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        mcp_server=False,
        ssr_mode=False,
        pwa=False,
        max_file_size=MAX_PICTURE_BYTES,
        state_session_capacity=200,
        app_kwargs={"middleware": [Middleware(Guard)]},
        theme=_theme(),
        css_paths=HERE / "page.css",
        head=f"<script>{(HERE / 'page.js').read_text(encoding='utf-8')}</script>",
    )
    return page


def _theme() -> gr.themes.Base:
    return gr.themes.Base(
        primary_hue="emerald", neutral_hue="stone", radius_size="lg", font=list(FONTS), font_mono=list(MONOSPACE)
    )


def _bypass_proxies(host: str) -> None:
    """Exempt this host from proxies: Gradio asks its own server whether it is up, and would use a proxy for it."""
    for name in ("no_proxy", "NO_PROXY"):
        hosts = [entry for entry in os.environ.get(name, "").split(",") if entry]
        os.environ[name] = ",".join(dict.fromkeys([*hosts, "127.0.0.1", "localhost", host]))
