"""The n-grams of texts as integers, computed alike in NumPy and in the graph, and how often each text has each.

An n-gram of words is a run of up to `order` words. An n-gram of characters is a run of 3 to `longest` characters that
lies within a word and the spaces around it: misspelt and inflected words share most of theirs.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import numpy as np
import scipy.sparse as sparse
from numpy.typing import NDArray
from torch import Tensor

from flowerml.tasks.text.networks.batches import Sequences
from flowerml.tasks.text.networks.lookup import find_rows

PRIME = 2**31 - 1
MULTIPLIER = 1_103_515_245  # any residue without structure; a product of two residues fits 63 bits
CHARACTERS = 1_234_567_891  # what the hash of an n-gram of characters starts with, so that it is no word's
SHORTEST = 3  # n-gram of characters
SPACE = ord(" ")
MOST = (
    3 * 2**19
)  # n-grams, where no minimum count is given; film reviews have 1,320,000 in two texts and more of 22,500

Integers = TypeVar("Integers", Tensor, NDArray[np.int64])


@dataclass(frozen=True)
class NGramCounts:
    """The n-grams of at least `minimum_count` training texts, ascending [G], and the counts of each split, [N, G].

    A minimum_count of None is the lowest that leaves at most MOST n-grams.

    A count c is kept as 1 + log(c): the second occurrence in a text says less than the first.
    """

    ids: NDArray[np.int64]
    values: Mapping[str, sparse.csr_matrix]
    minimum_count: int

    @classmethod
    def of(
        cls,
        words: Mapping[str, Sequences],
        characters: Mapping[str, Sequences] | None,
        *,
        order: int,
        longest: int,
        minimum_count: int | None,
    ) -> Self:
        """Count the n-grams of each split; without `characters` those of words only."""
        keys = {}
        for split, texts in words.items():
            parts = list(_word_keys(texts, order))
            if characters is not None:
                parts += _character_keys(characters[split], longest)
            keys[split] = np.concatenate(parts)
        ids, train, minimum = _count_train(keys.pop("train"), len(words["train"]), minimum_count)
        others = {split: _count_known(part, ids, len(words[split])) for split, part in keys.items()}
        return cls(ids, {"train": train, **others}, minimum)


def extend_hashes(hashes: Integers, items: Integers) -> Integers:
    """Extend the hashes of n-grams by one item; the arithmetic of NumPy and the graph is the same, exact in 63 bits."""
    return (hashes * MULTIPLIER + items) % PRIME


def _word_keys(texts: Sequences, order: int) -> Iterator[NDArray[np.int64]]:
    """Yield a key for each occurrence of an n-gram: its id, 1 to 2**31 - 2, and the number of its text."""
    words, numbers = _flat(texts)
    hashes = np.zeros_like(words)
    for length in range(1, order + 1):
        hashes = extend_hashes(hashes[: len(words) - length + 1], words[length - 1 :])
        inside = numbers[: len(hashes)] == numbers[length - 1 :]
        yield _keys(hashes, numbers[: len(hashes)], inside)


def _character_keys(texts: Sequences, longest: int) -> Iterator[NDArray[np.int64]]:
    """Yield the keys of n-grams of characters."""
    characters, numbers = _flat(texts)
    spaces = characters == SPACE
    hashes = np.full_like(characters, CHARACTERS)
    inside = np.ones(len(characters), bool)
    for length in range(1, longest + 1):
        count = max(0, len(characters) - length + 1)
        hashes = extend_hashes(hashes[:count], characters[length - 1 :])
        inside = inside[:count] & (numbers[:count] == numbers[length - 1 :])
        if length > 2:
            inside &= ~spaces[length - 2 : length - 2 + count]
        if length >= SHORTEST:
            yield _keys(hashes, numbers[:count], inside)


def _flat(texts: Sequences) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the items of all texts in a row, and the number of the text of each."""
    numbers = np.repeat(np.arange(len(texts)), texts.lengths)
    return texts.values[texts.offsets[0] : texts.offsets[-1]].astype(np.int64), numbers


def _keys(hashes: NDArray[np.int64], numbers: NDArray[np.int64], inside: NDArray[np.bool_]) -> NDArray[np.int64]:
    return (hashes[inside].clip(min=1) << 32) | numbers[inside]


def _distinct(keys: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return the id, the text and the value of each distinct key, by ascending id and text. Sorts in place."""
    keys.sort()
    starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]])[: len(keys)])
    values = 1 + np.log(np.diff(np.append(starts, len(keys))))
    return keys[starts] >> 32, keys[starts] & 0xFFFFFFFF, values


def _count_train(
    keys: NDArray[np.int64], texts: int, minimum_count: int | None
) -> tuple[NDArray[np.int64], sparse.csr_matrix, int]:
    ids, numbers, values = _distinct(keys)
    starts = np.flatnonzero(np.concatenate([[True], ids[1:] != ids[:-1]])[: len(ids)])
    frequencies = np.diff(np.append(starts, len(ids)))
    if minimum_count is None:
        minimum_count = int(np.sort(frequencies)[-MOST - 1]) + 1 if len(frequencies) > MOST else 1
    frequent = frequencies >= minimum_count
    kept = np.repeat(frequent, frequencies)
    offsets = np.concatenate([[0], np.cumsum(frequencies[frequent])])
    columns = sparse.csc_matrix((values[kept], numbers[kept], offsets), shape=(texts, int(frequent.sum())))
    return ids[starts][frequent], columns.tocsr(), minimum_count


def _count_known(keys: NDArray[np.int64], ids: NDArray[Any], texts: int) -> sparse.csr_matrix:
    present, numbers, values = _distinct(keys)
    columns = find_rows(ids, present)
    known = columns < len(ids)
    return sparse.csr_matrix((values[known], (numbers[known], columns[known])), shape=(texts, len(ids)))
