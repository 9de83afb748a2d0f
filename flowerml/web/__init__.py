"""The page in the browser: enter a picture or a text, and see how the models classify it, and why."""

import contextlib
import importlib.util
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flowerml.core.errors import FlowermlError
from flowerml.web.listening import listen, url_of, wait

if TYPE_CHECKING:
    from flowerml.web.server import Server

__all__ = ["Page", "launch"]

TOP_K = 5
TIMEOUT = 20.0
"""Seconds a served model has to answer."""


@dataclass(frozen=True)
class Page:
    """A running page."""

    url: str
    server: "Server"
    files: "tempfile.TemporaryDirectory[str]"

    def close(self) -> None:
        """Stop serving, and forget the uploads."""
        self.server.close()
        os.environ.pop("GRADIO_TEMP_DIR", None)
        self.files.cleanup()


def launch(
    *,
    models: Sequence[str | Path],
    endpoints: Sequence[str],
    host: str = "127.0.0.1",
    port: int = 7860,
    block: bool = True,
    top_k: int = TOP_K,
    unsure: float | None = None,
    timeout: float = TIMEOUT,
    allowed_hosts: Sequence[str] = (),
) -> Page:
    """Serve a page that asks saved classifiers (their folders) and served ones (image=URL, text=URL, or a URL alone).

    Below the probability `unsure` the page says "Not sure"; with None the model decides (see `Answer.is_unsure`).
    Served models have `timeout` seconds to answer. The page answers to loopback names, to the address it is asked at,
    and to `allowed_hosts`: names by which others reach it, with or without a port. With `block` the call returns on
    Ctrl-C or SIGTERM. Raises FlowermlError where there is nothing to show, Gradio is missing, a name is invalid, or the
    port is taken, and ModelError for a folder without a classifier and for an invalid address.
    """
    if importlib.util.find_spec("gradio") is None:
        raise FlowermlError("the page needs Gradio, which is not installed; run: pip install 'flowerml[web]'")
    host = host.strip("[]")
    from flowerml.web import sources

    with contextlib.ExitStack() as failing:
        listening = failing.enter_context(listen(host, port, what="the page"))
        loaded = sources.load(models, endpoints, timeout=timeout)
        files = tempfile.TemporaryDirectory(prefix="flowerml-web-")
        failing.callback(files.cleanup)
        # Gradio reads these when it is imported. It makes a folder for its files, in which this page puts none.
        os.environ.update(GRADIO_ANALYTICS_ENABLED="False", HF_HUB_DISABLE_TELEMETRY="1", GRADIO_TEMP_DIR=files.name)
        from flowerml.web import server

        running = server.serve(loaded, listening, host=host, top_k=top_k, unsure=unsure, allowed_hosts=allowed_hosts)
        failing.pop_all()
    page = Page(url_of(host, port), running, files)
    if block:
        print(f"the page is at {page.url} (Ctrl-C stops it)", flush=True)
        wait()
        page.close()
    return page
