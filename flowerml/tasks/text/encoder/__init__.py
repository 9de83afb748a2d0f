"""The encoder of texts: preprocessing with the dictionary of the training texts and, if wanted, a pretrained encoder.

At prediction only the preprocessing runs here; a pretrained encoder is in the classifier's graph.
"""

import platform
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property, partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
from numpy.typing import NDArray

from flowerml.core import files
from flowerml.engine import onnx
from flowerml.tasks.records import Known, nothing_known
from flowerml.tasks.text.encoder.cleaning import Cleaning
from flowerml.tasks.text.encoder.preprocessing import Preprocessing, Sequences
from flowerml.tasks.text.encoder.tokens import TOKENIZER
from flowerml.tasks.text.encoder.vocabulary import Vocabulary

if TYPE_CHECKING:
    import pyarrow as pa
    from torch import Tensor, nn

    from flowerml.data.examples import Example
    from flowerml.tasks.text.encoder.backbone import Built
    from flowerml.tasks.text.encoder.backbone.features import Engine
    from flowerml.tasks.text.encoder.backbone.pooled import Pooled
    from flowerml.tasks.text.sections import Encode, Limits

__all__ = ["Encoder", "Preprocessing", "Sequences"]

SEQUENCES = ("stems", "words")
# Characters. In longer texts n-grams of characters gain nothing (on film reviews -0.01 to 0.00 accuracy; on tickets of
# 150 characters 0.02), and there are thousands in each.
SHORT_TEXT = 600
FEATURES = "features"  # what networks read of a pretrained encoder
FROZEN = "frozen.safetensors"
# Packages whose versions may change the features of a text.
PACKAGES = ("numpy", "onnxruntime", "tokenizers", "torch", "transformers")
ONLY_DESCRIBE = ("name", "licence")  # of the facts of a pretrained encoder


