"""HTML pages sent in place of a file: a login, an error, "you are leaving this site"."""

import html
import re
from collections.abc import Iterable
from contextlib import suppress

from flowerml.data.download.remote import TransientError, clean

SNIFFED_BYTES = 512  # that tell a page
TITLE_BYTES = 2**16  # to look for a title in
PAGE = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]*>\s*|<!--.*?-->\s*)*<(?:!doctype\s+html|html)[\s>]", re.IGNORECASE | re.DOTALL
)
TITLE = re.compile(r"<title[^>]*>(.*?)</title", re.IGNORECASE | re.DOTALL)


def is_html_type(content_type: str) -> bool:
    """Return whether a Content-Type is that of an HTML page."""
    return content_type.partition(";")[0].strip().lower() in ("text/html", "application/xhtml+xml")


def is_html_start(head: bytes) -> bool:
    """Return whether a file that starts with these bytes is an HTML page."""
    return PAGE.match(head) is not None


def explain(chunks: Iterable[bytes]) -> str:
    """Return the error for a page that came in place of the file, with its title if it has one."""
    text = b""
    with suppress(TransientError):
        for chunk in chunks:
            text += chunk
            if len(text) >= TITLE_BYTES:
                break
    match = TITLE.search(text.decode(errors="replace"))
    title = clean(html.unescape(match[1]))[:100] if match else ""
    return "a web page came in place of the file" + (f": “{title}”" if title else "")
