"""The access log: a line of JSON for each request, never its inputs, nor its query.

    {"time": "2026-11-29T06:48:09.223Z", "id": "d2b1382da74eee1d", "method": "POST", "path": "/predict", "status": 200,
     "ms": 3.82, "items": 1, "model": "flowers", "version": "3", "received": 25, "sent": 618}

`id` is the header X-Request-ID of the answer; `received` and `sent` are bytes of bodies. A status of 499 stands for a
client that did not wait for its answer.
"""

import json
import logging
import time
from functools import lru_cache

from flowerml.core.display import printable
from flowerml.server.context import Context

LOGGER = "flowerml.access"
MAX_PATH = 200

_logger = logging.getLogger(LOGGER)


def write(context: Context, seconds: float) -> None:
    """Write the line of a request that took so many seconds."""
    if _logger.isEnabledFor(logging.INFO):
        # Not `_logger.info`, which looks for the line of code that called it: a quarter of the time of a line.
        _logger.handle(logging.LogRecord(LOGGER, logging.INFO, __file__, 0, line(context, seconds), None, None))


def line(context: Context, seconds: float) -> str:
    """Return the line of a request."""
    now = time.time()
    texts = (context.id, context.method, context.path, context.model, context.version)
    identity, method, path, model, version = map(_quoted, texts)
    return (
        f'{{"time": "{_second(int(now))}.{int(now % 1 * 1000):03}Z", "id": {identity}, "method": {method}, '
        f'"path": {path}, "status": {context.status}, "ms": {1000 * seconds:.2f}, "items": {context.items}, '
        f'"model": {model}, "version": {version}, "received": {context.received}, "sent": {context.sent}}}'
    )


@lru_cache(2)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def _quoted(text: str | None) -> str:
    if text is None:
        return "null"
    return json.dumps(text if len(text) <= MAX_PATH and text.isprintable() else printable(text, MAX_PATH))
