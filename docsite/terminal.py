"""Run commands in a terminal of their own, and keep what its screen showed and when."""

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import pyte

PROMPT = "$ "
FRAME = 0.15  # seconds between two looks at the screen
LONGEST_WAIT = 1.0  # seconds without a change that are shown


@dataclass(frozen=True)
class Run:
    """Neighbouring characters of one style, from a column on."""

    column: int
    text: str
    color: str
    bold: bool


Line = tuple[Run, ...]


@dataclass(frozen=True)
class Frame:
    """What the screen shows from a time on, in seconds since the beginning."""

    time: float
    lines: tuple[Line, ...]


def record(
    commands: Sequence[str], *, folder: Path, environment: Mapping[str, str], columns: int, rows: int
) -> list[Frame]:
    """Return the frames of a terminal in which the commands are run one after the other, as a person would.

    Long waits are cut to a second; everything else is as it was. Raises CalledProcessError where a command fails.
    """
    screen = pyte.Screen(columns, rows)
    stream = pyte.ByteStream(screen)
    frames: list[Frame] = []
    shown, seen = 0.0, time.monotonic()

    def look() -> None:
        nonlocal shown, seen
        now = time.monotonic()
        lines = tuple(_line(screen, row) for row in range(rows))
        if not frames or lines != frames[-1].lines:
            shown += min(now - seen, LONGEST_WAIT)
            frames.append(Frame(shown, lines))
            seen = now

    for command in commands:
        stream.feed(PROMPT.encode())
        look()
        time.sleep(FRAME)
        stream.feed(command.encode() + b"\r\n")
        look()
        for output in _outputs(command, folder=folder, environment=environment, columns=columns, rows=rows):
            stream.feed(output)
            look()
    return frames


def _outputs(command: str, *, folder: Path, environment: Mapping[str, str], columns: int, rows: int) -> Iterator[bytes]:
    """Yield what the command writes to its terminal, at most once a frame."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    with subprocess.Popen(
        ["sh", "-c", command],
        cwd=folder,
        env=dict(environment),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        close_fds=True,
    ) as process:
        os.close(theirs)
        pending, looked, ended = b"", time.monotonic(), False
        while not ended:
            ready = select.select([ours], [], [], FRAME)[0]
            chunk = _read(ours) if ready else b""
            ended = bool(ready) and not chunk
            pending += chunk
            if pending and time.monotonic() - looked >= FRAME:
                yield pending
                pending, looked = b"", time.monotonic()
        yield pending
    os.close(ours)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)


def _read(terminal: int) -> bytes:
    """Return the next bytes; none at the end, which Linux reports as an error of the terminal."""
    try:
        return os.read(terminal, 65536)
    except OSError:
        return b""


def _line(screen: pyte.Screen, row: int) -> Line:
    """Return a row of the screen as runs of one style, without the blanks at its end."""
    cells = [screen.buffer[row][column] for column in range(screen.columns)]
    runs: list[Run] = []
    for (color, bold), group in groupby(enumerate(cells), lambda item: (item[1].fg, item[1].bold)):
        characters = list(group)
        text = "".join(cell.data for _, cell in characters).rstrip()
        if text.strip():
            indent = len(text) - len(text.lstrip())
            runs.append(Run(characters[0][0] + indent, text[indent:], color, bold))
    return tuple(runs)
