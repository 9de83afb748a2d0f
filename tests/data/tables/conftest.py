"""Tables written and read in the tests of this folder."""

from collections.abc import Callable
from pathlib import Path

import pytest

from flowerml.data.archives import ArchiveLimits
from flowerml.data.tables import Column, Table, open_table, table_file

COLUMNS = [Column("text", "text", "--text"), Column("label", "label", "--label", lonely=True)]


@pytest.fixture
def opened(tmp_path) -> Callable[..., Table]:
    """Return a function that writes bytes as a file of this name, and opens it as a table."""

    def opened(name: str, content: bytes, columns: list[Column] = COLUMNS) -> Table:
        path = Path(tmp_path, name)
        path.write_bytes(content)
        return open_table(table_file(path, ArchiveLimits()), columns)

    return opened


def pairs(table: Table) -> list[tuple[str | bytes | None, ...]]:
    """Return (text, label) of each usable row."""
    return [tuple(record.values.values()) for record in table.records() if record.problem is None]
