"""A model of word pairs, counted on texts: the probability of a word, and of a word after another.

A word's probability is its smoothed share. After another word it is interpolated with absolute discounting: see Ney,
Essen & Kneser (1994), "On Structuring Probabilistic Dependences in Stochastic Language Modelling". Not the models of
NLTK: they hold words, not hashes, in Python's dicts, and count a text in the time that this takes for 40.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from flowerml.tasks.text.encoder.preprocessing import hash_token
from flowerml.tasks.text.encoder.vocabulary import INFREQUENT
from flowerml.tasks.text.networks.batches import Sequences

PRIME, MULTIPLIER = 2**31 - 1, 1_103_515_245  # any residue without structure; products fit 63 bits
MAX_TOKENS = 20_000_000  # counted at most
MAX_WORDS, MAX_PAIRS = 2**17, 2**19  # in the tables, the most frequent: 1.7 and 3.1 MB
MAX_HELD_OUT = 4000  # texts that are held out, one at a time
MIN_EXCERPTS = 400  # of the texts that are held out; where these are few, each has several
DISCOUNT = 0.75
MIN_BACKOFF = 0.01
SMOOTHING = 0.5
FEW_WORDS = 0.01  # of the texts; where more have no word but only punctuation and numbers, these count as words

Float = NDArray[np.float64]
Integers = NDArray[np.int64]
Ids = TypeVar("Ids", Tensor, NDArray[np.int64])


@dataclass(frozen=True)
class PairModel:
    """Log probabilities of the most frequent words and pairs, by their rows in sorted tables of ids.

    The last row is that of all others. `surprise` [V + 1] is -log p(word); `backoff` [V + 1] -log of the weight of
    p(second) where the word is the first of a pair that is not known; `gain` [P + 1] is log p(second | first) -
    log p(second); `is_word` [V + 1] says which are words, as opposed to punctuation and numbers.
    """

    words: Integers
    pairs: Integers
    surprise: Float
    backoff: Float
    gain: Float
    is_word: NDArray[np.bool_]


@dataclass(frozen=True)
class HeldOut:
    """Mean surprise and mean negative gain [N, 2] of texts under the counts of all others, and the texts' lengths.

    `known` says whether a text has a word that others have, too.
    """

    features: Float
    lengths: Integers
    known: NDArray[np.bool_]


@dataclass(frozen=True)
class PairCounts:
    """The words of texts, one after the other, and how often each of them and each pair occurs.

    `texts` [T] says which text a word is of, and `rows` [T] which of the distinct `words` it is. `pair_rows` [T] says
    which of the distinct `pairs` it forms with the next word, -1 for the last one of a text. `followers` is the number
    of distinct words after each word; `pair_firsts` and `pair_seconds` are the rows of the words of each pair.
    """

    words: Integers
    counts: Integers
    rows: Integers
    texts: Integers
    pairs: Integers
    pair_counts: Integers
    pair_rows: Integers
    pair_firsts: Integers
    pair_seconds: Integers
    followers: Integers
    is_word: NDArray[np.bool_]

    @classmethod
    def of(cls, sequences: Sequences) -> Self:
        """Count the words of texts; where there are more than MAX_TOKENS, those of texts that are evenly spaced."""
        step = max(1, -(-len(sequences.values) // MAX_TOKENS))
        chosen = [sequences[row] for row in range(0, len(sequences), step)]
        values = np.concatenate(chosen).astype(np.int64)
        texts = np.repeat(np.arange(len(chosen)), [len(row) for row in chosen])
        words, rows, counts = np.unique(values, return_inverse=True, return_counts=True)
        first = np.flatnonzero(texts[1:] == texts[:-1])
        pairs, index, inverse, pair_counts = np.unique(
            pair_ids(values[first], values[first + 1]), return_index=True, return_inverse=True, return_counts=True
        )
        pair_rows = np.full(len(values), -1)
        pair_rows[first] = inverse
        pair_firsts = rows[first[index]]
        is_word = ~np.isin(words, _not_words())
        has_word = np.bincount(texts, is_word[rows], minlength=len(chosen)) > 0
        return cls(
            words=words,
            counts=counts,
            rows=rows,
            texts=texts,
            pairs=pairs,
            pair_counts=pair_counts,
            pair_rows=pair_rows,
            pair_firsts=pair_firsts,
            pair_seconds=rows[first[index] + 1],
            followers=np.bincount(pair_firsts, minlength=len(words)),
            is_word=is_word if has_word.mean() > 1 - FEW_WORDS else np.ones_like(is_word),
        )

    def model(self) -> PairModel:
        """Return the model with tables of at most MAX_WORDS words and MAX_PAIRS pairs, the most frequent."""
        total, distinct = len(self.rows), len(self.words)
        surprise = _surprise(np.append(self.counts, 0), total, distinct)
        backoff = _backoff(np.append(self.counts, 0), np.append(self.followers, 0))
        gain = _gain(
            self.pair_counts, self.counts[self.pair_firsts], backoff[self.pair_firsts], surprise[self.pair_seconds]
        )
        words = np.flatnonzero(self.counts >= self._fewest_words)
        pairs = np.flatnonzero(self.pair_counts >= self._fewest_pairs)
        return PairModel(
            words=self.words[words],
            pairs=self.pairs[pairs],
            surprise=surprise[np.append(words, -1)],
            backoff=backoff[np.append(words, -1)],
            gain=np.append(gain[pairs], 0),
            is_word=np.append(self.is_word[words], False),
        )

    def held_out(self) -> tuple[HeldOut, HeldOut]:
        """Return what at most MAX_HELD_OUT texts, evenly spaced, have under the counts of all others.

        The second result is of excerpts of them, of random lengths: as many are of 4 to 8 words as of 64 to 128.
        """
        lengths = np.bincount(self.texts)
        chosen = np.arange(0, len(lengths), max(1, -(-len(lengths) // MAX_HELD_OUT)))
        tokens = self._leave_out(np.flatnonzero(np.isin(self.texts, chosen)))
        ends = np.cumsum(lengths[chosen])
        starts = ends - lengths[chosen]
        rng = np.random.default_rng(0)
        times = max(1, -(-MIN_EXCERPTS // len(chosen)))
        firsts, lasts = np.repeat(starts, times), np.repeat(ends, times)
        sizes = np.exp(rng.uniform(0, np.log(lasts - firsts + 1))).astype(np.int64).clip(max=lasts - firsts)
        firsts = rng.integers(firsts, lasts - sizes + 1)
        return tokens.of(starts, ends), tokens.of(firsts, firsts + sizes)

    def _leave_out(self, tokens: Integers) -> "_Tokens":
        """Return what the words at these positions, of whole texts, have under the counts of all other texts."""
        texts, rows, pair_rows = self.texts[tokens], self.rows[tokens], self.pair_rows[tokens]
        distinct = len(self.words)
        keys, inverse, own = np.unique(texts * distinct + rows, return_inverse=True, return_counts=True)
        counts = (self.counts[keys % distinct] - own)[inverse]
        lost_words = np.bincount(keys // distinct, self.counts[keys % distinct] == own, minlength=len(self.words))
        lengths = np.bincount(texts)

        is_first = pair_rows >= 0
        pairs, pair_inverse, own_pairs = np.unique(
            texts[is_first] * len(self.pairs) + pair_rows[is_first], return_inverse=True, return_counts=True
        )
        of_pairs = pairs % len(self.pairs)
        pair_counts = np.zeros(len(tokens), np.int64)
        pair_counts[is_first] = (self.pair_counts[of_pairs] - own_pairs)[pair_inverse]
        pair_counts[pair_counts < self._fewest_pairs] = 0
        lost = of_pairs[self.pair_counts[of_pairs] == own_pairs], pairs[self.pair_counts[of_pairs] == own_pairs]
        first_keys = lost[1] // len(self.pairs) * distinct + self.pair_firsts[lost[0]]
        lost_followers = np.bincount(np.searchsorted(keys, first_keys), minlength=len(keys))
        followers = self.followers[rows] - lost_followers[inverse]

        surprise = _surprise(counts, len(self.rows) - lengths[texts], distinct - lost_words[texts])
        in_table = counts >= self._fewest_words
        backoff = _backoff(counts, followers)
        gain = _gain(pair_counts, counts, backoff, np.append(surprise[1:], 0))
        unknown = _surprise(np.zeros_like(counts), len(self.rows) - lengths[texts], distinct - lost_words[texts])
        return _Tokens(
            surprise=np.where(in_table, surprise, unknown),
            gain=np.where(pair_counts > 0, gain, -backoff * in_table),
            known=in_table & self.is_word[rows],
        )

    @property
    def _fewest_words(self) -> int:
        return _fewest(self.counts, MAX_WORDS)

    @property
    def _fewest_pairs(self) -> int:
        return _fewest(self.pair_counts, MAX_PAIRS)


@dataclass(frozen=True)
class _Tokens:
    """The surprise of words, one after the other, their gain for the next one, and whether it is a known word."""

    surprise: Float
    gain: Float
    known: NDArray[np.bool_]

    def of(self, starts: Integers, ends: Integers) -> HeldOut:
        """Return the means over the words of each range, which may overlap."""
        lengths = ends - starts
        surprise, gain, known = (np.append(0, np.cumsum(part)) for part in (self.surprise, self.gain, self.known))
        mean_gain = (gain[ends - 1] - gain[starts]) / np.maximum(lengths - 1, 1)
        features = np.stack([(surprise[ends] - surprise[starts]) / lengths, -mean_gain], axis=1)
        return HeldOut(features, lengths, known[ends] > known[starts])


def pair_ids(first: Ids, second: Ids) -> Ids:
    """Return the id of two words, below 2**31 - 1."""
    return (first * MULTIPLIER + second) % PRIME


def _surprise(counts: Integers, total: Any, distinct: Any) -> Float:
    return np.asarray(np.log(total + SMOOTHING * distinct) - np.log(counts + SMOOTHING))


def _backoff(counts: Integers, followers: Integers) -> Float:
    share = DISCOUNT * np.minimum(followers, counts) / np.maximum(counts, 1)
    return np.where(counts > 0, -np.log(share.clip(min=MIN_BACKOFF)), 0)


def _gain(pair_counts: Integers, first_counts: Integers, first_backoff: Float, second_surprise: Float) -> Float:
    discounted = np.maximum(pair_counts - DISCOUNT, 0) / np.maximum(first_counts, 1)
    return np.asarray(np.log(discounted * np.exp(second_surprise) + np.exp(-first_backoff)))


def _fewest(counts: Integers, limit: int) -> int:
    """Return the lowest number that at most `limit` of the counts reach."""
    return int(np.sort(counts)[-limit - 1]) + 1 if len(counts) > limit else 1


@cache
def _not_words() -> Integers:
    """Return the ids of punctuation and of numbers, and that of a text without any token."""
    marks = (chr(code) for code in range(0x21, 0x1_0000) if not 0xD800 <= code < 0xE000)
    numbers = (f"{number:0{width}d}" for width in range(1, 5) for number in range(10**width))
    tokens = [*(mark for mark in marks if not mark.isalnum()), *numbers]
    return np.unique([hash_token(token) for token in tokens] + [INFREQUENT])
