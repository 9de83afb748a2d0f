"""A search on encodings, beside the notebook's way: python benchmarks/search.py PICTURES

The notebook's way sends every picture through the frozen network in every epoch of every trial, in plain torch; ours
encodes once and trains on that. Both get the same pictures (PICTURES is a folder, tar or zip with one folder per
class), the same transform without augmentation, the same heads from the same seeds, in the same order, by the same
optimizer, schedule and epochs: what is not said here is as in the section `flowers` of params.yaml. So they differ
in time, and in the last bits of the features, which ONNX Runtime and torch round differently.
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

from flowerml.data import examples, split
from flowerml.data.encodings import Encoded
from flowerml.data.examples import Example, Examples
from flowerml.engine.fit import Inputs
from flowerml.engine.parallel import batches, ordered_map
from flowerml.pipeline import encode as encoding
from flowerml.search.study import Search
from flowerml.tasks import registry
from flowerml.tasks.image.encoder import Encoder
from flowerml.tasks.registry import Pipeline
from flowerml.tracking import lineage

# What goes through the frozen network at once: on a CPU torch took up to 3.5 times as long for 64 as for so few.
AT_ONCE = 4


class EveryTime:
    """Pictures by split, which are decoded and sent through the frozen network whenever they are asked for."""

    def __init__(self, table: Examples, encoder: Encoder) -> None:
        self.examples = {name: list(table.of(name)) for name in ("train", "valid")}
        self.classes = tuple(sorted({one.label for one in self.examples["train"]}))
        self.train_counts = torch.bincount(self._targets(self.examples["train"]))
        self.width = encoder.features
        self.pictures = 0
        self._encoder = encoder

    def train(self, *, batch_size: int) -> Iterator[tuple[Inputs, Tensor]]:
        ours = self.examples["train"]
        torch.rand(len(ours))  # drawn for the choice of views on encodings; the order after it is to be the same
        order = torch.randperm(len(ours)).tolist()
        return self._batches([ours[index] for index in order], batch_size)

    def valid(self, *, batch_size: int) -> Iterator[tuple[Inputs, Tensor]]:
        return self._batches(self.examples["valid"], batch_size)

    def _batches(self, ours: list[Example], batch_size: int) -> Iterator[tuple[Inputs, Tensor]]:
        prepared = ordered_map(lambda one: self._encoder.prepare(one.raw), ours, ahead=2 * batch_size)
        with closing(prepared):
            for group, pictures in zip(batches(ours, batch_size), batches(prepared, batch_size), strict=True):
                self.pictures += len(group)
                yield (self._features(pictures),), self._targets(group)

    @torch.no_grad()
    def _features(self, pictures: list[np.ndarray]) -> Tensor:
        network: Any = self._encoder.frozen
        return torch.cat([network(torch.from_numpy(np.stack(some))) for some in batches(pictures, AT_ONCE)])

    def _targets(self, ours: Iterable[Example]) -> Tensor:
        return torch.tensor([self.classes.index(one.label) for one in ours])


def write_table(pipeline: Pipeline, source: Path, per_class: int, path: Path) -> None:
    """At most so many pictures of each class, dealt as `extract` does."""
    listed = split.limited(pipeline.task.listing(source, pipeline.data, labelled=True).rows, limit=per_class, seed=0)
    shares = pipeline.data.split
    rows = {row.id: row for row in split.deal(listed, valid=shares.valid, test=shares.test, seed=0)}
    contents = pipeline.task.contents(source, pipeline.data, set(rows))
    found = (Example(name, rows[name].split, rows[name].label, content) for name, content in contents)
    examples.write(path, found, raw=bytes)


def search(pipeline: Pipeline, data: Any, section: Any, *, label: str) -> dict[str, Any]:
    """Every trial to its end; gives the best validation accuracy and each trial's."""
    trials = Search(section)
    with tqdm(total=trials.count * section.epochs, desc=label, unit="epoch") as bar:
        for trial in trials:
            network, epochs = pipeline.task.start(data, trial.section)
            assert isinstance(network, nn.Module)
            for epoch in epochs:
                trial.see(epoch)
                bar.update()
    scores = [trial.score()["best_valid_accuracy"] for trial in trials.trials]
    return {"best_valid_accuracy": max(scores), "trials": scores}


