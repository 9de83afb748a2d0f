"""Time a search on cached encodings against the notebook's method: python benchmarks/search.py PICTURES

The notebook sends every picture through the frozen network in every epoch of every trial, in plain torch; flowerml
encodes once and trains on the encodings. Both get the same pictures (PICTURES is a folder, tar or zip with one folder
per class), the same transform without augmentation, and the same heads, seeds, order, optimizer, schedule and epochs;
all other settings are those of the section `flowers` of params.yaml. So they differ in time, and in the last bits of
the features, which ONNX Runtime and torch round differently.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from flowerml.config.pipeline import Pipeline
from flowerml.data import examples, split
from flowerml.data.encodings import Encoded
from flowerml.data.examples import Example, Examples
from flowerml.engine.devices import Inputs
from flowerml.engine.parallel import batches, ordered_map
from flowerml.pipeline.encode import encode
from flowerml.search.study import Search
from flowerml.tasks import image
from flowerml.tasks.image.encoder import Encoder
from flowerml.tasks.pipelines import load_pipeline
from flowerml.tracking import lineage

# Pictures in one pass of the frozen network: on a CPU, passes of 64 took torch up to 3.5 times as long a picture.
PASS_SIZE = 4


class RecomputedFeatures:
    """Batches whose pictures are decoded and sent through the frozen network again in every epoch."""

    def __init__(self, table: Examples, encoder: Encoder) -> None:
        self.examples = {name: list(table.of(name)) for name in ("train", "valid")}
        self.classes = tuple(sorted({example.label for example in self.examples["train"]}))
        self.train_counts = torch.bincount(self._targets(self.examples["train"]))
        self.width = encoder.features
        self.pictures = 0
        self._encoder = encoder

    def train(self, *, batch_size: int) -> Iterator[tuple[Inputs, Tensor]]:
        rows = self.examples["train"]
        torch.rand(len(rows))  # as many draws as for the views of encodings, so that the order after them is the same
        order = torch.randperm(len(rows)).tolist()
        return self._batches([rows[index] for index in order], batch_size)

    def valid(self, *, batch_size: int) -> Iterator[tuple[Inputs, Tensor]]:
        return self._batches(self.examples["valid"], batch_size)

    def _batches(self, rows: list[Example], batch_size: int) -> Iterator[tuple[Inputs, Tensor]]:
        transform = self._encoder.preprocessing.transform
        prepared = ordered_map(lambda example: transform(example.raw), rows, ahead=2 * batch_size)
        with closing(prepared):
            for batch, pictures in zip(batches(rows, batch_size), batches(prepared, batch_size), strict=True):
                self.pictures += len(batch)
                yield (self._features(pictures),), self._targets(batch)

    @torch.no_grad()
    def _features(self, pictures: list[np.ndarray]) -> Tensor:
        network = self._encoder.frozen
        return torch.cat([network(torch.from_numpy(np.stack(group))) for group in batches(pictures, PASS_SIZE)])

    def _targets(self, rows: Iterable[Example]) -> Tensor:
        return torch.tensor([self.classes.index(example.label) for example in rows])


def write_table(pipeline: Pipeline, source: Path, per_class: int, path: Path) -> None:
    """Write a table of at most `per_class` pictures of each class, split as `extract` splits them."""
    listed = image.listing(source, pipeline.data, labelled=True).rows
    limited = split.limit_per_class(listed, limit=per_class, seed=0)
    shares = pipeline.data.split
    rows = {row.id: row for row in split.deal(limited, valid=shares.valid, test=shares.test, seed=0)}
    contents = image.contents(source, pipeline.data, set(rows))
    pictures = (Example(name, rows[name].split, rows[name].label, content) for name, content in contents)
    examples.write(path, pictures, raw=bytes)


def search(data: Any, section: Any, *, label: str) -> dict[str, Any]:
    """Run every trial to its end; return the best validation accuracy, and that of each trial."""
    trials = Search(section)
    with tqdm(total=trials.count * section.epochs, desc=label, unit="epoch") as bar:
        for trial in trials:
            network, epochs = image.build_network(data, trial.section)
            assert isinstance(network, nn.Module)
            for epoch in epochs:
                trial.report(epoch)
                bar.update()
    scores = [trial.score()["best_valid_accuracy"] for trial in trials.trials]
    return {"best_valid_accuracy": max(scores), "trials": scores}


def time_notebook(pipeline: Pipeline, table: Examples, section: Any) -> dict[str, Any]:
    encoder = Encoder.fit([], pipeline.encode, pipeline.data.limits)
    start = perf_counter()
    data = RecomputedFeatures(table, encoder)
    scores = search(data, section, label="notebook's")
    return {**scores, "seconds": perf_counter() - start, "pictures_through_the_network": data.pictures}


def time_encodings(pipeline: Pipeline, table: Examples, section: Any, path: Path) -> dict[str, Any]:
    encoder = Encoder.fit([], pipeline.encode, pipeline.data.limits)
    start = perf_counter()
    report = encode(path, table, encoder, pipeline.encode)
    encoding_seconds = perf_counter() - start
    encodings = Encoded.read(path)
    data = image.training_data(encodings, encodings.classes, encoder)
    scores = search(data, section, label="ours")
    seconds = perf_counter() - start
    path.unlink()
    return {
        **scores,
        "seconds": seconds,
        "encoding": encoding_seconds,
        "pictures_through_the_network": report.encoded,
    }


def summary(rounds: list[dict[str, Any]]) -> str:
    def column(method: str, name: str) -> str:
        values = [results[method][name] for results in rounds]
        return f"{mean(values):10.4g}" + (f" ± {stdev(values):<9.2g}" if len(values) > 1 else " " * 12)

    names = ("seconds", "pictures_through_the_network", "best_valid_accuracy")
    lines = [f"{name:30}{column('notebook', name)}{column('ours', name)}" for name in names]
    ratios = [results["notebook"]["seconds"] / results["ours"]["seconds"] for results in rounds]
    spread = f" ± {stdev(ratios):.1f}" if len(ratios) > 1 else ""
    header = f"{'':30}{'notebook':>10}{'ours':>22}"
    return "\n".join([header, *lines, f"ours is {mean(ratios):.1f}{spread} times as fast"])


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("--images-per-class", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--trials", type=int, default=3, help="the first 5 try the same points with both methods")
    parser.add_argument("--backbone", default="tf_efficientnet_lite0")
    parser.add_argument("--weights", default="imagenet", help="imagenet, none, or a file")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    pipeline = load_pipeline("flowers")
    changes = {"backbone": arguments.backbone, "weights": arguments.weights, "views": 1}
    pipeline = replace(pipeline, encode=pipeline.encode.model_copy(update=changes))
    rounds = []
    with tempfile.TemporaryDirectory() as folder:
        table = Examples(Path(folder, "examples.parquet"))
        write_table(pipeline, arguments.source, arguments.images_per_class, table.path)
        counts = {name: table.count(name) for name in ("train", "valid")}
        print(f"{counts['train']:,} pictures in train, {counts['valid']:,} in valid")
        for seed in arguments.seeds:
            trials = pipeline.train.search.model_copy(update={"trials": arguments.trials, "prune": False})
            changes = {"epochs": arguments.epochs, "seed": seed, "search": trials}
            section = pipeline.train.model_copy(update=changes)
            ours = time_encodings(pipeline, table, section, Path(folder, "encoded.arrow"))
            rounds.append({"seed": seed, "ours": ours, "notebook": time_notebook(pipeline, table, section)})
    print(summary(rounds))
    if arguments.json:
        about = {**lineage.environment(), "cores": os.cpu_count(), "torch_threads": torch.get_num_threads()}
        result = {"about": about, "arguments": vars(arguments), "pictures": counts, "rounds": rounds}
        arguments.json.write_text(json.dumps(result, indent=2, default=str) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
