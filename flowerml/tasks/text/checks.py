"""Checks of single texts, and the search for near duplicates.

The resemblance of two texts is the Jaccard similarity of their shingles (runs of five words), computed from the
smallest hashes of each text (A. Broder, "On the resemblance and containment of documents", 1997): exact where
both texts together have at most 128 shingles, else an estimate.

Why not datasketch's MinHashLSH: its findings differ, as it only estimates short texts, and it is slower. Datasketch 2.0
(128 permutations, threshold 0.5) against exact resemblances, on one core:

    data                      exact             ours                      datasketch
    IMDb, 49,576 texts        43 pairs          all 43, and 2 more        38 pairs
    tickets, 3,806 texts      102 groups        101 equal                 65 equal (recall weighted 9 to 1: 74)
    movie_reviews, 1,997      5 pairs           the same 5                the same 5
    time on IMDb, us a text                     45 signature, 19 pairs    255 signature, 51 pairs
"""

import hashlib
import re
import zlib
from collections import defaultdict
from collections.abc import Iterator
from itertools import combinations, pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from flowerml.core.errors import InputError
from flowerml.tasks.records import Inspection
from flowerml.tasks.text.encoder.cleaning import Memo, text_lines
from flowerml.tasks.text.reading import read

if TYPE_CHECKING:
    from scipy import sparse  # type: ignore[import-untyped]

    from flowerml.data.encodings import Encoded
    from flowerml.tasks.text.sections import Checks, Data

SHINGLE_WORDS = 5  # words in a shingle
SIGNATURE_SIZE = 128  # hashes per text
NO_HASH = np.uint32(2**32 - 1)  # pads the signatures of short texts
LOOKUP_HASHES = 8  # smallest hashes that are indexed: texts of resemblance 0.5 share none in 1 of 250 cases
LARGE_GROUP = 50  # texts that share a hash: if more, each is compared with the next only, or the cost is quadratic
MAGIC_NUMBERS = (b"%PDF", b"PK\3\4", b"\x1f\x8b", b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"\xd0\xcf\x11\xe0", b"{\\rtf")
HTML_STARTS = ("<!doctype html", "<html")
BUCKETS = 2**18

_WORD = re.compile(r"[^\W_]+")
_MOJIBAKE = re.compile("\N{REPLACEMENT CHARACTER}|Ã[\x80-\xbf©¨¶¼¤]|â€")
_MIXERS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))  # of SplitMix64
_POWERS = tuple(np.uint64(pow(0x9E3779B97F4A7C15, power, 2**64)) for power in range(SHINGLE_WORDS))

Pairs = NDArray[np.int64]


def digest(content: bytes, section: "Data") -> bytes | None:
    """Return what only texts of the same words have; None for an empty or unreadable one."""
    try:
        text = read(content, section)
    except InputError:
        return None
    return _digest(text, _words(text))


def inspect(name: str, raw: str, section: "Data") -> Inspection:
    """Inspect a readable text. Case, white space and HTML do not count as differences. The signature is [128]."""
    words = _words(raw)
    return Inspection(_digest(raw, words), _signature(words), dict(_notes(raw, len(words), section.checks)))


def _words(raw: str) -> list[str]:
    return _WORD.findall(" ".join(text_lines(raw)).lower())


