"""What the system or a server refuses, in one line for a person."""

import errno
import os
import re

from flowerml.core.display import one_line

WHAT_TO_DO = {
    errno.ENOSPC: "make room on the disk, and say the same again",
    errno.EDQUOT: "make room within your quota, and say the same again",
    errno.EFBIG: "allow larger files (ulimit -f), and say the same again",
    errno.EACCES: "see that you may write there, and say the same again",
    errno.EPERM: "see that you may write there, and say the same again",
    errno.EROFS: "it cannot be written to; work in another folder",
    errno.ENOTDIR: "a file stands where a folder is expected; move it away",
    errno.EEXIST: "a file stands where a folder is expected; move it away",
    errno.EISDIR: "a folder stands where a file is expected; move it away",
    errno.EMFILE: "allow more open files (ulimit -n), and say the same again",
    errno.ENOMEM: "free some memory, and say the same again",
    errno.EIO: "look after the disk",
}
# Databases and Rust libraries know the system's errors by their words and numbers only.
WORDS = {
    "database or disk is full": errno.ENOSPC,
    "attempt to write a readonly database": errno.EACCES,
    "unable to open database file": errno.EACCES,
    "disk I/O error": errno.EIO,
}


def explain_os_error(error: BaseException) -> str | None:
    """One line for what the system or a tracking server refused: of what, what, and what to do.

    None for any other error, which is a bug.
    """
    number = _number(error)
    if number in WHAT_TO_DO:
        name = getattr(error, "filename", None)
        where = f"{os.fsdecode(name)}: " if isinstance(name, str | bytes | os.PathLike) else ""
        of = "" if isinstance(error, OSError) else f" ({one_line(error, 300)})"
        return f"{where}{os.strerror(number)}{of}; {WHAT_TO_DO[number]}"
    if type(error).__module__ == "mlflow.exceptions" and "API request to" in str(error):
        return f"MLflow is not answering: {one_line(error, 300)}; say the same again when it is back"
    return None


def _number(error: BaseException) -> int:
    """The system's number of an error, 0 where there is none."""
    if isinstance(error, OSError) and error.errno:
        return error.errno
    text = str(error)
    if found := re.search(r"os error (\d+)|\[[Ee]rrno (\d+)\]", text):
        return int(found[1] or found[2])
    return next((number for words, number in WORDS.items() if words in text), 0)