def notebooks_way(pipeline: Pipeline, table: Examples, section: Any) -> dict[str, Any]:
    encoder = pipeline.task.Encoder.fit([], pipeline.encode, pipeline.data.limits)
    assert isinstance(encoder, Encoder)
    start = perf_counter()
    data = EveryTime(table, encoder)
    found = search(pipeline, data, section, label="notebook's")
    return {**found, "seconds": perf_counter() - start, "pictures_through_the_network": data.pictures}


def our_way(pipeline: Pipeline, table: Examples, section: Any, path: Path) -> dict[str, Any]:
    encoder = pipeline.task.Encoder.fit([], pipeline.encode, pipeline.data.limits)
    start = perf_counter()
    report = encoding.encode(path, table, encoder, pipeline.encode)
    encoded_in = perf_counter() - start
    encodings = Encoded.read(path)
    data = pipeline.task.training_data(encodings, encodings.classes, encoder)
    found = search(pipeline, data, section, label="ours")
    seconds = perf_counter() - start
    path.unlink()
    return {**found, "seconds": seconds, "encoding": encoded_in, "pictures_through_the_network": report.encoded}


def summary(rounds: list[dict[str, Any]]) -> str:
    def of(way: str, name: str) -> str:
        values = [one[way][name] for one in rounds]
        return f"{mean(values):10.4g}" + (f" ± {stdev(values):<9.2g}" if len(values) > 1 else " " * 12)

    names = ("seconds", "pictures_through_the_network", "best_valid_accuracy")
    lines = [f"{name:30}{of('notebook', name)}{of('ours', name)}" for name in names]
    ratio = [one["notebook"]["seconds"] / one["ours"]["seconds"] for one in rounds]
    spread = f" ± {stdev(ratio):.1f}" if len(ratio) > 1 else ""
    head = f"{'':30}{'notebook':>10}{'ours':>22}"
    return "\n".join([head, *lines, f"ours is {mean(ratio):.1f}{spread} times as fast"])


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("--images-per-class", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--trials", type=int, default=3, help="up to 5 are the same points for both ways")
    parser.add_argument("--backbone", default="tf_efficientnet_lite0")
    parser.add_argument("--weights", default="imagenet", help="imagenet, none, or a file")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def main() -> None:
    arguments = parsed()
    pipeline = registry.pipeline("flowers")
    encode = {"backbone": arguments.backbone, "weights": arguments.weights, "views": 1}
    pipeline = replace(pipeline, encode=pipeline.encode.model_copy(update=encode))
    rounds = []
    with tempfile.TemporaryDirectory() as name:
        table = Examples(Path(name, "examples.parquet"))
        write_table(pipeline, arguments.source, arguments.images_per_class, table.path)
        counts = {part: table.count(part) for part in ("train", "valid")}
        print(f"{counts['train']:,} pictures in train, {counts['valid']:,} in valid")
        for seed in arguments.seeds:
            trials = pipeline.train.search.model_copy(update={"trials": arguments.trials, "prune": False})
            changes = {"epochs": arguments.epochs, "seed": seed, "search": trials}
            section = pipeline.train.model_copy(update=changes)
            ours = our_way(pipeline, table, section, Path(name, "encoded.arrow"))
            rounds.append({"seed": seed, "ours": ours, "notebook": notebooks_way(pipeline, table, section)})
    print(summary(rounds))
    if arguments.json:
        about = {**lineage.environment(), "cores": os.cpu_count(), "torch_threads": torch.get_num_threads()}
        result = {"about": about, "arguments": vars(arguments), "pictures": counts, "rounds": rounds}
        arguments.json.write_text(json.dumps(result, indent=2, default=str) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
