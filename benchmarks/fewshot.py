"""Compare n-grams, a frozen encoder and their blend with few labels: python benchmarks/fewshot.py DATA --backbone NAME

DATA is as for benchmarks/texts.py. --backbone is `encode.backbone`: hf/OWNER/NAME, or a folder; without one only
n-grams are measured.

A draw takes this many texts of each class, or all that it has; a draw of more labels holds that of fewer. They are all
that a method gets: as `flowerml train` does, it deals train and valid out of them and searches, with the networks of
the project. All are scored on the same test texts. Texts are encoded once for all draws, with the dictionary of all
drawn texts (which matters to an LSTM alone). Where --cache is given, the encodings stay there for the next run.
"""

import argparse
import json
import os
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from texts import parse_set, spread
from torch import Tensor, nn

from flowerml.config.params import Data, Train
from flowerml.config.pipeline import Pipeline
from flowerml.data import examples, split
from flowerml.data.encodings import Encoded
from flowerml.data.examples import Example, Examples, Key
from flowerml.data.layout import Row
from flowerml.pipeline import adhoc, encode, extract
from flowerml.search.study import Search
from flowerml.tasks import text
from flowerml.tasks.text import networks
from flowerml.tasks.text.encoder import Encoder
from flowerml.tasks.text.networks.batches import Sequences
from flowerml.tracking import lineage

# The options of `flowerml train` that choose each: with a backbone alone it blends.
METHODS: dict[str, dict[str, Any]] = {
    "ngrams": {"train.network": "ngrams"},
    "head": {"train.network": "head", "train.search.trials": 1},
    "blend": {},
}
BATCH_SIZE = 256
TOLERANCE = 0.005  # of the blend, below the better of its parts

Accuracies = dict[int, dict[str, list[float]]]
"""By labels a class and method, one for each draw."""


@dataclass(frozen=True)
class Texts:
    """The encodings of the drawn texts and of the test sample, by one encoder."""

    table: pa.Table
    encoder: Encoder

    def of(self, splits: dict[str, str]) -> Encoded:
        """Return the rows whose id has a split here, in that split."""
        assigned = [splits.get(id) for id in self.table.column("id").to_pylist()]
        index = self.table.column_names.index("split")
        rows = self.table.set_column(index, "split", pa.array(assigned, pa.string()))
        return Encoded(rows.filter(rows.column("split").is_valid()))


def draw(keys: list[Key], sizes: list[int], number: int) -> dict[int, list[Key]]:
    """Return the keys of a draw for each number of labels a class."""
    by_class: dict[str, list[Key]] = defaultdict(list)
    for key in sorted(keys, key=lambda key: key.id):
        by_class[key.label].append(key)
    generator = np.random.default_rng(number)
    shuffled = [[of_class[row] for row in generator.permutation(len(of_class))] for of_class in by_class.values()]
    return {size: [key for of_class in shuffled for key in of_class[:size]] for size in sizes}


def encode_texts(pipeline: Pipeline, ids: set[str], tested: set[str], folder: Path) -> Texts:
    """Encode the drawn texts and the test sample; with the same texts in an earlier run, that run's are used."""

    def rows() -> Iterator[Example]:
        for example in Examples(pipeline.paths.examples).of(*split.SPLITS, where=lambda key: key.id in ids | tested):
            yield Example(example.id, "valid" if example.id in tested else "train", example.label, example.raw)

    chosen, path = Examples(folder / "examples.parquet"), folder / "encoded.arrow"
    examples.write(chosen.path, rows(), raw=str)
    encoder = Encoder.fit(chosen.of("train"), pipeline.encode, pipeline.data.limits)
    print(f"{pipeline.data.source}: {encode.encode(path, chosen, encoder, pipeline.encode)}", file=sys.stderr)
    return Texts(Encoded.read(path).table, encoder)


def training_data(texts: Texts, drawn: list[Key], section: Data, seed: int) -> networks.Texts:
    """Return the encodings of the drawn texts, dealt into train and valid."""
    # A test split that the rows already have is not dealt again, as in a source with one.
    rows = [Row("test", drawn[0].label, "test"), *(Row(key.id, key.label) for key in drawn)]
    dealt = split.deal(rows, valid=section.split.valid, test=section.split.test, seed=seed)
    encoded = texts.of({row.id: row.split for row in dealt if row.split is not None})
    return text.training_data(encoded, encoded.classes, texts.encoder)


def search(section: Train, data: networks.Texts) -> nn.Module:
    """Return the best network of a search."""
    trials, best = Search(section), None
    for trial in trials:
        network, epochs = text.build_network(data, trial.section)
        for epoch in epochs:
            if trial.report(epoch):
                break
        epochs.close()
        if trials.kept_with(trial)[:1] == [trial]:
            best = network
    assert best is not None, "the first trial is the best so far"
    return best


@torch.inference_mode()
def predict(network: nn.Module, encoded: Encoded) -> NDArray[np.int64]:
    """Return the class of each row of the split valid, [N]."""
    network.eval()
    rows = np.arange(len(encoded.of("valid", "id")))
    batches = [rows[start : start + BATCH_SIZE] for start in range(0, len(rows), BATCH_SIZE)]
    inputs = _inputs(encoded)
    return np.concatenate([network(*inputs(network.reads, batch)).argmax(1).numpy() for batch in batches])


