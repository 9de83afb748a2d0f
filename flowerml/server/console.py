"""What a server prints: its access log on stdout, behind the back of the requests, and messages on stderr."""

import logging
import sys
import threading
from collections import deque
from typing import TextIO

from flowerml.server.access_log import LOGGER

MAX_LINES = 20_000
FLUSH_SECONDS = 0.2


class LineWriter(logging.Handler):
    """Writes log lines in a thread of its own: a terminal or a pipe that stands still would stop all requests.

    Not logging.handlers.QueueListener, which wakes a thread for every line: at 3,000 requests a second that takes more
    than the lines. Lines above MAX_LINES that wait are counted and left out.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self.stream = stream
        self.lines: deque[str] = deque()
        self.left_out = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="access log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Take a line."""
        if len(self.lines) < MAX_LINES:
            self.lines.append(record.getMessage())
        else:
            self.left_out += 1

    def close(self) -> None:
        """Write what is left, unless the stream stands still."""
        self._ended.set()
        self._thread.join(timeout=1.0)
        super().close()

    def _run(self) -> None:
        try:
            while not self._ended.wait(FLUSH_SECONDS):
                self._write()
            self._write()
        except (OSError, ValueError):  # nobody reads it any more: the stream is closed
            self.setLevel(logging.CRITICAL + 1)
            self.lines.clear()

    def _write(self) -> None:
        lines = [self.lines.popleft() for _ in range(len(self.lines))]
        if left_out := self.left_out:
            self.left_out -= left_out
            lines.append(f'{{"left_out": {left_out}}}')
        if lines:
            self.stream.write("\n".join(lines) + "\n")
            self.stream.flush()


def configure(*, access_log: bool) -> LineWriter | None:
    """Send the server's messages to stderr, and its access log, if asked for, to stdout."""
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s", level=logging.WARNING)
    logging.getLogger("flowerml").setLevel(logging.INFO)
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # a line for each broken form would flood the log
    logger = logging.getLogger(LOGGER)
    logger.propagate = False
    logger.setLevel(logging.INFO if access_log else logging.CRITICAL)
    if not access_log:
        return None
    handler = LineWriter(sys.stdout)
    logger.addHandler(handler)
    return handler
