"""The artifacts of a project that was moved or copied with its SQLite database.

MLflow records where artifacts lie as absolute paths. So a moved project would lose its models, and a copy would read
those of the original, and write into it. MLflow 3.17 makes relative locations absolute when it creates an experiment,
so they cannot be recorded otherwise; the rows are rewritten where the database is found in another folder.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from flowerml.core import os_errors
from flowerml.core.errors import FlowermlError
from flowerml.tracking.mirror import notify

FOLDER = "mlruns"  # MLflow's default, beside the database
BUSY = 120.0  # seconds that another process may hold SQLite's lock
COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


@dataclass(frozen=True)
class Row:
    """A recorded location that is not in the folder beside the database; `path` is its path below `root`/mlruns.

    `number` is SQLite's own of the row: no index has the locations, and a search has thousands of runs.
    """

    table: str
    column: str
    number: int
    root: Path
    path: Path

    @classmethod
    def of(cls, table: str, column: str, number: int, value: str) -> "Row | None":
        """Return a location in a folder of MLflow's default name; None for one that a person chose, and for a URL."""
        location = local_path(value)
        if location is None:
            return None
        folders = [folder for folder in location.parents if folder.name == FOLDER]
        return cls(table, column, number, folders[0].parent, location.relative_to(folders[0])) if folders else None


def mend(database: Path) -> None:
    """Point the locations in a SQLite database at the folder mlruns beside it, where it was moved or copied here.

    Those are left alone whose files are only in the former place, and those of a folder that somebody runs commands in
    with this database. All are changed or none. Raises FlowermlError where the database cannot be used.
    """
    try:
        with closing(sqlite3.connect(database, timeout=BUSY, isolation_level=None)) as connection:
            if not _outdated(connection, database):
                return
            connection.execute("BEGIN IMMEDIATE")
            rows = _outdated(connection, database)  # another process may have mended it
            for row in rows:
                new = location_of(database.resolve().parent / FOLDER / row.path)
                update = f'UPDATE "{row.table}" SET "{row.column}" = ? WHERE rowid = ?'
                connection.execute(update, (new, row.number))
            connection.execute("COMMIT")
    except sqlite3.OperationalError as error:
        _report_failure(database, error)
        return
    for root in sorted({row.root for row in rows}):
        was = "copied" if _exists(root / database.name) else "moved"
        here = database.resolve().parent / FOLDER
        notify(f"{database}: {was} here from {root}; its artifacts are now looked up in {here}")


def local_path(location: str) -> Path | None:
    """Return the path of a location, as MLflow decodes it; None for one that is not on this machine.

    >>> local_path("/srv/mlruns/1"), local_path("file:///srv/a%20b/mlruns/1"), local_path("s3://bucket/1")
    (PosixPath('/srv/mlruns/1'), PosixPath('/srv/a b/mlruns/1'), None)
    """
    if location.startswith("/"):
        return Path(unquote(location))
    parts = urlsplit(location)
    return Path(unquote(parts.path)) if parts.scheme == "file" and parts.netloc in ("", "localhost") else None


def location_of(path: Path) -> str:
    """Return a path as MLflow records it; as a URL where it would decode the path itself.

    >>> location_of(Path("/srv/a b")), location_of(Path("/srv/a%41"))
    ('/srv/a b', 'file:///srv/a%2541')
    """
    return path.as_uri() if any(character in str(path) for character in "%?#") else str(path)


def _outdated(connection: sqlite3.Connection, database: Path) -> list[Row]:
    """Return the rows to rewrite."""
    here = database.resolve().parent
    homes = [location_of(here / FOLDER) + "/", (here / FOLDER).as_uri() + "/", f"{here / FOLDER}/"]
    rows = [row for table, column in COLUMNS for row in _elsewhere(connection, table, column, homes)]
    known = {root: _left(root, database) for root in {row.root for row in rows}}
    return [row for row in rows if _is_outdated(row, here / FOLDER / row.path, left=known[row.root])]


def _elsewhere(connection: sqlite3.Connection, table: str, column: str, homes: list[str]) -> Iterator[Row]:
    """Yield the recorded locations below another folder of MLflow's default name than the one beside the database."""
    outside = " AND ".join(f'substr("{column}", 1, {len(home)}) != ?' for home in homes)
    query = f'SELECT rowid, "{column}" FROM "{table}" WHERE "{column}" LIKE \'%/{FOLDER}/%\' AND {outside}'
    for number, value in connection.execute(query, homes):
        if row := Row.of(table, column, number, value):
            yield row


def _left(root: Path, database: Path) -> bool | None:
    """Return whether the project has left a folder: it has no artifacts any more, or a database of its own.

    None where it is this folder by another name, such as a link's.
    """
    here = database.resolve().parent
    try:
        if _is_same(root, here) or _is_same(root / FOLDER, here / FOLDER):
            return None
        own = root / database.name
        return not (root / FOLDER).exists() or (own.exists() and not own.samefile(database))
    except PermissionError:  # in somebody else's home: what cannot be read is as good as gone
        return True


def _is_same(first: Path, second: Path) -> bool:
    return first.exists() and second.exists() and first.samefile(second)


def _is_outdated(row: Row, new: Path, *, left: bool | None) -> bool:
    if left is None:
        return False
    if new.exists():
        return True
    # Where new artifacts go: never into another project. And what lies nowhere is looked up here.
    return left and (row.table == "experiments" or not _exists(row.root / FOLDER / row.path))


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except PermissionError:
        return False


def _report_failure(database: Path, error: sqlite3.OperationalError) -> None:
    """Go on with a database that may only be read, as its runs and versions can be; raise an error for any other."""
    if line := os_errors.explain_full_disk(error):
        raise FlowermlError(f"sqlite:///{database.resolve()}: {line}") from error
    if "readonly" not in str(error):
        raise FlowermlError(f"{database}: {error}; its artifacts were not looked up anew") from error
    notify(
        f"warning: {database}: moved or copied here, and not writable, so its artifacts are still looked up where they "
        "were; make it writable, or copy it to a folder that is"
    )