def _inputs(encoded: Encoded) -> Any:
    """Return a function from names of inputs and rows to tensors, of the split valid."""
    kinds = {field.name: field.type.value_type for field in encoded.table.schema if pa.types.is_list(field.type)}
    ragged = [name for name, kind in kinds.items() if pa.types.is_integer(kind)]
    sequences = {name: Sequences.of(encoded, "valid", name) for name in ragged}
    features = None
    if "features" in kinds:
        features = (
            encoded.of("valid", "features").flatten().flatten().to_numpy().reshape(-1, kinds["features"].list_size)
        )

    def inputs(names: tuple[str, ...], rows: NDArray[np.int64]) -> list[Tensor]:
        tensors: dict[str, Tensor] = {}
        for name, sequence in sequences.items():
            tensors[name], tensors[f"{name[:-1]}_lengths"] = sequence.padded(rows)
        if features is not None:
            tensors["features"] = torch.from_numpy(features[rows])
        return [tensors[name] for name in names]

    return inputs


def measure(arguments: argparse.Namespace, data: str, values: dict[str, Any], folder: Path) -> Accuracies:
    """Return the accuracies on the test sample."""
    methods = METHODS if arguments.backbone else {"ngrams": METHODS["ngrams"]}
    sections = {}
    for name, changes in methods.items():
        changed = {**values, **changes, "encode.backbone": arguments.backbone}
        pipeline, _ = adhoc.pipeline_from_data(data, "text", changed, name="texts", root=folder)
        sections[name] = pipeline.train
    extract.run(pipeline)
    table = Examples(pipeline.paths.examples)
    draws = [draw(list(table.keys("train", "valid")), arguments.labels, number) for number in range(arguments.draws)]
    tested = sorted(key.id for key in table.keys("test"))
    sample = set(np.random.default_rng(0).permutation(tested)[: arguments.test].tolist())
    cache = arguments.cache / Path(data).name if arguments.cache else folder
    cache.mkdir(parents=True, exist_ok=True)
    drawn_ids = {key.id for drawn in draws for part in drawn.values() for key in part}
    texts = encode_texts(pipeline, drawn_ids, sample, cache)
    test = texts.of(dict.fromkeys(sample, "valid"))
    accuracies: Accuracies = {size: defaultdict(list) for size in arguments.labels}
    for number, drawn in enumerate(draws):
        for size, keys in drawn.items():
            classes = tuple(sorted({key.label for key in keys}))
            targets = test.targets("valid", classes)
            data_of_draw = training_data(texts, keys, pipeline.data, number)
            for name, section in sections.items():
                hits = predict(search(section, data_of_draw), test) == targets
                accuracies[size][name].append(float(hits.mean()))
            line = ", ".join(f"{name} {values[-1]:.4f}" for name, values in accuracies[size].items())
            print(f"draw {number}, {size} labels a class: {line}", file=sys.stderr)
    return accuracies


def table(name: str, accuracies: Accuracies) -> str:
    """Return a row for each number of labels, in Markdown, and what follows from them."""
    methods = list(next(iter(accuracies.values())))
    lines = [f"| {name}: labels a class | {' | '.join(methods)} |", f"| {'--- | ' * (len(methods) + 1)}".strip()]
    for size, of_methods in accuracies.items():
        lines.append(f"| {size:,} | {' | '.join(map(spread, of_methods.values()))} |")
    return "\n".join([*lines, "", *([crossing(accuracies), *losses(accuracies)] if len(methods) > 1 else [])])


def crossing(accuracies: Accuracies) -> str:
    """Return from how many labels on n-grams are not below the encoder alone."""
    pays = [size for size, values in accuracies.items() if mean(values["ngrams"]) >= mean(values["head"])]
    if not pays:
        return f"up to {max(accuracies):,} labels a class the encoder is above n-grams"
    return f"from {min(pays):,} labels a class on n-grams are not below the encoder"


def losses(accuracies: Accuracies) -> list[str]:
    """Return a line for each number of labels where the blend is clearly below the better of its parts."""
    gaps = {
        size: max(mean(values["ngrams"]), mean(values["head"])) - mean(values["blend"])
        for size, values in accuracies.items()
    }
    return [
        f"with {size:,} labels a class the blend is {gap:.4f} below the better of its parts"
        for size, gap in gaps.items()
        if gap > TOLERANCE
    ]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", metavar="DATA[::NAME=VALUE…]")
    parser.add_argument("--backbone")
    parser.add_argument("--labels", type=int, nargs="+", default=[8, 25, 100, 500])
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--test", type=int, default=2000, help="at most this many test texts")
    parser.add_argument("--cache", type=lambda name: Path(name).resolve(), help="a folder for the encodings")
    parser.add_argument("--json", type=lambda name: Path(name).resolve())
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    if arguments.backbone and Path(arguments.backbone).is_dir():
        arguments.backbone = str(Path(arguments.backbone).resolve())
    results = {}
    for given in arguments.data:
        data, values = parse_set(given)
        # In an empty folder no params.yaml changes the defaults.
        with tempfile.TemporaryDirectory() as name, chdir(name):
            results[Path(data).name] = measure(arguments, data, values, Path(name).resolve())
    print("\n\n".join(table(name, accuracies) for name, accuracies in results.items()))
    if arguments.json:
        about = {**lineage.environment(), "cores": os.cpu_count(), "load": os.getloadavg()[0]}
        result = {"about": about, "arguments": vars(arguments), "accuracies": results}
        arguments.json.write_text(json.dumps(result, indent=2, default=str) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
