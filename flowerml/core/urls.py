"""URLs without their secrets, to be shown and recorded."""

import logging
import re
import sys
import traceback
from types import TracebackType

from flowerml.core.display import visible

# In a URL: all before the last @ in front of the path. A password that someone did not encode may hold / too, but not
# where digits follow the colon: http://host:80/a@b has no password.
# Lengths are bounded, as a search for each of many beginnings to the end of a long text would never end.
PASSWORD = re.compile(
    r"(?<=://)(?:[^\s/@:]{0,300}:(?!\d+/)[^\s@'\"<>]{0,300}(?:@[^\s/@?#'\"<>]{0,300}){0,9}|[^\s/?#'\"<>]{1,300})@"
)
QUERY = re.compile(r"^([a-z][a-z0-9+.-]*://[^?#]*)\?.*", re.DOTALL)
QUERY_IN_TEXT = re.compile(
    r"([a-z][a-z0-9+.-]{0,30}://[^\s?#'\"<>]{0,2000})\?[^\s'\"<>)\]]*[^\s'\"<>)\];:,.…]", re.IGNORECASE
)
# What signed addresses and APIs call their secrets. Messages of urllib3 quote paths without scheme and host.
SECRET = re.compile(
    r"((?<=[?&;])(?:[a-z_-]{0,40}(?:signature|credential|token|secret|api[_-]?key)|sig|key|access[_-]?key(?:_?id)?)"
    r"|(?<=[?&;\s])(?:password|passwd|pwd))=[^\s&'\"<>)\]]+",
    re.IGNORECASE,
)
BEARER = re.compile(r"\b(Bearer|Basic) [A-Za-z0-9._~+/=-]{8,}")


def without_password(address: str) -> str:
    """Return an address without its user and password.

    >>> without_password("https://me:secret@host/path")
    'https://host/path'
    """
    return PASSWORD.sub("", address)


def without_secrets(address: str) -> str:
    """Return an address as it may be recorded: without its query too, which may hold a token or a signature.

    >>> without_secrets("https://me:secret@host/data.zip?X-Amz-Signature=secret")
    'https://host/data.zip?…'
    """
    return QUERY.sub(r"\1?…", without_password(address))


def scrub(text: str) -> str:
    """Return text from anywhere (an error of a library, a log) without the secrets of the addresses in it.

    >>> scrub("API request to http://bob:pw@host:5000/api?sig=abc failed; retry /data.zip?X-Amz-Signature=abc")
    'API request to http://host:5000/api?… failed; retry /data.zip?X-Amz-Signature=…'
    """
    text = QUERY_IN_TEXT.sub(r"\1?…", PASSWORD.sub("", text))
    return BEARER.sub(r"\1 …", SECRET.sub(r"\1=…", text))


class ScrubbedRecord(logging.LogRecord):
    """A log record whose message and stack trace hold no secrets, whichever library wrote it."""

    def getMessage(self) -> str:
        """Return the message; a stack trace is formatted here, as handlers would add it unseen."""
        if self.exc_info and not self.exc_text:
            self.exc_text = scrub("".join(traceback.format_exception(*self.exc_info)).rstrip())
        return scrub(super().getMessage())


def scrub_output() -> None:
    """Let no log record and no stack trace of this process show a secret; for programs, not for a library's users."""
    logging.setLogRecordFactory(ScrubbedRecord)
    sys.excepthook = print_exception


def print_exception(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print a stack trace on stderr, as Python does, without secrets and without what a terminal would obey."""
    print(visible(scrub("".join(traceback.format_exception(kind, error, trace)))), end="", file=sys.stderr)
