"""The page in the browser: enter a picture or a text, and see how the models classify it, and why."""

import contextlib
import importlib.util
import os
import signal
import socket
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flowerml.core.errors import FlowermlError

if TYPE_CHECKING:
    import gradio as gr

__all__ = ["Page", "launch"]

TOP_K = 5
TIMEOUT = 20.0
"""Seconds a served model has to answer."""


@dataclass(frozen=True)
class Page:
    """A running page."""

    url: str
    blocks: "gr.Blocks"
    files: "tempfile.TemporaryDirectory[str]"

    def close(self) -> None:
        """Stop serving and delete the uploads."""
        self.blocks.close(verbose=False)
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
) -> Page:
    """Serve a page that asks saved classifiers (their folders) and served ones (image=URL, text=URL, or a URL alone).

    Below the probability `unsure` the page says "Not sure"; with None the model decides (see `Answer.is_unsure`).
    Served models have `timeout` seconds to answer. With `block` the call returns on Ctrl-C or SIGTERM. Raises
    FlowermlError where there is nothing to show, Gradio is missing, or the port is taken, and ModelError for a folder
    without a classifier and for an invalid address.
    """
    if importlib.util.find_spec("gradio") is None:
        raise FlowermlError("the page needs Gradio, which is not installed; run: pip install 'flowerml[web]'")
    host = host.strip("[]")
    _check_free(host, port)
    from flowerml.web import sources

    loaded = sources.load(models, endpoints, timeout=timeout)
    files = tempfile.TemporaryDirectory(prefix="flowerml-web-")
    uploads = Path(files.name, "uploads")
    # Gradio reads these when it is imported. It deletes old files in its own folder, hence `uploads`.
    os.environ.update(GRADIO_ANALYTICS_ENABLED="False", HF_HUB_DISABLE_TELEMETRY="1", GRADIO_TEMP_DIR=str(uploads))
    from flowerml.web import server

    with contextlib.ExitStack() as failing:
        failing.callback(files.cleanup)
        blocks = server.serve(loaded, host=host, port=port, top_k=top_k, unsure=unsure, folder=Path(files.name))
        failing.pop_all()
    page = Page(str(blocks.local_url), blocks, files)
    if block:
        print(f"the page is at {page.url} (Ctrl-C stops it)", flush=True)
        _wait()
        page.close()
    return page


def _check_free(host: str, port: int) -> None:
    """Raise FlowermlError where the port is not free. Gradio checks only 127.0.0.1, and waits for seconds."""
    if not 1 <= port <= 65535:
        raise FlowermlError(f"expected a port from 1 to 65535, found {port}")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise FlowermlError(
            f"the page cannot be served at {host}, port {port} ({reason}); choose another address or port"
        ) from None


def _wait() -> None:
    """Wait for Ctrl-C, or for SIGTERM in the main thread, where alone it can be caught."""
    stopped = threading.Event()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    with contextlib.suppress(KeyboardInterrupt):
        stopped.wait()
