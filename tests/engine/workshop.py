"""What the tests of the executors run in their workers."""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from flowerml.core.errors import FlowermlError, InputError
from flowerml.engine.executors.sharing import Shared


class Workshop:
    """An object with state, faults and ways to die."""

    def __init__(self, start: int = 0) -> None:
        if start < 0:
            raise FlowermlError("expected a start from 0")
        self.total = start

    def add(self, number: int) -> int:
        """Return the sum so far."""
        self.total += number
        return self.total

    def square(self, number: int) -> int:
        """Return a number's square, later for even ones."""
        time.sleep(0.02 * (number % 2 == 0))
        return number * number

    def echo(self, value: Any) -> Any:
        """Return what was sent."""
        return value

    def fail(self) -> None:
        """Raise an error with a cause, whose class takes other arguments than it keeps."""
        try:
            raise OSError(28, "No space left on device", "file.txt")
        except OSError as error:
            raise InputError("bad_input", "it is bad") from error

    def secret(self) -> Any:
        """Return what cannot be sent."""
        return lambda: 1

    def die(self, number: int) -> None:
        """End this process by a signal."""
        os.kill(os.getpid(), number)
        time.sleep(60)

    def sleep(self, seconds: float) -> None:
        """Do nothing for a while."""
        time.sleep(seconds)

    def pid(self) -> int:
        """Return the number of this process."""
        return os.getpid()

    def variable(self, name: str) -> str | None:
        """Return a variable of the environment."""
        return os.environ.get(name)

    def read(self, shared: Shared, name: str = "") -> tuple[str, str]:
        """Return where a shared thing lies, and the content of a file in it."""
        path = shared.path()
        return str(path), (path / name if name else path).read_text(encoding="utf-8")

    def speak(self, text: str) -> None:
        """Write to both streams."""
        print(text)
        print(text, file=sys.stderr)


class Mortal:
    """An object whose process ends once for each number."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def die_once(self, number: int) -> int:
        """End this process the first time that a number is seen; return it the second time."""
        try:
            (self.folder / str(number)).touch(exist_ok=False)
        except FileExistsError:
            return number
        os.kill(os.getpid(), signal.SIGKILL)
        return -1
