"""A file behind http or https."""

import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from http.client import IncompleteRead
from itertools import chain

import requests
from urllib3 import exceptions as urllib3_errors
from urllib3.response import BaseHTTPResponse
from urllib3.util import Retry

from flowerml.data.download import login_page
from flowerml.data.download.remote import PermanentError, RemoteInfo, RemoteStream, TransientError

CHUNK = 2**20
MAX_REDIRECTS = 10
MIN_SPEED = 256  # bytes a second, over `timeout` seconds
# Not ready (202), and what a server or a proxy answers when it is overloaded; 500 and above too.
TRANSIENT = (202, 408, 425, 429)
CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


class HttpFile:
    """The file at an http(s) URL, requested without compression.

    `page_wanted`: an HTML page is expected, and not a sign of a login or of an error. `verified`: a checksum will tell
    whether the parts belong together, so that the download may be resumed without an ETag. Proxies and ~/.netrc are
    honoured as `requests` honours them.
    """

    def __init__(self, url: str, *, timeout: float, page_wanted: bool, verified: bool) -> None:
        self.url = url
        self.timeout = timeout
        self.page_wanted = page_wanted
        self.verified = verified

    @contextmanager
    def open(self, known: RemoteInfo | None, start: int) -> Iterator[RemoteStream]:
        """Open the file at `start`, or at 0 where the server cannot resume or the version changed."""
        headers = self._range_headers(known, start) if known and start else {}
        with ExitStack() as stack:
            response = stack.enter_context(self._get(headers))
            resumed = known if headers and known and _is_rest_of(response, known, start) else None
            if headers and response.status_code in (206, 416) and not resumed:
                response.close()
                response = stack.enter_context(self._get({}))
            self._check(response)
            if resumed:
                size = resumed.size or _content_range(response)[1]
                yield RemoteStream(replace(resumed, size=size), start, self._body(response))
            else:
                yield RemoteStream(self._info(response), 0, self._checked_body(response))

    def unchanged(self, known: RemoteInfo) -> bool:
        """Ask the server whether the version is still the known one, without downloading the file."""
        tags = {"If-None-Match": known.etag, "If-Modified-Since": known.last_modified}
        with self._get({name: tag for name, tag in tags.items() if tag}) as response:
            if response.status_code == 304:
                return True
            self._check(response)
            return _is_same_version(known, self._info(response))

    def _range_headers(self, known: RemoteInfo, start: int) -> dict[str, str]:
        strong = known.etag if known.etag and not known.etag.startswith("W/") else None
        tag = strong or known.last_modified
        if tag:
            return {"Range": f"bytes={start}-", "If-Range": tag}
        return {"Range": f"bytes={start}-"} if self.verified else {}

    def _get(self, headers: dict[str, str]) -> requests.Response:
        headers = {"Accept-Encoding": "identity", **headers}
        with self._translated_errors(), requests.Session() as session:
            session.max_redirects = MAX_REDIRECTS
            return session.get(self.url, headers=headers, stream=True, timeout=self.timeout)

    def _check(self, response: requests.Response) -> None:
        status = response.status_code
        if status in TRANSIENT or status >= 500:
            raise TransientError(f"the server answered {_status(response)}", _retry_after(response))
        if status in (401, 403, 407):
            raise PermanentError(f"the server answered {_status(response)} (a login is read from ~/.netrc)")
        if status == 206 and "Range" not in response.request.headers:
            raise TransientError("the server sent a part of the file, and the whole was requested")
        if status not in (200, 206):
            raise PermanentError(f"the server answered {_status(response)}")
        if not self.page_wanted and login_page.is_html_type(response.headers.get("Content-Type", "")):
            raise PermanentError(login_page.explain(self._body(response)))

    def _info(self, response: requests.Response) -> RemoteInfo:
        headers = response.headers
        size = _raw(response).length_remaining  # as the headers say; None where they are invalid
        return RemoteInfo(self.url, headers.get("ETag"), headers.get("Last-Modified"), size)

    def _checked_body(self, response: requests.Response) -> Iterator[bytes]:
        """Return the body; raises PermanentError where it starts like an HTML page."""
        chunks, head = self._body(response), b""
        for chunk in chunks:
            head += chunk
            if len(head) >= login_page.SNIFFED_BYTES:
                break
        if not self.page_wanted and login_page.is_html_start(head):
            raise PermanentError(login_page.explain(chain([head], chunks)))
        return chain([head] if head else [], chunks)

    def _body(self, response: requests.Response) -> Iterator[bytes]:
        """Yield the bytes as they arrive, not decoded."""
        # read1 and not iter_content: that waits for whole chunks, and would lose what came before a cut.
        raw, since, received = _raw(response), time.monotonic(), 0
        with self._translated_errors():
            while chunk := raw.read1(CHUNK, decode_content=False):
                yield chunk
                received += len(chunk)
                if (seconds := time.monotonic() - since) >= self.timeout:
                    if received < MIN_SPEED * seconds:
                        raise TransientError(f"only {received} bytes came in {seconds:.3g} s")
                    since, received = time.monotonic(), 0

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        """Translate the errors of requests and urllib3 to TransientError or PermanentError."""
        try:
            yield
        except (requests.Timeout, urllib3_errors.TimeoutError) as error:
            raise TransientError(f"nothing came for {self.timeout:g} s") from error
        except (
            requests.ConnectionError,
            requests.exceptions.ChunkedEncodingError,
            urllib3_errors.ProtocolError,
        ) as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise PermanentError(f"the server's certificate is not trusted ({_cause(error)})") from error
            raise TransientError(f"the connection failed: {_cause(error)}") from error
        except requests.TooManyRedirects as error:
            raise PermanentError(f"more than {MAX_REDIRECTS} redirects in a row") from error
        except (OSError, urllib3_errors.HTTPError, ValueError) as error:
            # OSError is the base class of requests' errors, and of a missing certificate file. requests does not
            # translate every ValueError of a redirect to an invalid URL.
            raise PermanentError(f"not a usable address or response: {_cause(error)}") from error


