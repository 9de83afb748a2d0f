"""MLflow's SQLite database: created whole or not at all, and repaired after a kill.

MLflow itself runs some seventy migrations in the file under its final name, without a lock: two commands at once, or a
kill half-way, leave a database that it can neither use nor mend.
"""

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from flowerml.core.errors import FlowermlError
from flowerml.core.locks import hold_lock
from flowerml.tracking.mirror import notify

# Seconds. All of MLflow's migrations take 1.5 s; a file that does not change for so long is nobody's work in progress.
QUIET = 5.0
BUSY = 120.0  # that another process may hold SQLite's lock
SIDE_FILES = ("-journal", "-wal", "-shm")
TEMPORARY = "_alembic_tmp_"  # a table that a migration was rewriting


def sqlite_path(uri: str) -> Path | None:
    """Return the file of a SQLite URI, as SQLAlchemy decodes it; None for any other store.

    >>> sqlite_path("sqlite:////srv/a%2525/mlflow.db")
    PosixPath('/srv/a%25/mlflow.db')
    """
    if not uri.startswith("sqlite:"):
        return None
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        database = make_url(uri).database or ""
    except (ArgumentError, ValueError):
        return None
    return None if database in ("", ":memory:") or database.startswith("file:") else Path(database)


def sqlite_uri(path: Path) -> str:
    """Return the SQLite URI of a file, which SQLAlchemy decodes.

    Where something is encoded, the slashes are too: MLflow creates the folders that it sees in the encoded path.

    >>> sqlite_uri(Path("/srv/a b/mlflow.db")), sqlite_uri(Path("/srv/a%2Fb/mlflow.db"))
    ('sqlite:////srv/a b/mlflow.db', 'sqlite:///%2Fsrv%2Fa%252Fb%2Fmlflow.db')
    """
    text = path.as_posix()
    return "sqlite:///" + (quote(text, safe="") if "%" in text or "?" in text else text)


def prepare(uri: str) -> None:
    """Create the database of a SQLite URI where it is missing, and repair it where a kill left it half-made.

    Of a database with content, a copy is kept first. Raises FlowermlError, with the remedy, for one beyond repair.
    """
    path = sqlite_path(uri)
    if path is None or _is_ready(path):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(f"{path.name}.lock")
    with hold_lock(lock, waiting=f"{path}: another process is creating this database; waiting for it to finish"):
        if _is_ready(path):
            return
        if path.exists() and path.stat().st_size:
            _wait_until_quiet(path)
        if not _is_ready(path):
            _create(path) if _is_missing(path) else _repair(path)


def _is_missing(path: Path) -> bool:
    return not path.exists() or path.stat().st_size == 0


def _is_ready(path: Path) -> bool:
    """Return whether MLflow can use the file as it is, or must refuse it itself (too old or too new as a whole)."""
    if _is_missing(path):
        return False
    with _reading(path) as database:
        tables = _tables(database)
        if any(table.startswith(TEMPORARY) for table in tables) or not expected_tables() <= tables:
            return False
        return _count(database, "experiments") > 0 or _revision(database) == _head()


def _create(path: Path) -> None:
    """Create the database beside its place, and move it there whole."""
    new = path.with_name(f"{path.name}.new")
    _remove(new)
    try:
        _migrate(new)
        _flush(new)
        _place(new, path)
    finally:
        _remove(new)


def _place(new: Path, path: Path) -> None:
    # A journal of a database that was deleted would be applied to this one.
    for suffix in SIDE_FILES:
        with suppress(FileNotFoundError):
            _beside(path, suffix).rename(_unused(path, f"broken{suffix}"))
    if path.exists():
        new.replace(path)  # it is empty
        return
    try:
        os.link(new, path)  # unlike a rename it fails where a bare `mlflow` was faster
    except FileExistsError:
        pass
    except OSError:
        new.replace(path)  # a file system without links


def _repair(path: Path) -> None:
    """Replace the content of a half-made database, in one transaction under SQLite's own lock.

    So no other process sees or writes anything between, not even one that has the file open: renaming would leave it
    with the former file.
    """
    new = path.with_name(f"{path.name}.new")
    _remove(new)
    try:
        with _exclusive(path) as database:
            tables = _tables(database)
            if foreign := tables - _known_tables() - {table for table in tables if table.startswith(TEMPORARY)}:
                raise FlowermlError(
                    f"{path} is not a database of MLflow's (it has the table {min(foreign)!r}); set MLFLOW_TRACKING_URI"
                )
            has_content = "experiments" in tables and _count(database, "experiments") > 0
            kept = _unused(path, "backup" if has_content else "broken")
            _copy(database, kept)
            if has_content:
                _copy(database, new)
                _migrate_copy(path, new, kept)
            else:
                _migrate(new)
            with closing(sqlite3.connect(new)) as source:
                source.backup(database)
    finally:
        _remove(new)
    notify(f"{path}: it was left half-made by a process that was killed; repaired, and the former file is {kept}")


