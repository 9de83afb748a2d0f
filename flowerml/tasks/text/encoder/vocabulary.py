"""The dictionary: which stems have a code of their own."""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import Self

NO_WORD, INFREQUENT, FIRST = 0, 1, 2


@dataclass(frozen=True)
class Vocabulary:
    """The stems that have a code of their own, in the order of their codes, which begin at 2.

    0 is no word (padding) and 1 any stem that is not listed.
    """

    stems: tuple[str, ...]

    @classmethod
    def of(cls, counts: "Counter[str]", *, size: int) -> Self:
        """The most frequent stems, so many that there are at most `size` codes; ties by their order in `counts`."""
        return cls(tuple(stem for stem, _ in counts.most_common(size - FIRST)))

    def code(self, stem: str) -> int:
        """The code of a stem, 1 if it has none of its own."""
        return self._codes.get(stem, INFREQUENT)

    def stem(self, code: int) -> str:
        """The stem of a code, "<infrequent>" for 1."""
        return "<infrequent>" if code == INFREQUENT else self.stems[code - FIRST]

    @cached_property
    def _codes(self) -> dict[str, int]:
        return {stem: code for code, stem in enumerate(self.stems, start=FIRST)}
