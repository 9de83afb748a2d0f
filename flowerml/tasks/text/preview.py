"""Short forms of texts for reports."""

import re

CHARACTERS = 360
LARGE_CHARACTERS = 20_000
TAG = re.compile(r"<[a-zA-Z/!?][^<>]*>")


def preview(raw: str, *, large: bool = False) -> str:
    """Return the beginning of a text on one line, without tags; `large` returns nearly all of it, as it is.

    >>> preview("A <b>good</b>\\nfilm.")
    'A good film.'
    """
    if large:
        return raw if len(raw) <= LARGE_CHARACTERS else f"{raw[:LARGE_CHARACTERS]} …"
    beginning = raw[: 8 * CHARACTERS]
    line = " ".join(TAG.sub(" ", beginning).split())
    if len(line) <= CHARACTERS and len(beginning) == len(raw):
        return line
    # textwrap.shorten would drop a single word longer than the limit altogether.
    cut = line[:CHARACTERS]
    return (cut.rpartition(" ")[0] or cut) + " …"
