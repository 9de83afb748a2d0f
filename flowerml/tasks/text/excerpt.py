"""Beginnings of texts that may travel with a classifier."""

CHARACTERS = 2000


def excerpt(raw: str) -> str:
    """Return a text, or its first words where it is long; as it is written, since the model reads it.

    >>> len(excerpt("good " * 1000))
    1999
    """
    if len(raw) <= CHARACTERS:
        return raw
    # textwrap.shorten would join the lines, and drop a word longer than the limit altogether.
    beginning = raw[:CHARACTERS]
    return (beginning.rpartition(" ")[0] or beginning).rstrip()
