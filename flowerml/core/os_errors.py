"""Errors of the operating system and of the tracking server, as one line with a remedy."""

import errno
import os
import re

from flowerml.core.display import one_line

REMEDIES = {
    errno.ENOSPC: "make room on the disk, then re-run the command",
    errno.EDQUOT: "make room within your quota, then re-run the command",
    errno.EFBIG: "allow larger files (ulimit -f), then re-run the command",
    errno.EACCES: "check that you may write there, then re-run the command",
    errno.EPERM: "check that you may write there, then re-run the command",
    errno.EROFS: "work in another folder",
    errno.ENOTDIR: "expected a folder, found a file; move the file away",
    errno.EEXIST: "expected a folder, found a file; move the file away",
    errno.EISDIR: "expected a file, found a folder; move the folder away",
    errno.EMFILE: "allow more open files (ulimit -n), then re-run the command",
    errno.ENOMEM: "free some memory, then re-run the command",
    errno.EIO: "check the disk",
}
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# Databases and Rust libraries give only the text and the number of a system error.
MESSAGES = {
    "database or disk is full": errno.ENOSPC,
    "attempt to write a readonly database": errno.EACCES,
    "unable to open database file": errno.EACCES,
    "disk I/O error": errno.EIO,
}
# What SQLAlchemy puts before a database's own words.
AUTOFLUSH = (
    "(raised as a result of Query-invoked autoflush; consider using a session.no_autoflush block if this flush is "
    "occurring prematurely)\n"
)


def explain_os_error(error: BaseException) -> str | None:
    """Return one line for an error of the system or of the tracking server: the file, the error and the remedy.

    Returns None for any other error, which is a bug.

    >>> explain_os_error(OSError(errno.EIO, "Input/output error", "numbers.json"))
    'numbers.json: Input/output error; check the disk'
    """
    number = _error_number(error)
    if number in REMEDIES:
        name = getattr(error, "filename", None)
        where = f"{os.fsdecode(name)}: " if isinstance(name, str | bytes | os.PathLike) else ""
        source = "" if isinstance(error, OSError) else f" ({reason(error)})"
        return f"{where}{os.strerror(number)}{source}; {REMEDIES[number]}"
    if type(error).__module__ == "mlflow.exceptions" and "API request to" in str(error):
        return f"MLflow is not responding: {one_line(error, 300)}; re-run the command when it is back"
    return None


def explain_full_disk(error: BaseException) -> str | None:
    """Return the line of `explain_os_error` if there is no room for what was to be written, else None.

    >>> explain_full_disk(RuntimeError("(sqlite3.OperationalError) database or disk is full [SQL: INSERT INTO runs]"))
    'No space left on device ((sqlite3.OperationalError) database or disk is full); make room on the disk, then re-run \
the command'
    """
    return explain_os_error(error) if _error_number(error) in NO_ROOM else None


def reason(error: BaseException) -> str:
    """Return an error's text as one short line, without the SQL statement and its values that SQLAlchemy adds."""
    return one_line(str(error).replace(AUTOFLUSH, "").partition("[SQL:")[0], 300)


def _error_number(error: BaseException) -> int:
    """Return the errno of an error, 0 where there is none."""
    if isinstance(error, OSError) and error.errno:
        return error.errno
    text = str(error)
    if match := re.search(r"os error (\d+)|\[[Ee]rrno (\d+)\]", text):
        return int(match[1] or match[2])
    return next((number for message, number in MESSAGES.items() if message in text), 0)
