"""Sentences about files that are not pictures, for people who chose one: what was expected and what to do."""

from flowerml.core.errors import InputError

EXPECTED = "expected a picture, such as a JPEG or PNG"
STARTS = (
    (b"%PDF", "a PDF", "take a screenshot of the page you mean"),
    (b"PK\x03\x04", "an archive or a document", "unpack it, or save what it shows as a picture"),
    (b"\x1f\x8b", "an archive", "unpack it first"),
    (b"<svg", "a drawing in SVG", "save it as PNG"),
    (b"<?xml", "a drawing in SVG or another XML file", "save it as PNG"),
    (b"<", "a web page", "save the picture on it, and choose that"),
)
MOVIES = (b"isom", b"iso2", b"mp41", b"mp42", b"qt  ", b"M4V ", b"avc1")
AGAIN = {
    "unreadable_image": "choose another one, or save it again as JPEG or PNG",
    "image_too_large": "choose a smaller copy of it",
}
REMEDIES = (": save it", "; save it", "; send", "; fill", "; scale")


def of_file(content: bytes) -> str | None:
    """Return why a file can be no picture, judged by its first bytes; None for what a model should try to read."""
    if not content:
        return f"this file is empty; {EXPECTED}: choose another file"
    if content[4:8] == b"ftyp" and content[8:12] in MOVIES:
        return f"this file is a film; {EXPECTED}: take a screenshot of the moment you mean"
    beginning = content[:100].removeprefix(b"\xef\xbb\xbf").lstrip()
    for start, kind, remedy in STARTS:
        if beginning.startswith(start):
            return f"this file is {kind}; {EXPECTED}: {remedy}"
    return None


def of_size(most: int) -> str:
    """Return why a file is not even sent."""
    return f"this file is larger than {most // 2**20} MB; {EXPECTED}, of at most that size: choose a smaller copy of it"


def of_error(error: InputError) -> str:
    """Return what a model says about an input, with what to do.

    >>> of_error(InputError("unreadable_image", "damaged or cut short: its header is not whole"))
    'damaged or cut short: its header is not whole; choose another one, or save it again as JPEG or PNG'
    """
    remedy = AGAIN.get(error.code)
    if remedy is None or any(each in error.message for each in REMEDIES):
        return error.message
    return f"{error.message}; {remedy}"