@dataclass(frozen=True)
class Encoder:
    """An encoder whose encodings are the sequences of its preprocessing and, with `backbone`, the features [1, D].

    `backbone` are the facts that rebuild the pretrained encoder `frozen`, as plain data.
    """

    preprocessing: Preprocessing
    backbone: Mapping[str, Any] | None = None
    frozen: "Pooled | None" = field(default=None, compare=False, repr=False)

    @classmethod
    def fit(cls, examples: "Iterable[Example]", section: "Encode", limits: "Limits") -> Self:
        """Return the encoder that `section` describes, with the most frequent stems of the examples as its dictionary.

        Texts have at most `limits.characters`. `section.characters` are kept of each, or none where half of the texts
        are longer than SHORT_TEXT. Two of the `vocab_size` codes are those of padding and infrequent stems;
        ties between equally frequent stems are broken by first appearance. Raises ModelError and DownloadError where
        the pretrained encoder cannot be had.
        """
        built = _built(section)  # first, as it may fail
        cleaning = Cleaning(**{field.name: getattr(section, field.name) for field in fields(Cleaning)})
        words: Counter[str] = Counter()
        lengths = array("l")
        for example in examples:
            lengths.append(len(_text(example.raw)))
            words.update(cleaning.words(cleaning.lines(_text(example.raw))))
        stems: Counter[str] = Counter()
        for word, count in words.items():
            if stem := cleaning.reduced(word):
                stems[stem] += count
        vocabulary = Vocabulary.of(stems, size=section.vocab_size)
        preprocessing = Preprocessing(
            cleaning,
            vocabulary,
            section.max_length,
            section.max_words,
            limits.characters,
            characters=section.characters if np.median(lengths or [0]) <= SHORT_TEXT else 0,
        )
        if built is None:
            return cls(preprocessing)
        return cls(replace(preprocessing, tokens=built.tokens), built.facts, built.frozen)

    @property
    def columns(self) -> "dict[str, pa.DataType]":
        """The Arrow type of each array that `encode` yields."""
        import pyarrow as pa

        names = (*SEQUENCES, "characters") if self.preprocessing.characters else SEQUENCES
        columns = {name: pa.list_(pa.int32()) for name in names}
        if self.backbone is None:
            return columns
        return {**columns, FEATURES: pa.list_(pa.list_(pa.float32(), self.backbone["features"]))}

    def encode(
        self, examples: "Iterable[Example]", section: "Encode", *, known: Known = nothing_known
    ) -> Iterator[Sequences]:
        """Yield the sequences of each example, in order; an empty text is encoded as one infrequent word.

        Memory does not grow with the number of examples.
        """
        if self.frozen is None:
            return (self.preprocessing.sequences(_text(example.raw)) for example in examples)
        rows = self._engine.extract(partial(self._read, known=known), examples)
        return (row if features is None else {**row, FEATURES: features[None]} for row, features in rows)

    def adapted(self, section: "Encode") -> Self:
        """Return the encoder: it has no border that moves."""
        return self

    def row_bytes(self, examples: "Iterable[Example]", section: "Encode") -> int:
        """Return 0: encodings are smaller than the examples, or not much larger."""
        return 0

    def parts(self, section: "Encode") -> dict[str, str]:
        """Return a digest of all that features depend on besides the texts; the dictionary is not among it.

        It covers the weights, the tokenizer, and the features of one text, as processors round differently.
        """
        from flowerml.core import fingerprint

        if self.frozen is None or self.backbone is None:
            return {}
        text = "A film to see twice, or once."
        ((_, probe),) = self._engine.extract(lambda text: (text, self._tokens(text)), [text])
        assert probe is not None, "it was not known"
        facts = {
            "python": platform.python_version(),
            "strip_html": self.preprocessing.cleaning.strip_html,
            "backbone": {name: value for name, value in self.backbone.items() if name not in ONLY_DESCRIBE},
            "weights": fingerprint.of_tensors(self.frozen.state_dict()),
            "tokenizer": {name: sha256(asset).hexdigest() for name, asset in self.assets().items()},
            "probe": probe.tolist(),
            **self._engine.environment(),
        }
        code = [Path(__file__).parent, Path(onnx.__file__)]
        return {FEATURES: fingerprint.of(facts, packages=PACKAGES, code=code)}

    def fingerprint(self, section: "Encode", split: str) -> str:
        """Return a digest of all that encodings depend on besides the texts.

        These are the steps, the dictionary and the version of Python, which defines what a letter is; and `parts`.
        """
        from flowerml.core import fingerprint

        facts = {**self.preprocessing.state(), "python": platform.python_version(), **self.parts(section)}
        del facts["max_characters"]  # rejects texts, changes none
        return fingerprint.of(facts, packages=("numpy",), code=[Path(__file__).parent])

    def graph(self, network: "nn.Module", detector: "nn.Module | None" = None) -> "nn.Module":
        """Return a module with all inputs of the graph that calls the network with those named in its `reads`.

        With a `detector`, called likewise, it returns (logits, strangeness, features).
        """
        from torch import nn

        parts = [network] if detector is None else [network, detector]
        reads = [cast(tuple[str, ...], part.reads) for part in parts]
        names = self.preprocessing.inputs
        pretrained = self.frozen if any(FEATURES in read for read in reads) else None

        class Reader(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.frozen, self.network, self.detector = pretrained, network, detector

            def forward(self, *arrays: "Tensor") -> "Tensor | tuple[Tensor, ...]":
                inputs = dict(zip(names, arrays, strict=True))
                if self.frozen is not None:
                    inputs[FEATURES] = self.frozen(inputs["tokens"], inputs["token_lengths"])
                logits, *others = (
                    part(*(inputs[name] for name in read)) for part, read in zip(parts, reads, strict=True)
                )
                return (logits, *others[0]) if others else logits

        return Reader()

    def read_by(self, *parts: "nn.Module | None") -> Self:
        """Return the encoder without a pretrained part that none of these networks reads."""
        if any(FEATURES in cast(tuple[str, ...], part.reads) for part in parts if part is not None):
            return self
        return replace(self, preprocessing=replace(self.preprocessing, tokens=None), backbone=None, frozen=None)

    def state(self) -> dict[str, Any]:
        """Return everything that prediction needs besides `assets()`, as plain data."""
        state = self.preprocessing.state()
        return state if self.backbone is None else {**state, "backbone": dict(self.backbone)}

    def assets(self) -> dict[str, bytes]:
        """Return the files that prediction needs, by name: the tokenizer of a pretrained encoder."""
        return self.preprocessing.assets()

    def save(self, folder: Path) -> None:
        """Write the state, the assets and the weights of a pretrained encoder, atomically."""
        with files.replacing(folder) as temporary:
            temporary.mkdir()
            files.write_json(temporary / "encoder.json", self.state())
            for name, content in self.assets().items():
                (temporary / name).write_bytes(content)
            if self.frozen is not None:
                from safetensors.torch import save_model

                save_model(self.frozen, str(temporary / FROZEN))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Return the encoder saved in `folder`."""
        state = files.read_json(folder / "encoder.json")
        backbone = state.get("backbone") if isinstance(state, dict) else None
        assets = {TOKENIZER: (folder / TOKENIZER).read_bytes()} if backbone else {}
        preprocessing = Preprocessing.from_state(state, assets)
        if backbone is None:
            return cls(preprocessing)
        from safetensors.torch import load_model

        from flowerml.tasks.text.encoder.backbone import architecture

        frozen = architecture(backbone)
        load_model(frozen, folder / FROZEN, strict=True)
        return cls(preprocessing, backbone, frozen)

    @cached_property
    def _engine(self) -> "Engine":
        from flowerml.tasks.text.encoder.backbone.features import select_engine

        assert self.frozen is not None, "there is a pretrained encoder"
        return select_engine(self.frozen)

    def _read(self, example: "Example", *, known: Known) -> tuple[Sequences, NDArray[np.int32] | None]:
        """Return the encodings besides the features, and the tokens to compute these from, None if they are known."""
        sequences = self.preprocessing.sequences(_text(example.raw))
        ids = sequences.pop("tokens")
        features = None if known is nothing_known else known(example.digest).get(FEATURES)
        return (sequences, ids) if features is None else ({**sequences, FEATURES: features}, None)

    def _tokens(self, text: str) -> NDArray[np.int32]:
        return self.preprocessing.sequences(text)["tokens"]


def _built(section: "Encode") -> "Built | None":
    if section.backbone is None:
        return None
    from flowerml.tasks.text.encoder.backbone import build

    return build(section)


def _text(raw: str | bytes) -> str:
    assert isinstance(raw, str), "examples of this task are kept as text"
    return raw
