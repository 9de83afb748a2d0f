"""A file behind http or https."""

import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import IncompleteRead
from itertools import chain

import requests
from urllib3 import exceptions as broken
from urllib3.response import BaseHTTPResponse

from flowerml.data.download import login_page
from flowerml.data.download.remote import Answer, Known, Refusal, Retry

CHUNK = 2**20
REDIRECTS = 10
SLOWEST = 256  # bytes a second, over `timeout` seconds
# Not yet (202), and what a server or a proxy says when it is not well; 500 and above too.
PASSING = (202, 408, 425, 429)
CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


class Web:
    """The file at an http(s) URL, asked for as it is and not compressed for the way.

    `page_wanted`: a web page is what is expected, and not a sign of a login or of an error. `verified`: a checksum
    will tell whether the parts belong together, so that they may be asked for without a tag. Proxies and ~/.netrc are
    honoured as `requests` honours them.
    """

    def __init__(self, url: str, *, timeout: float, page_wanted: bool, verified: bool) -> None:
        self.url = url
        self.timeout = timeout
        self.page_wanted = page_wanted
        self.verified = verified

    @contextmanager
    def open(self, known: Known | None, start: int) -> Iterator[Answer]:
        """The bytes from `start`, or from 0 where the server cannot go on or has another file now."""
        headers = self._range(known, start) if known and start else {}
        with ExitStack() as stack:
            response = stack.enter_context(self._get(headers))
            resumed = known if headers and known and _continues(response, known, start) else None
            if headers and response.status_code in (206, 416) and not resumed:
                response.close()
                response = stack.enter_context(self._get({}))
            self._check(response)
            if resumed:
                size = resumed.size or _range_of(response)[1]
                yield Answer(replace(resumed, size=size), start, self._body(response))
            else:
                yield Answer(self._known(response), 0, self._whole(response))

    def unchanged(self, known: Known) -> bool:
        """Ask whether the file is still the one that was `known`, without fetching it."""
        tags = {"If-None-Match": known.etag, "If-Modified-Since": known.last_modified}
        with self._get({name: tag for name, tag in tags.items() if tag}) as response:
            if response.status_code == 304:
                return True
            self._check(response)
            return _same(known, self._known(response))

    def _range(self, known: Known, start: int) -> dict[str, str]:
        strong = known.etag if known.etag and not known.etag.startswith("W/") else None
        tag = strong or known.last_modified
        if tag:
            return {"Range": f"bytes={start}-", "If-Range": tag}
        return {"Range": f"bytes={start}-"} if self.verified else {}

    def _get(self, headers: dict[str, str]) -> requests.Response:
        headers = {"Accept-Encoding": "identity", **headers}
        with self._translated(), requests.Session() as session:
            session.max_redirects = REDIRECTS
            return session.get(self.url, headers=headers, stream=True, timeout=self.timeout)

    def _check(self, response: requests.Response) -> None:
        status = response.status_code
        if status in PASSING or status >= 500:
            raise Retry(f"the server answered {_status(response)}", _retry_after(response))
        if status in (401, 403, 407):
            raise Refusal(f"the server answered {_status(response)} (a login is read from ~/.netrc)")
        if status == 206 and "Range" not in response.request.headers:
            raise Retry("the server sent a part of the file unasked")
        if status not in (200, 206):
            raise Refusal(f"the server answered {_status(response)}")
        if not self.page_wanted and login_page.is_type(response.headers.get("Content-Type", "")):
            raise Refusal(login_page.reason(self._body(response)))

    def _known(self, response: requests.Response) -> Known:
        headers = response.headers
        size = _raw(response).length_remaining  # as the headers say, and None where they make no sense
        return Known(self.url, headers.get("ETag"), headers.get("Last-Modified"), size)

    def _whole(self, response: requests.Response) -> Iterator[bytes]:
        """The body, unless its beginning is that of a web page."""
        chunks, head = self._body(response), b""
        for chunk in chunks:
            head += chunk
            if len(head) >= login_page.ENOUGH:
                break
        if not self.page_wanted and login_page.begins(head):
            raise Refusal(login_page.reason(chain([head], chunks)))
        return chain([head] if head else [], chunks)

    def _body(self, response: requests.Response) -> Iterator[bytes]:
        """What comes over the line, undecoded and as soon as it comes."""
        raw, since, came = _raw(response), time.monotonic(), 0
        with self._translated():
            while chunk := raw.read1(CHUNK, decode_content=False):
                yield chunk
                came += len(chunk)
                if (seconds := time.monotonic() - since) >= self.timeout:
                    if came < SLOWEST * seconds:
                        raise Retry(f"only {came} bytes came in {seconds:.3g} s")
                    since, came = time.monotonic(), 0

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Errors of requests and urllib3 as Retry or Refusal."""
        try:
            yield
        except (requests.Timeout, broken.TimeoutError) as error:
            raise Retry(f"nothing came for {self.timeout:g} s") from error
        except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError, broken.ProtocolError) as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise Refusal(f"the server's certificate is not trusted ({_innermost(error)})") from error
            raise Retry(f"the connection failed: {_innermost(error)}") from error
        except requests.TooManyRedirects as error:
            raise Refusal(f"more than {REDIRECTS} redirects, one after the other") from error
        except (OSError, broken.HTTPError, ValueError) as error:
            # OSError is the father of requests' own, and a missing file of certificates. Not every ValueError of a
            # redirect to what is no URL is translated by requests.
            raise Refusal(f"not a usable address or answer: {_innermost(error)}") from error


def _continues(response: requests.Response, known: Known, start: int) -> bool:
    """Whether this is the rest of the file that was `known`, from `start` on."""
    if response.status_code != 206:
        return False
    begins, total = _range_of(response)
    now = Known(known.url, response.headers.get("ETag"), response.headers.get("Last-Modified"), total)
    pairs = ((_weak(known.etag), _weak(now.etag)), (known.last_modified, now.last_modified), (known.size, now.size))
    return begins == start and all(None in pair or pair[0] == pair[1] for pair in pairs)


def _same(known: Known, now: Known) -> bool:
    """Compare by the best that both say; a server may not understand conditional requests."""
    if known.etag and now.etag:
        return _weak(known.etag) == _weak(now.etag)
    if known.last_modified and now.last_modified:
        return known.last_modified == now.last_modified
    if known.size is None or now.size is None:
        raise Refusal("the server does not say; remove it to download it anew")
    return known.size == now.size


def _weak(etag: str | None) -> str | None:
    return etag.removeprefix("W/") if etag else None


def _range_of(response: requests.Response) -> tuple[int | None, int | None]:
    """Where a 206 starts, and the size of the whole file."""
    match = CONTENT_RANGE.match(response.headers.get("Content-Range", ""))
    if match is None:
        return None, None
    return int(match[1]), None if match[2] == "*" else int(match[2])


def _retry_after(response: requests.Response) -> float:
    value = response.headers.get("Retry-After", "")
    try:
        return float(value)
    except ValueError:
        pass
    try:
        return (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError):
        return 0


def _status(response: requests.Response) -> str:
    return f"{response.status_code} {response.reason or ''}".strip()


def _raw(response: requests.Response) -> BaseHTTPResponse:
    raw = response.raw
    assert isinstance(raw, BaseHTTPResponse)
    return raw


def _innermost(error: BaseException) -> str:
    """What it comes down to, in the words of the system."""
    if isinstance(error, IncompleteRead):
        return "it was cut"
    for cause in (getattr(error, "reason", None), error.__cause__, error.__context__, *error.args):
        if isinstance(cause, BaseException):
            return _innermost(cause)
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
