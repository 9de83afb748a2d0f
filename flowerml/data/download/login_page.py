"""Web pages that come in place of a file: a login, an error, "you are leaving this site"."""

import html
import re
from collections.abc import Iterable
from contextlib import suppress

from flowerml.data.download.remote import Retry, one_line

ENOUGH = 512  # bytes to know one by
LONGEST = 2**16  # bytes to look for a title in
PAGE = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]*>\s*|<!--.*?-->\s*)*<(?:!doctype\s+html|html)[\s>]", re.IGNORECASE | re.DOTALL
)
TITLE = re.compile(r"<title[^>]*>(.*?)</title", re.IGNORECASE | re.DOTALL)


def is_type(content_type: str) -> bool:
    """Whether a Content-Type is that of a web page."""
    return content_type.partition(";")[0].strip().lower() in ("text/html", "application/xhtml+xml")


def begins(head: bytes) -> bool:
    """Whether a file that begins like this is a web page."""
    return PAGE.match(head) is not None


def reason(chunks: Iterable[bytes]) -> str:
    """Why a page is not taken for the file, with its title if it has one."""
    text = b""
    with suppress(Retry):
        for chunk in chunks:
            text += chunk
            if len(text) >= LONGEST:
                break
    match = TITLE.search(text.decode(errors="replace"))
    title = one_line(html.unescape(match[1]))[:100] if match else ""
    return "a web page came in place of the file" + (f": “{title}”" if title else "")
