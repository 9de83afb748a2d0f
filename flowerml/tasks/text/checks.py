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
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from flowerml.core.errors import InputError
from flowerml.engine import similar
from flowerml.engine.similar import Components, Pairs, Similar
from flowerml.tasks.records import Inspection
from flowerml.tasks.text.encoder.cleaning import Memo, text_lines
from flowerml.tasks.text.reading import read

if TYPE_CHECKING:
    from scipy import sparse

    from flowerml.data.encodings import Encoded
    from flowerml.tasks.text.sections import Checks, Data

SHINGLE_WORDS = 5  # words in a shingle
SIGNATURE_SIZE = 128  # hashes per text
NO_HASH = np.uint32(2**32 - 1)  # pads the signatures of short texts
LOOKUP_HASHES = 8  # smallest hashes that are indexed: texts of resemblance 0.5 share none in 1 of 250 cases
LARGE_GROUP = 50  # texts that share a hash: if more, each is compared with the next only, or the cost is quadratic
COMPARED_AT_ONCE = 4096  # pairs of signatures in memory
MAGIC_NUMBERS = (b"%PDF", b"PK\3\4", b"\x1f\x8b", b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"\xd0\xcf\x11\xe0", b"{\\rtf")
HTML_STARTS = ("<!doctype html", "<html")
BUCKETS = 2**18

_WORD = re.compile(r"[^\W_]+")
_MOJIBAKE = re.compile("\N{REPLACEMENT CHARACTER}|Ã[\x80-\xbf©¨¶¼¤]|â€")
_MIXERS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))  # of SplitMix64
_POWERS = tuple(np.uint64(pow(0x9E3779B97F4A7C15, power, 2**64)) for power in range(SHINGLE_WORDS))


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


def near_duplicates(signatures: NDArray[np.generic], section: "Checks") -> Similar:
    """Return the groups of near duplicates among the signatures [N, 128].

    Texts that share one of their LOOKUP_HASHES smallest hashes are compared. Beyond EXACT_ROWS texts, the result tells
    how many share one with more than LARGE_GROUP others.
    """
    sketches = np.asarray(signatures, dtype=np.uint32)
    values = sketches[:, :LOOKUP_HASHES]
    rows, _ = np.nonzero(values != NO_HASH)
    hashes = values[values != NO_HASH]
    order = np.argsort(hashes, kind="stable")
    hashes, rows = hashes[order], rows[order]
    sizes = np.unique(hashes, return_counts=True)[1]
    group_sizes = np.repeat(sizes, sizes)
    components = Components(len(sketches))
    for offset in range(1, LARGE_GROUP):
        same = hashes[offset:] == hashes[:-offset]
        if offset > 1:
            same &= group_sizes[offset:] <= LARGE_GROUP
        starts = np.flatnonzero(same)
        pairs = components.separate(np.stack([rows[starts], rows[starts + offset]], axis=1))
        components.join(pairs[_resemble(sketches, pairs, section.near_resemblance)])
    crowded = len(np.unique(rows[group_sizes > LARGE_GROUP])) if len(sketches) > similar.EXACT_ROWS else 0
    how = f"they share runs of words with more than {LARGE_GROUP} others" if crowded else ""
    return Similar(components.groups(), crowded, how)


class Weights:
    """TF-IDF weights of each row's stems and pairs of stems: `weights[rows]` counts some anew, [len(rows), 2^18]."""

    def __init__(self, encoded: "Encoded") -> None:
        from sklearn.feature_extraction.text import TfidfTransformer

        self._rows = encoded.row_values(None, "stems")
        self.shape = len(self._rows), BUCKETS
        self._transformer = TfidfTransformer(sublinear_tf=True)
        # What `fit` does, on the counts of all rows at once.
        holders = np.zeros(BUCKETS, dtype=np.float32)
        for start in range(0, self.shape[0], COMPARED_AT_ONCE):
            counts = self._counts(np.arange(start, min(start + COMPARED_AT_ONCE, self.shape[0])))
            holders += np.bincount(counts.indices, minlength=BUCKETS)
        self._transformer.idf_ = np.log(np.float32(self.shape[0] + 1) / (holders + np.float32(1))) + np.float32(1)

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> "sparse.csr_matrix":
        return self._transformer.transform(self._counts(np.arange(self.shape[0])[rows]), copy=False)

    def _counts(self, rows: NDArray[np.int64]) -> "sparse.csr_matrix":
        from scipy import sparse

        stems = [self._rows[row] for row in rows]
        codes = np.concatenate([np.empty(0, np.int64), *stems]).astype(np.int64)
        code_rows = np.repeat(np.arange(len(stems)), [len(row) for row in stems])
        same_row = code_rows[1:] == code_rows[:-1]
        pairs = (codes[:-1] * 1_000_003 + codes[1:] * 7919 + 1)[same_row]
        columns = np.concatenate([codes % BUCKETS, pairs % BUCKETS])
        holders = np.concatenate([code_rows, code_rows[1:][same_row]])
        ones = np.ones(len(columns), dtype=np.float32)
        counts = sparse.csr_matrix((ones, (holders, columns)), shape=(len(stems), BUCKETS))
        counts.sum_duplicates()
        return counts


def vectors(encoded: "Encoded") -> Weights:
    """Return TF-IDF vectors of each row's stems and pairs of stems, hashed: sparse [N, 2^18], rows of length 1."""
    return Weights(encoded)


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


def _resemble(sketches: NDArray[np.uint32], pairs: Pairs, least: float) -> NDArray[np.bool_]:
    """Return which pairs [M, 2] of sketches [N, 128] have at least this Jaccard similarity, [M].

    It is estimated from the smallest hashes of the union of both.
    """
    alike = np.zeros(len(pairs), dtype=bool)
    for start in range(0, len(pairs), COMPARED_AT_ONCE):
        part = pairs[start : start + COMPARED_AT_ONCE]
        union = np.sort(sketches[part].reshape(len(part), -1), axis=1)
        repeated = np.zeros(union.shape, dtype=bool)
        repeated[:, 1:] = union[:, 1:] == union[:, :-1]
        distinct = (union != NO_HASH) & ~repeated
        smallest = np.minimum(distinct.sum(axis=1), SIGNATURE_SIZE)
        # A repeated hash counts with the distinct one before it, if that is among the smallest.
        shared = (repeated & (union != NO_HASH) & (distinct.cumsum(axis=1) <= SIGNATURE_SIZE)).sum(axis=1)
        alike[start : start + len(part)] = shared / np.maximum(smallest, 1) >= least
    return alike
