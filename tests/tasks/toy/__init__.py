"""A third task, as small as one can be: strands of DNA (`.dna` files of A, C, G and T), told apart by their bases."""

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from flowerml.config import params
from flowerml.core import files, fingerprint
from flowerml.core.errors import InputError
from flowerml.data.encodings import Encoded
from flowerml.data.examples import Example
from flowerml.data.layout import Listing, list_files, read_files
from flowerml.engine.fit import Trainer
from flowerml.engine.similar import Similar
from flowerml.tasks.records import (
    Backbone,
    Choice,
    Form,
    Inspection,
    Known,
    LogOdds,
    SectionTypes,
    Situation,
    Snippets,
    nothing_known,
)
from tests.tasks.toy.networks import Counts, Mean, head

BASES = "ACGT"

INPUT = "strand"
NETWORKS = Path(__file__).with_name("networks")
RAW = str
SUFFIXES = frozenset({".dna"})
TABLES: tuple[str, ...] = ()
NOT_READ: Mapping[str, str] = {".fasta": ".fasta files are not read: write each strand to a file"}
NOUN = "strand"
FORM: Form = "text"
POLES = False
SAMPLE_DATA = "strands of two classes"
EXAMPLE_ARGUMENT = "ACGT"


class Encode(params.Section):
    """What is counted."""

    relative: Literal[True]


@dataclass(frozen=True)
class Preprocessing:
    """The share of each base in a strand."""

    MAX_BATCH: ClassVar[int] = 4
    packages: ClassVar[tuple[str, ...]] = ()

    def transform(self, raw: str) -> NDArray[np.float32]:
        """Return the shares [4]."""
        if not raw or set(raw) - set(BASES):
            raise InputError("not_dna", f"expected letters of {BASES}, found {raw[:20]!r}")
        return np.array([raw.count(base) / len(raw) for base in BASES], np.float32)

    def collate(self, prepared: list[NDArray[np.float32]]) -> dict[str, NDArray[Any]]:
        """Return {"strand": [B, 4]}."""
        return {INPUT: np.stack(prepared)}

    def random_inputs(self, count: int, *, seed: int) -> dict[str, NDArray[Any]]:
        """Return random shares."""
        return {INPUT: np.random.default_rng(seed).random((count, 4), dtype=np.float32)}

    def visualize(self, prepared: NDArray[np.float32]) -> str:
        """Return the shares in words."""
        return ", ".join(f"{base} {share:.0%}" for base, share in zip(BASES, prepared, strict=True))

    @classmethod
    def from_state(cls, state: dict[str, Any], assets: Mapping[str, bytes]) -> Self:
        """Return it."""
        return cls()


