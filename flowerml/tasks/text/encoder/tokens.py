"""Tokens of a pretrained encoder, as the `tokenizers` library splits a text: at training and at prediction alike.

The library runs no code of a tokenizer's file, which is JSON, and needs neither torch nor transformers.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from flowerml.core.display import one_line, printable
from flowerml.core.errors import FlowermlError, InputError, ModelError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TOKENIZER = "tokenizer.json"
MAX_BYTES = 64 * 2**20  # of the file; those of a hundred languages take 17 MB
CHARACTERS_PER_TOKEN = 64  # read at most: a million Chinese characters took 3.4 s, of which 256 tokens were kept
MAX_GROWTH = 100  # by which replacements may lengthen a text: a chain of them would fill the memory
MAX_TABLE = 2 * 2**20  # characters of a normalizer; SentencePiece's table of NFKC takes 320,000
NO_TOKEN = 0  # what a text without any is read as, and what pads; a graph reads no padding


@dataclass(frozen=True)
class Tokens:
    """A function from a text to the ids of its tokens, special ones included, at most `max_tokens`.

    `content` is that of tokenizer.json. `prefix` is put before each text, as "query: " for E5. Of a text, at most the
    first 64 * `max_tokens` characters are read. Raises ModelError for a content that is no tokenizer.
    """

    content: bytes
    max_tokens: int
    prefix: str = ""

    def __post_init__(self) -> None:
        _ = self._tokenizer  # a damaged file is noticed where it is loaded, not in the middle of the texts

    def ids(self, text: str) -> NDArray[np.int32]:
        """Return the ids of a text's tokens, [T] with T from 1 to `max_tokens`; lone surrogates are replaced.

        Raises InputError where the tokenizer fails, as a stranger's regular expression may.
        """
        beginning = self.prefix + text[: CHARACTERS_PER_TOKEN * self.max_tokens]
        # The library takes valid Unicode only.
        valid = beginning.encode("utf-8", "replace").decode()
        with _translated(lambda reason: InputError("network_failed", f"the tokenizer fails for this text: {reason}")):
            ids = self._tokenizer.encode(valid).ids
        return np.array(ids[: self.max_tokens] or [NO_TOKEN], np.int32)

    @property
    def size(self) -> int:
        """The number of tokens in the vocabulary."""
        return max(1, self._tokenizer.get_vocab_size(with_added_tokens=True))

    @cached_property
    def highest(self) -> int:
        """The highest id."""
        return max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=NO_TOKEN)

    @cached_property
    def _tokenizer(self) -> "Tokenizer":
        if len(self.content) > MAX_BYTES:
            raise ModelError(f"{TOKENIZER}: expected at most {MAX_BYTES:,} bytes, found {len(self.content):,}")
        try:
            from tokenizers import Tokenizer
        except ImportError:
            raise ModelError(
                f"a classifier with {TOKENIZER} needs the package tokenizers; install it: pip install tokenizers"
            ) from None
        with _translated(lambda reason: ModelError(f"{TOKENIZER} is no tokenizer: {reason}")):
            tokenizer = Tokenizer.from_buffer(self.content)
            _check_normalizer(tokenizer)
            tokenizer.no_padding()
            if tokenizer.num_special_tokens_to_add(is_pair=False) >= self.max_tokens:
                raise ModelError(f"{TOKENIZER}: its special tokens leave no room for a text in {self.max_tokens}")
            tokenizer.enable_truncation(self.max_tokens)
        return tokenizer


def _check_normalizer(tokenizer: "Tokenizer") -> None:
    """Raise ModelError for a normalizer that may make a text longer than any real one does."""
    if tokenizer.normalizer is None:
        return
    state = tokenizer.normalizer.__getstate__()  # its JSON
    if len(state) > MAX_TABLE or _growth(json.loads(state)) > MAX_GROWTH:
        raise ModelError(f"{TOKENIZER}: its normalizer may lengthen a text {MAX_GROWTH} times and more")


def _growth(normalizer: Any) -> float:
    """Return how many times longer the replacements of a normalizer can make a text."""
    if isinstance(normalizer, list):
        product = 1.0
        for part in normalizer:
            product *= _growth(part)
        return product
    if not isinstance(normalizer, dict):
        return 1.0
    own = max(1, len(normalizer["content"])) if isinstance(normalizer.get("content"), str) else 1
    return own * _growth(normalizer.get("normalizers"))


@contextmanager
def _translated(to_error: Callable[[str], FlowermlError]) -> Iterator[None]:
    """Raise `to_error(reason)` for what the library raises: Exception itself, or a panic in Rust."""
    try:
        yield
    except (FlowermlError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # the class of a panic derives from no other
        raise to_error(printable(one_line(error), 200)) from None