def _digest(raw: str, words: list[str]) -> bytes:
    same = " ".join(words or raw.split())  # texts of punctuation alone are compared as they are
    return hashlib.blake2b(same.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def classify_error(name: str, content: bytes, error: InputError) -> str:
    """Return the finding name for an unreadable text."""
    if error.code == "not_a_text":
        return "wrong_type" if content.startswith(MAGIC_NUMBERS) else "unreadable"
    return {"empty_text": "empty", "text_too_long": "enormous"}.get(error.code, "unreadable")


def near_duplicates(signatures: NDArray[np.generic], section: "Checks") -> Pairs:
    """Return the pairs [M, 2] of near duplicates among the signatures [N, 128], the lower row first."""
    sketches = np.asarray(signatures, dtype=np.uint32)
    holders: dict[int, list[int]] = defaultdict(list)
    for row, hashes in enumerate(sketches[:, :LOOKUP_HASHES].tolist()):
        for value in hashes:
            if value != NO_HASH:
                holders[value].append(row)
    candidates = sorted({pair for rows in holders.values() for pair in _candidates(rows)})
    pairs = [(a, b) for a, b in candidates if _resemblance(sketches[a], sketches[b]) >= section.near_resemblance]
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def vectors(encoded: "Encoded") -> "sparse.csr_matrix":
    """Return TF-IDF vectors of each row's stems and pairs of stems, hashed: sparse [N, 2^18], rows of length 1."""
    from scipy import sparse
    from sklearn.feature_extraction.text import TfidfTransformer

    stems = encoded.table.column("stems").combine_chunks()
    codes = stems.values.to_numpy().astype(np.int64)
    offsets = stems.offsets.to_numpy().astype(np.int64)
    code_rows = np.repeat(np.arange(len(stems)), np.diff(offsets))
    same_row = code_rows[1:] == code_rows[:-1]
    pairs = (codes[:-1] * 1_000_003 + codes[1:] * 7919 + 1)[same_row]
    columns = np.concatenate([codes % BUCKETS, pairs % BUCKETS])
    rows = np.concatenate([code_rows, code_rows[1:][same_row]])
    ones = np.ones(len(columns), dtype=np.float32)
    counts = sparse.csr_matrix((ones, (rows, columns)), shape=(len(stems), BUCKETS))
    counts.sum_duplicates()
    return TfidfTransformer(sublinear_tf=True).fit_transform(counts)


def _notes(raw: str, words: int, section: "Checks") -> Iterator[tuple[str, str]]:
    if raw[:1000].lstrip().lower().startswith(HTML_STARTS):
        yield "wrong_type", "a web page"
    if words < section.fewest_words:
        yield "too_short", f"{words:,} words"
    if words > section.most_words:
        yield "too_long", f"{words:,} words"
    garbled = _MOJIBAKE.search(raw)
    if garbled:
        yield "garbled", f"{garbled[0]!r} at character {garbled.start() + 1:,}"


def _signature(words: list[str]) -> NDArray[np.uint32]:
    """Return the smallest distinct hashes of the shingles, ascending, [128]."""
    signature = np.full(SIGNATURE_SIZE, NO_HASH)
    if words:
        hashes = np.fromiter(map(_HASHES.__getitem__, words), np.uint64, len(words))
        if len(hashes) < SHINGLE_WORDS:
            hashes = np.pad(hashes, (0, SHINGLE_WORDS - len(hashes)))
        count = len(hashes) - SHINGLE_WORDS + 1
        shingles = sum(hashes[i : count + i] * _POWERS[i] for i in range(SHINGLE_WORDS))
        smallest = np.unique(_mix(np.asarray(shingles)))[:SIGNATURE_SIZE]
        signature[: len(smallest)] = smallest
    return signature


def _hash(word: str) -> int:
    """Return a stateless 32-bit hash of a word; Python's own differs from process to process."""
    return zlib.crc32(word.encode("utf-8", "surrogatepass"))


_HASHES = Memo(_hash)


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint32]:
    values = (values ^ (values >> np.uint64(30))) * _MIXERS[0]
    values = (values ^ (values >> np.uint64(27))) * _MIXERS[1]
    return (values >> np.uint64(32)).astype(np.uint32)


def _candidates(rows: list[int]) -> Iterator[tuple[int, int]]:
    return iter(combinations(rows, 2)) if len(rows) <= LARGE_GROUP else pairwise(rows)


def _resemblance(a: NDArray[np.uint32], b: NDArray[np.uint32]) -> float:
    """Return the Jaccard similarity of two texts, estimated from the smallest hashes of their union."""
    union = np.concatenate([a[a != NO_HASH], b[b != NO_HASH]])
    values, counts = np.unique(union, return_counts=True)
    return float((counts[:SIGNATURE_SIZE] == 2).mean()) if len(values) else 0.0