@dataclass(frozen=True)
class Encoder:
    """Nothing but the preprocessing."""

    preprocessing: Preprocessing

    @classmethod
    def fit(cls, examples: Iterable[Example], section: Encode, limits: params.Limits) -> Self:
        """Return it."""
        return cls(Preprocessing())

    @property
    def columns(self) -> dict[str, pa.DataType]:
        """One list of four shares a row."""
        return {"shares": pa.list_(pa.float32())}

    def adapted(self, section: Encode) -> Self:
        """Return the encoder: it has no border that moves."""
        return self

    def row_bytes(self, examples: Iterable[Example], section: Encode) -> int:
        """Return 0: encodings are smaller than the examples, or not much larger."""
        return 0

    def parts(self, section: Encode) -> dict[str, str]:
        """Return none."""
        return {}

    def encode(
        self, examples: Iterable[Example], section: Encode, *, known: Known = nothing_known
    ) -> Iterator[dict[str, Any]]:
        """Yield the shares of each example."""
        return ({"shares": self.preprocessing.transform(str(example.raw))} for example in examples)

    def fingerprint(self, section: Encode, split: str) -> str:
        """Return a digest of this file."""
        return fingerprint.of({}, packages=("numpy",), code=[Path(__file__)])

    def graph(self, network: nn.Module, detector: nn.Module | None = None) -> nn.Module:
        """Return the network: nothing is frozen, and nothing detected."""
        return network

    def read_by(self, *parts: nn.Module | None) -> Self:
        """Return it: it has no part to leave out."""
        return self

    def assets(self) -> dict[str, bytes]:
        """Return no files."""
        return {}

    def state(self) -> dict[str, Any]:
        """Return nothing that needs to be known."""
        return {"bases": BASES}

    def save(self, folder: Path) -> None:
        """Write the state."""
        with files.replacing(folder) as temporary:
            temporary.mkdir()
            files.write_json(temporary / "encoder.json", self.state())

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Return it."""
        return cls(Preprocessing())


@dataclass(frozen=True)
class Explanation:
    """By how much the log odds of a class fall without each base."""

    label: str
    words: tuple[tuple[str, float], ...]

    def to_json(self) -> dict[str, Any]:
        """Return the bases as words with weights."""
        words = [{"text": text, "weight": weight} for text, weight in self.words]
        return {"kind": "toy", "label": self.label, "words": words}


def section_types() -> SectionTypes:
    return SectionTypes(data=params.Data, encode=Encode, train=params.Train)


def write_sample(archive: Path, section: params.Data) -> None:
    raise NotImplementedError("the toy task has no sample")


def listing(source: Path, section: params.Data, *, labelled: bool) -> Listing:
    return list_files(source, suffixes=SUFFIXES, labelled=labelled, limits=section.limits.of_archives())


def contents(source: Path, section: params.Data, wanted: Collection[str]) -> Iterator[tuple[str, bytes]]:
    return read_files(source, wanted=wanted, limits=section.limits.of_archives())


def read(raw: bytes, section: params.Data) -> str:
    return from_bytes(raw)


def recognizes(content: bytes) -> bool:
    return not set(content) - set(BASES.encode())


def digest(content: bytes, section: params.Data) -> bytes | None:
    try:
        return hashlib.sha256(from_bytes(content).encode()).digest()
    except InputError:
        return None


def inspect(name: str, raw: str, section: params.Data) -> Inspection:
    return Inspection(hashlib.sha256(raw.encode()).digest(), Preprocessing().transform(raw))


def classify_error(name: str, content: bytes, error: InputError) -> str:
    return "unreadable"


def near_duplicates(signatures: NDArray[np.generic], section: params.Checks) -> Similar:
    return Similar([])


def vectors(encoded: Encoded) -> NDArray[np.float32]:
    shares = np.array(encoded.table.column("shares").to_pylist(), np.float32)
    return shares / np.linalg.norm(shares, axis=1, keepdims=True)


def properties(raw: str) -> Mapping[str, float | str]:
    return {"length": float(len(raw))}


def from_bytes(content: bytes) -> str:
    text = content.decode("ascii", errors="replace").strip()
    Preprocessing().transform(text)
    return text


def from_json(value: Any) -> str:
    return from_bytes(str(value).encode())


def is_large(raw: str) -> bool:
    return False


def to_json(raw: str) -> str:
    return raw


def title(classes: Sequence[str] | None) -> str:
    return "Strand"


def samples(classes: Sequence[str] | None) -> list[bytes | str]:
    return ["ACGTACGT", "TTTTTTAC"]


def preview(raw: str, *, large: bool = False) -> str:
    return raw if large else raw[:40]


def excerpt(raw: str) -> str:
    """Return the beginning of a strand."""
    return raw[:100]


def explain(raw: str, preprocessing: Preprocessing, log_odds: LogOdds, *, label: str) -> Explanation:
    whole = preprocessing.transform(raw)
    rows = [whole, *(np.where(np.arange(4) == base, 0, whole).astype(np.float32) for base in range(4))]
    values = log_odds(rows)
    falls = dict(zip(BASES, values[0] - values[1:], strict=True))
    return Explanation(label, tuple((base, float(falls[base])) for base in raw))


def draw(axes: Any, raw: str, preprocessing: Preprocessing, explain: Callable[[], Any], *, name: str) -> None:
    axes.bar(list(BASES), preprocessing.transform(raw))


def unlike(strangeness: float) -> str:
    return "unlike the training strands"


def snippets(address: str) -> Snippets:
    return Snippets(python=f"load({address!r})", spark=f"spark_udf({address!r})", request="echo ACGT |")


def describe_network(encoder: Mapping[str, Any], parameters: Mapping[str, Any]) -> str:
    return f"a linear head on shares of {encoder['bases']}"


def limitations(parameters: Mapping[str, Any]) -> list[str]:
    return ["It does not know the order of bases."]


def continues(encoder: Mapping[str, Any], parameters: Mapping[str, Any]) -> bool:
    return True


def training_data(encoded: Encoded, classes: tuple[str, ...], encoder: Encoder) -> Counts:
    return Counts(encoded, classes)


def build_network(data: Counts, section: params.Train) -> tuple[nn.Module, Trainer]:
    network = head(len(data.train_counts), seed=section.seed)
    return network, Trainer(network, data, **section.trainer_arguments())


def with_valid(data: Counts, section: params.Train) -> Counts:
    return data.with_valid()


def predict_valid(data: Counts, network: nn.Module) -> Tensor:
    with torch.inference_mode():
        return torch.cat([network.eval()(*inputs) for inputs, _ in data.valid(batch_size=1)])


def valid_targets(data: Counts) -> Tensor:
    return torch.cat([targets for _, targets in data.valid(batch_size=1)])


def combined(networks: Sequence[nn.Module], weights: Sequence[float]) -> nn.Module:
    return Mean(networks, weights)


def backbones(*, published: bool) -> Iterator[Backbone]:
    return iter(())


def preset(name: str, situation: Situation) -> list[Choice]:
    return [Choice("train.epochs", 1 if name == "fast" else 2, "few are enough")]


def preset_hint(parameters: Mapping[str, Any]) -> str | None:
    return None


def suggested_threads(data: Counts, section: params.Train) -> int | None:
    return 1


def fit_detector(data: Counts, network: nn.Module, before: Any = None) -> None:
    return None
