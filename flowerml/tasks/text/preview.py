"""A text as short as a report shows it."""

import re

CHARACTERS = 360
TAG = re.compile(r"<[a-zA-Z/!?][^<>]*>")


def preview(raw: str) -> str:
    """The beginning of a text, without tags and on one line."""
    read = raw[: 8 * CHARACTERS]
    line = " ".join(TAG.sub(" ", read).split())
    if len(line) <= CHARACTERS and len(read) == len(raw):
        return line
    cut = line[:CHARACTERS]
    return (cut.rpartition(" ")[0] or cut) + " …"
