"""Ids of examples as a report shows them: mostly paths, of which only the ends differ."""

from collections.abc import Collection
from itertools import takewhile

from flowerml.core.display import printable

LONGEST = 56  # characters


def common_folder(ids: Collection[str]) -> str:
    """Return the folder that all of these paths lie in, with the slash at its end; "" where there is none.

    >>> common_folder(["test/rose/1.jpg", "test/rose-red/2.jpg"])
    'test/'
    """
    folders = [id.split("/")[:-1] for id in ids]
    same = takewhile(lambda names: len(set(names)) == 1, zip(*folders, strict=False))
    return "".join(f"{names[0]}/" for names in same)


def shortened(id: str, folder: str) -> str:
    """Return an id without the folder; the middle of a long one is cut out, as paths differ at their ends.

    >>> shortened("test/rose/1.jpg", "test/")
    'rose/1.jpg'
    >>> len(shortened("a" * 100 + ".jpg", "")) <= LONGEST
    True
    """
    return printable(id.removeprefix(folder), LONGEST)
