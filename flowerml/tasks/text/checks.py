"""What may be wrong with a text, and which texts are nearly the same.

How alike two texts are is the share of their runs of five words that both have, told from the smallest hashes of the
runs (A. Broder, "On the resemblance and containment of documents", 1997): exact for up to 128 runs, else an estimate.
"""

import hashlib
import re
import zlib
from collections import defaultdict
from collections.abc import Iterator
from itertools import combinations, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from flowerml.core.errors import InputError
from flowerml.tasks.facts import Facts
from flowerml.tasks.text.encoder.cleaning import Memo, text_lines

if TYPE_CHECKING:
    from flowerml.data.encodings import Encoded
    from flowerml.tasks.text.sections import Checks, Data

RUN = 5  # words
KEPT = 128  # hashes of a text
NOTHING = np.uint32(2**32 - 1)  # fills up the hashes of a short text
FIRST = 8  # hashes by which likes are found: two texts with half of their runs in common lack one in 1 of 250 cases
MANY = 50  # texts that share a run: they are compared with the next ones only
OTHERS = (b"%PDF", b"PK\3\4", b"\x1f\x8b", b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"\xd0\xcf\x11\xe0", b"{\\rtf")
PAGES = ("<!doctype html", "<html")
BUCKETS = 2**18

_WORD = re.compile(r"[^\W_]+")
_GARBLED = re.compile("\N{REPLACEMENT CHARACTER}|Ã[\x80-\xbf©¨¶¼¤]|â€")
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))  # of SplitMix64
_POWERS = tuple(np.uint64(pow(0x9E3779B97F4A7C15, power, 2**64)) for power in range(RUN))

Pairs = NDArray[np.int64]


def facts(name: str, raw: str, section: "Data") -> Facts:
    """What is odd about a text that can be read; case, white space and HTML are no difference. Signature: [128]."""
    words = _WORD.findall(" ".join(text_lines(raw)).lower())
    digest = hashlib.blake2b(" ".join(words).encode("utf-8", "surrogatepass"), digest_size=16).digest()
    if not words:  # marks alone are as different as they look
        digest = hashlib.blake2b(" ".join(raw.split()).encode("utf-8", "surrogatepass"), digest_size=16).digest()
    return Facts(digest, _signature(words), dict(_notes(raw, len(words), section.checks)))


def fault(name: str, content: bytes, error: InputError) -> str:
    """The name of the finding that a text is which cannot be read."""
    if error.code == "not_a_text":
        return "wrong_type" if content.startswith(OTHERS) else "unreadable"
    return {"empty_text": "empty", "text_too_long": "enormous"}.get(error.code, "unreadable")


def alike(signatures: NDArray[np.generic], section: "Checks") -> Pairs:
    """Which of the signatures [N, 128] are of texts that are nearly the same, [M, 2]; the lower number first."""
    sketches = np.asarray(signatures, dtype=np.uint32)
    holders: dict[int, list[int]] = defaultdict(list)
    for number, first in enumerate(sketches[:, :FIRST].tolist()):
        for value in first:
            if value != NOTHING:
                holders[value].append(number)
    candidates = sorted({pair for numbers in holders.values() for pair in _candidates(numbers)})
    found = [pair for pair in candidates if _resemblance(*(sketches[one] for one in pair)) >= section.near_resemblance]
    return np.array(found, dtype=np.int64).reshape(-1, 2)


def vectors(encoded: "Encoded") -> Any:
    """Which stems and pairs of stems each row has, hashed and weighed by rarity: a sparse [N, 2^18] of length 1."""
    from scipy import sparse  # type: ignore[import-untyped]
    from sklearn.feature_extraction.text import TfidfTransformer

    rows = encoded.table.column("stems").combine_chunks()
    codes = rows.values.to_numpy().astype(np.int64)
    starts = rows.offsets.to_numpy().astype(np.int64)
    row = np.repeat(np.arange(len(rows)), np.diff(starts))
    together = row[1:] == row[:-1]
    pairs = (codes[:-1] * 1_000_003 + codes[1:] * 7919 + 1)[together]
    columns = np.concatenate([codes % BUCKETS, pairs % BUCKETS])
    numbers = np.concatenate([row, row[1:][together]])
    ones = np.ones(len(columns), dtype=np.float32)
    counts = sparse.csr_matrix((ones, (numbers, columns)), shape=(len(rows), BUCKETS))
    counts.sum_duplicates()
    return TfidfTransformer(sublinear_tf=True).fit_transform(counts)


def _notes(raw: str, words: int, section: "Checks") -> Iterator[tuple[str, str]]:
    if raw[:1000].lstrip().lower().startswith(PAGES):
        yield "wrong_type", "a web page"
    if words < section.fewest_words:
        yield "too_short", f"{words:,} words"
    if words > section.most_words:
        yield "too_long", f"{words:,} words"
    garbled = _GARBLED.search(raw)
    if garbled:
        yield "garbled", f"{garbled[0]!r} at character {garbled.start() + 1:,}"


def _signature(words: list[str]) -> NDArray[np.uint32]:
    """The smallest different hashes of the runs, in order."""
    found = np.full(KEPT, NOTHING)
    if words:
        hashes = np.fromiter(map(_HASHES.__getitem__, words), np.uint64, len(words))
        if len(hashes) < RUN:
            hashes = np.pad(hashes, (0, RUN - len(hashes)))
        runs = sum(hashes[place : len(hashes) - RUN + 1 + place] * _POWERS[place] for place in range(RUN))
        smallest = np.unique(_mixed(np.asarray(runs)))[:KEPT]
        found[: len(smallest)] = smallest
    return found


def _hash(word: str) -> int:
    """A number below 2^32 that depends on nothing but the word."""
    return zlib.crc32(word.encode("utf-8", "surrogatepass"))


_HASHES = Memo(_hash)


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint32]:
    values = (values ^ (values >> np.uint64(30))) * _MIX[0]
    values = (values ^ (values >> np.uint64(27))) * _MIX[1]
    return (values >> np.uint64(32)).astype(np.uint32)


def _candidates(numbers: list[int]) -> Iterator[tuple[int, int]]:
    return iter(combinations(numbers, 2)) if len(numbers) <= MANY else pairwise(numbers)


def _resemblance(one: NDArray[np.uint32], other: NDArray[np.uint32]) -> float:
    """The share of runs that both have, of those that either has."""
    both = np.concatenate([one[one != NOTHING], other[other != NOTHING]])
    values, counts = np.unique(both, return_counts=True)
    return float((counts[:KEPT] == 2).mean()) if len(values) else 0.0