def _migrate_copy(path: Path, new: Path, kept: Path) -> None:
    """Bring a copy to MLflow's current schema. Raises FlowermlError where anything would be lost."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    with closing(sqlite3.connect(new)) as database:
        tables = _tables(database)
        rewritten = {table for table in tables if table.startswith(TEMPORARY)}
        before = {table: _count(database, table) for table in tables - rewritten}
        for table in rewritten:
            # The rewritten table is dropped only after all of its rows are copied, in one transaction with the copy.
            if table.removeprefix(TEMPORARY) in tables:
                database.execute(f'DROP TABLE "{table}"')
        database.commit()
    reason = "rows are missing after the migration"
    try:
        _migrate(new)
        with closing(sqlite3.connect(new)) as database:
            after = {table: _count(database, table) for table in _tables(database)}
            is_whole = database.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        if is_whole and all(after.get(table, 0) >= count for table, count in before.items() if table in after):
            return
    except (MlflowException, SQLAlchemyError, sqlite3.Error) as error:
        reason = str(error).partition("\n")[0][:200]
    kept.unlink()
    raise FlowermlError(
        f"{path}: a migration of this database was killed half-way and cannot be completed ({reason}); restore a "
        "backup of the file, or move it away to start with an empty one"
    )


def _migrate(path: Path) -> None:
    """Have MLflow create or upgrade the database, with its default experiment."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    # Absolute: MLflow keeps an engine for each URI, which stays in the folder that it was first used in.
    store = SqlAlchemyStore(sqlite_uri(path.resolve()), "./mlruns")
    store.engine.dispose()


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    try:
        # Not mode=ro, which cannot roll back what a killed process left in the journal.
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=rw", uri=True, timeout=BUSY)) as database:
            yield database
    except sqlite3.OperationalError as error:
        if "locked" not in str(error):
            raise  # an error of the system: a full disk, no permission
        raise FlowermlError(
            f"{path}: another process has kept this database locked for {BUSY:g} s; end it first"
        ) from error
    except sqlite3.DatabaseError as error:
        raise FlowermlError(
            f"{path}: expected a SQLite database of MLflow's, found a damaged file or another kind ({error}); restore "
            "a backup, or move the file away to start with an empty one"
        ) from error


@contextmanager
def _exclusive(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a database and keep it locked, also between transactions, until the block ends."""
    with _reading(path) as database:
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("BEGIN EXCLUSIVE")
        database.commit()
        yield database


def _wait_until_quiet(path: Path) -> None:
    """Wait until nobody has changed the file for QUIET seconds: `mlflow ui` may be creating it."""
    last: Any = None
    since = time.monotonic()
    while time.monotonic() - since < QUIET and not _is_ready(path):
        stat = path.stat()
        if (state := (stat.st_mtime_ns, stat.st_size)) != last:
            last, since = state, time.monotonic()
        time.sleep(0.1)


def _tables(database: sqlite3.Connection) -> set[str]:
    rows = database.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
    return {name for (name,) in rows}


def _count(database: sqlite3.Connection, table: str) -> int:
    return int(database.execute(f'SELECT count(*) FROM "{table}"').fetchone()[0])


def _revision(database: sqlite3.Connection) -> str | None:
    if "alembic_version" not in _tables(database):
        return None
    row = database.execute("SELECT version_num FROM alembic_version").fetchone()
    return row and str(row[0])


def expected_tables() -> set[str]:
    """Return the tables of MLflow's current schema."""
    import mlflow.store.db.utils  # noqa: F401, which imports all models
    from mlflow.store.db.base_sql_model import Base

    return set(Base.metadata.tables)


def _known_tables() -> set[str]:
    """Return the tables of MLflow's current, first and intermediate schemas."""
    from mlflow.store.tracking.dbmodels.initial_models import Base

    return expected_tables() | set(Base.metadata.tables) | {"alembic_version"}


def _head() -> str | None:
    import mlflow
    from alembic.script import ScriptDirectory

    return ScriptDirectory(str(Path(mlflow.__file__).parent / "store/db_migrations")).get_current_head()


def _copy(database: sqlite3.Connection, target: Path) -> None:
    with closing(sqlite3.connect(target)) as copy:
        database.backup(copy)


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _unused(path: Path, word: str) -> Path:
    """Return a name beside `path` that no file has."""
    names = (
        f"{path.name}.{word}-{time.strftime('%Y%m%d-%H%M%S')}{more}"
        for more in ("", *map("-{}".format, range(1, 1000)))
    )
    return next(free for name in names if not (free := path.with_name(name)).exists())


def _remove(path: Path) -> None:
    for name in (path, *(_beside(path, suffix) for suffix in SIDE_FILES)):
        name.unlink(missing_ok=True)
