"""Standard streams that are closed: by `>&-` before the start, or by `head` in the middle of the output."""

import os
import select
import sys

PIPE_CLOSED = 141  # what a shell reports for a program that SIGPIPE ended, such as cat
MODES = ("r", "w", "w")


def open_closed() -> None:
    """Open /dev/null for each closed standard stream; else the next file that is opened would take its place."""
    for number, mode in enumerate(MODES):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is this one
            stream = open(number, mode, closefd=False)  # noqa: SIM115
            setattr(sys, ("stdin", "stdout", "stderr")[number], stream)


def is_pipe_closed() -> bool:
    """Return whether nobody reads stdout any more."""
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), select.POLLOUT)
        return any(event & select.POLLERR for _, event in poll.poll(0))
    except (AttributeError, OSError, ValueError):  # no such call, or a stream in memory
        return False


def discard_stdout() -> None:
    """Send what is left in stdout's buffer nowhere: Python would complain of it on exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
