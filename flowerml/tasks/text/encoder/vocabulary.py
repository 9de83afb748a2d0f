"""The dictionary: the stems that have a code."""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import Self

NO_WORD, INFREQUENT, FIRST = 0, 1, 2


@dataclass(frozen=True)
class Vocabulary:
    """The known stems in the order of their codes, which start at 2. 0 is padding, 1 any unlisted stem.

    >>> vocabulary = Vocabulary.of(Counter(["film", "good", "film"]), size=3)
    >>> vocabulary.code("film"), vocabulary.code("good"), vocabulary.stem(2)
    (2, 1, 'film')
    """

    stems: tuple[str, ...]

    @classmethod
    def of(cls, counts: "Counter[str]", *, size: int) -> Self:
        """Keep the most frequent stems for at most `size` codes; ties are broken by their order in `counts`."""
        return cls(tuple(stem for stem, _ in counts.most_common(size - FIRST)))

    def code(self, stem: str) -> int:
        """Return the code of a stem, 1 if it is not listed."""
        return self._codes.get(stem, INFREQUENT)

    def stem(self, code: int) -> str:
        """Return the stem of a code, "<infrequent>" for 1."""
        return "<infrequent>" if code == INFREQUENT else self.stems[code - FIRST]

    @cached_property
    def _codes(self) -> dict[str, int]:
        return {stem: code for code, stem in enumerate(self.stems, start=FIRST)}