def _is_rest_of(response: requests.Response, known: RemoteInfo, start: int) -> bool:
    """Return whether a response holds the bytes from `start` on of the known version."""
    if response.status_code != 206:
        return False
    first, total = _content_range(response)
    etag, last_modified = response.headers.get("ETag"), response.headers.get("Last-Modified")
    pairs = ((_weak(known.etag), _weak(etag)), (known.last_modified, last_modified), (known.size, total))
    return first == start and all(None in pair or pair[0] == pair[1] for pair in pairs)


def _is_same_version(known: RemoteInfo, info: RemoteInfo) -> bool:
    """Compare the strongest field that both have: a server may ignore conditional requests."""
    if known.etag and info.etag:
        return _weak(known.etag) == _weak(info.etag)
    if known.last_modified and info.last_modified:
        return known.last_modified == info.last_modified
    if known.size is None or info.size is None:
        raise PermanentError("the server gives neither tag, date nor size; remove the file to download it again")
    return known.size == info.size


def _weak(etag: str | None) -> str | None:
    return etag.removeprefix("W/") if etag else None


def _content_range(response: requests.Response) -> tuple[int | None, int | None]:
    """Return the first byte of a 206 and the size of the whole file."""
    match = CONTENT_RANGE.match(response.headers.get("Content-Range", ""))
    if match is None:
        return None, None
    return int(match[1]), None if match[2] == "*" else int(match[2])


def _retry_after(response: requests.Response) -> float:
    """Return the seconds that the server asks to wait for, 0 where the header is missing or invalid."""
    try:
        return Retry().parse_retry_after(response.headers.get("Retry-After", "0"))
    except (urllib3_errors.InvalidHeader, ValueError, OverflowError):
        return 0


def _status(response: requests.Response) -> str:
    return f"{response.status_code} {response.reason or ''}".strip()


def _raw(response: requests.Response) -> BaseHTTPResponse:
    raw = response.raw
    assert isinstance(raw, BaseHTTPResponse)
    return raw


def _cause(error: BaseException) -> str:
    """Return the root cause in the words of the system. urllib3 also keeps causes in `reason` and `args`."""
    if isinstance(error, IncompleteRead):
        return "it was cut"
    for cause in (getattr(error, "reason", None), error.__cause__, error.__context__, *error.args):
        if isinstance(cause, BaseException):
            return _cause(cause)
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
