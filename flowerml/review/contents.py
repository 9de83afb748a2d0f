"""The inputs of the cards, copied once into a temporary file, so that a page of pictures does not fill the memory.

Not read from the example table on demand: to reach a row Parquet decodes those before it in its group, up to 0.2 s.
"""

import os
import tempfile
from collections.abc import Iterable

from flowerml.core.errors import InputError
from flowerml.data.examples import Example
from flowerml.tasks.base import Task


class Contents:
    """The raw inputs of some examples by id, in a file that has no name and ends with the process."""

    def __init__(self, task: Task, examples: Iterable[Example]) -> None:
        self._task = task
        self._file = tempfile.TemporaryFile(prefix="flowerml-")  # noqa: SIM115 (open as long as this object)
        self._places: dict[str, tuple[int, int]] = {}
        for example in examples:
            raw = example.raw.encode() if isinstance(example.raw, str) else example.raw
            self._places[example.id] = (self._file.tell(), len(raw))
            self._file.write(raw)
        self._file.flush()

    def view(self, id: str) -> bytes | str | None:
        """Return a large preview of an example, a JPEG or a text; None where it cannot be read."""
        if id not in self._places:
            return None
        start, size = self._places[id]
        raw = os.pread(self._file.fileno(), size, start)  # several threads read at once
        try:
            return self._task.preview(raw.decode() if self._task.RAW is str else raw, large=True)
        except InputError:
            return None

    def close(self) -> None:
        """Delete the file."""
        self._file.close()
