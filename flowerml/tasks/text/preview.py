"""Short forms of texts for reports."""

import re

CHARACTERS = 360
TAG = re.compile(r"<[a-zA-Z/!?][^<>]*>")


def preview(raw: str) -> str:
    """Return the beginning of a text on one line, without tags.

    >>> preview("A <b>good</b>\\nfilm.")
    'A good film.'
    """
    beginning = raw[: 8 * CHARACTERS]
    line = " ".join(TAG.sub(" ", beginning).split())
    if len(line) <= CHARACTERS and len(beginning) == len(raw):
        return line
    # textwrap.shorten would drop a single word longer than the limit altogether.
    cut = line[:CHARACTERS]
    return (cut.rpartition(" ")[0] or cut) + " …"
