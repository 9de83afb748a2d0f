"""The encoder of texts: preprocessing with the dictionary of the training texts. It has no frozen network."""

import platform
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

from flowerml.core import files
from flowerml.tasks.text.encoder.cleaning import Cleaning
from flowerml.tasks.text.encoder.preprocessing import Preprocessing, Sequences
from flowerml.tasks.text.encoder.vocabulary import Vocabulary

if TYPE_CHECKING:
    import pyarrow as pa
    from torch import Tensor, nn

    from flowerml.data.examples import Example
    from flowerml.tasks.text.sections import Encode, Limits

__all__ = ["Encoder", "Preprocessing", "Sequences"]

SEQUENCES = ("stems", "words")


@dataclass(frozen=True)
class Encoder:
    """An encoder whose encodings are the sequences of its preprocessing."""

    preprocessing: Preprocessing

    @classmethod
    def fit(cls, examples: "Iterable[Example]", section: "Encode", limits: "Limits") -> Self:
        """Return the encoder that `section` describes, with the most frequent stems of the examples as its dictionary.

        Texts have at most `limits.characters`. Two of the `vocab_size` codes are those of padding and infrequent stems;
        ties between equally frequent stems are broken by first appearance.
        """
        cleaning = Cleaning(**{field.name: getattr(section, field.name) for field in fields(Cleaning)})
        words: Counter[str] = Counter()
        for example in examples:
            words.update(cleaning.words(cleaning.lines(_text(example.raw))))
        stems: Counter[str] = Counter()
        for word, count in words.items():
            if stem := cleaning.reduced(word):
                stems[stem] += count
        vocabulary = Vocabulary.of(stems, size=section.vocab_size)
        return cls(Preprocessing(cleaning, vocabulary, section.max_length, section.max_words, limits.characters))

    @property
    def columns(self) -> "dict[str, pa.DataType]":
        """The Arrow type of each array that `encode` yields."""
        import pyarrow as pa

        return {name: pa.list_(pa.int32()) for name in SEQUENCES}

    def encode(self, examples: "Iterable[Example]", section: "Encode") -> Iterator[Sequences]:
        """Yield the sequences of each example, in order; an empty text is encoded as one infrequent word."""
        return (self.preprocessing.sequences(_text(example.raw)) for example in examples)

    def fingerprint(self, section: "Encode", split: str) -> str:
        """Return a digest of all that encodings depend on besides the texts.

        These are the steps, the dictionary and the version of Python, which defines what a letter is.
        """
        from flowerml.core import fingerprint

        facts = {**self.state(), "python": platform.python_version()}
        del facts["max_characters"]  # rejects texts, changes none
        return fingerprint.of(facts, packages=("numpy",), code=[Path(__file__).parent])

    def graph(self, network: "nn.Module", detector: "nn.Module | None" = None) -> "nn.Module":
        """Return a module with all inputs of the graph that calls the network with those named in its `reads`.

        With a `detector`, called likewise, it returns (logits, strangeness [B]).
        """
        from torch import nn

        parts = [network] if detector is None else [network, detector]

        class Reader(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.network, self.detector = network, detector

            def forward(
                self, stems: "Tensor", stem_lengths: "Tensor", words: "Tensor", word_lengths: "Tensor"
            ) -> "Tensor | tuple[Tensor, ...]":
                inputs = {"stems": stems, "stem_lengths": stem_lengths, "words": words, "word_lengths": word_lengths}
                outputs = tuple(part(*(inputs[name] for name in cast(tuple[str, ...], part.reads))) for part in parts)
                return outputs if detector is not None else outputs[0]

        return Reader()

    def state(self) -> dict[str, Any]:
        """Return everything that prediction needs, as plain data."""
        return self.preprocessing.state()

    def save(self, folder: Path) -> None:
        """Write the state, atomically."""
        with files.replacing(folder) as temporary:
            temporary.mkdir()
            files.write_json(temporary / "encoder.json", self.state())

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Return the encoder saved in `folder`."""
        return cls(Preprocessing.from_state(files.read_json(folder / "encoder.json")))


def _text(raw: str | bytes) -> str:
    assert isinstance(raw, str), "examples of this task are kept as text"
    return raw
