"""A closed or full stdout, closed before the start or in the middle, ends a command quietly."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

VERSION = (sys.executable, "-m", "flowerml", "--version")
TABLE = (sys.executable, "-c", "from flowerml.cli import output; output.table(('a',), [('b',)] * 9)")

# A command that prints without flushing, as the Python program that it is.
ANSWER = (
    sys.executable,
    "-c",
    "import sys; from flowerml import cli; from flowerml.cli import app, output; sys.argv = ['flowerml', 'answer']; "
    "app.app.command('answer')(lambda: output.json_line(1)); cli.main()",
)


def run(*command: str, shell: str = 'exec "$@"') -> tuple[int, str]:
    """Return the exit code and stderr of a command run by a shell line."""
    done = subprocess.run(["sh", "-c", shell, "sh", *command], capture_output=True, text=True, timeout=120)
    return done.returncode, done.stderr


# Typer itself ends with 1 where it was printing.
@pytest.mark.parametrize(("command", "code"), [(VERSION, 1), (TABLE, 141), (ANSWER, 141)])
def test_reader_that_ends(command, code):
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=120)
    os.close(writer)
    assert (done.returncode, done.stderr) == (code, "")


def test_stdout_closed_at_the_start():
    assert run(*VERSION, shell='exec "$@" >&-') == (0, "")


def test_all_streams_closed_at_the_start():
    assert run(*VERSION, shell='exec "$@" <&- >&- 2>&-') == (0, "")


def test_error_with_stdout_closed():
    code, message = run(sys.executable, "-m", "flowerml", "info", "nowhere", shell='exec "$@" >&-')
    assert code == 1
    assert message.startswith("error: nowhere: does not exist")


def test_no_file_takes_the_place_of_stdout():
    program = "import os; from flowerml.cli import streams; streams.open_closed(); os._exit(os.open('/dev/null', 0))"
    assert run(sys.executable, "-c", program, shell='exec "$@" <&- >&-')[0] == 3


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
def test_full_disk():
    code, message = run(*VERSION, shell='exec "$@" > /dev/full')
    assert code == 1
    assert message.startswith("error: ") and message.rstrip().endswith("No space left on device")
