"""Measure the presets on pictures, end to end: python benchmarks/finetune.py DATA[::NAME=VALUE…] … --presets balanced

DATA is what `flowerml train` takes; ::train.epochs=8 is its option --set, and ::official=setid.mat deals the Oxford
flowers as their authors did (Nilsback & Zisserman, 2008), by the numbers in the names of the files.

    python benchmarks/finetune.py flower_data.tar.gz flower_data.tar.gz::official=setid.mat --presets balanced best

Each seed is a run of its own, in a process of its own: the file is read, encoded, trained on, calibrated, saved and
evaluated, with `train.seed` (not `data.seed`, which deals the splits). Minutes are those of all that; memory is the
peak of that process, of which pages of the mapped encodings, which the system may drop, are a part. Milliseconds are
those of one picture at a time, on one core. Everything is chosen on valid; test is scored once, by what is saved.

With --step the first set is not trained on: the images a second of a training step are compared instead, of the last
blocks as the preset trains them, and of all layers, in bfloat16 and channels-last both, with batches of the same size.
"""

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
from contextlib import chdir
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from statistics import mean, median, stdev
from time import perf_counter
from typing import TYPE_CHECKING, Any

from texts import parse_set, spread

from flowerml.core.errors import FlowermlError
from flowerml.tracking import lineage

if TYPE_CHECKING:
    from flowerml import Classifier

STEPS = 12  # of each kind, interleaved, so that a busy moment hits both
TIMED = 200  # test pictures
OFFICIAL = "official"
SPLITS = {"trnid": "train", "valid": "valid", "tstid": "test"}


@dataclass(frozen=True)
class Run:
    """One seed of one preset on one set: accuracies, the time of each part in seconds, and what the result costs."""

    valid: float
    test: float
    counts: dict[str, int]
    seconds: float
    train_seconds: float
    peak_mb: float
    megabytes: float
    milliseconds: float
    threads: int
    parameters: dict[str, Any]


@dataclass(frozen=True)
class Row:
    """The runs of a preset on a set, one for each seed."""

    name: str
    recipe: str
    runs: list[Run]


def measure(data: str, values: dict[str, Any], *, preset: str, minutes: float | None, folder: Path) -> Run:
    """Train and evaluate once, from the file to the report."""
    from flowerml.cli.progress import reporter
    from flowerml.pipeline import adhoc, presets, run
    from flowerml.tracking import connection, database

    os.environ["MLFLOW_TRACKING_URI"] = database.sqlite_uri(folder / "mlflow.db")
    connection.check()
    official = values.pop(OFFICIAL, None)
    if official:
        values["data.split.table"] = str(split_table(Path(official), folder / "splits.csv"))
    started = perf_counter()
    pipeline, _ = adhoc.pipeline_from_data(data, "image", values, name="pictures", root=folder)
    result = run.run(
        pipeline,
        folder / "classifier",
        show_progress=reporter,
        on_summary=lambda text: print(text, file=sys.stderr),
        preset=presets.Preset(preset, values, minutes),
    )
    seconds = perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    print(f"{seconds / 60:.1f} minutes; {result.trial.score()}; {result.metrics}", file=sys.stderr)
    description = result.classifier.description
    return Run(
        valid=accuracy(result.classifier, pipeline.paths.examples, "valid"),
        test=result.metrics["accuracy"],
        counts=counts(pipeline.paths.examples),
        seconds=seconds,
        train_seconds=sum(epoch.seconds for epoch in result.trial.epochs),
        peak_mb=peak,
        megabytes=sum(path.stat().st_size for path in (folder / "classifier").rglob("*") if path.is_file()) / 1e6,
        milliseconds=milliseconds(folder / "classifier", pipeline.paths.examples),
        threads=description["trained"]["threads"],
        parameters={name: value for name, value in description["parameters"].items() if is_recipe(name)},
    )


def is_recipe(name: str) -> bool:
    return name.startswith(("encode.", "train."))


def accuracy(classifier: "Classifier", path: Path, split: str) -> float:
    """Return the accuracy of a saved classifier; after a refit that on valid says nothing of new pictures."""
    from flowerml.data.examples import Examples

    examples = list(Examples(path).of(split))
    chosen = classifier.probabilities([example.raw for example in examples]).argmax(axis=1)
    return mean(classifier.classes[index] == example.label for index, example in zip(chosen, examples, strict=True))


def counts(path: Path) -> dict[str, int]:
    from flowerml.data.examples import Examples

    return {split: Examples(path).count(split) for split in ("train", "valid", "test")}


def milliseconds(folder: Path, path: Path) -> float:
    """Return the median time of one picture, one at a time, on one core."""
    from flowerml import Classifier
    from flowerml.data.examples import Examples

    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    classifier = Classifier.load(folder)
    times = []
    for example in islice(Examples(path).of("test"), TIMED):
        started = perf_counter()
        classifier.predict([example.raw])
        times.append(perf_counter() - started)
    return 1000 * median(times)


def split_table(setid: Path, target: Path) -> Path:
    """Write the table of the official split: a row for each file, by its number."""
    from scipy.io import loadmat

    numbers = loadmat(setid)
    lines = ["file,split"]
    for key, split in SPLITS.items():
        lines += [f"image_{number:05d}.jpg,{split}" for number in numbers[key][0]]
    target.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return target


def in_a_process(job: dict[str, Any]) -> Run:
    """Run a job in a new process, and in an empty folder, where no params.yaml changes the defaults."""
    with tempfile.TemporaryDirectory() as name:
        output = Path(name, "run.json")
        command = [sys.executable, str(Path(__file__).resolve()), "--job", json.dumps({**job, "output": str(output)})]
        # Bars of tqdm would clutter a log.
        subprocess.run(command, cwd=name, env={"TQDM_DISABLE": "1", **os.environ}, check=True)
        return Run(**json.loads(output.read_text(encoding="utf-8")))


def run_job(job: dict[str, Any]) -> None:
    """Measure, and write the result where the parent process reads it."""
    folder = Path.cwd()
    values = {**job["values"], "train.seed": job["seed"]}
    measured = measure(job["data"], values, preset=job["preset"], minutes=job["minutes"], folder=folder)
    Path(job["output"]).write_text(json.dumps(asdict(measured), default=str), encoding="utf-8")


def step_speeds(data: str, values: dict[str, Any], *, preset: str, folder: Path) -> dict[str, float]:
    """Return the images a second of a training step: of the preset, and of all layers in the same precision."""
    blocks = {"last blocks": {}, "all layers": {"encode.trainable_blocks": "all", "train.train_depthwise": True}}
    steps = {name: _stepper(data, {**values, **more}, preset, folder / name) for name, more in blocks.items()}
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(STEPS):
        for name, (step, size) in steps.items():
            started = perf_counter()
            step()
            times[name].append((perf_counter() - started) / size)
    return {name: 1 / median(seconds[2:]) for name, seconds in times.items()}


def _stepper(data: str, values: dict[str, Any], preset: str, folder: Path) -> Any:
    """Return a step of the product's own training on one batch of random pictures, and the size of the batch."""
    import torch

    from flowerml.data.encodings import Encoded
    from flowerml.engine.devices import autocast
    from flowerml.engine.optimizers import optimizer
    from flowerml.pipeline import adhoc, encode, extract, presets
    from flowerml.tasks.registry import task_of

    folder.mkdir()
    values = {**values, "data.limit": 3, "encode.size": 224, "train.precision": "bfloat16", "train.batch_size": 32}
    pipeline, _ = adhoc.pipeline_from_data(data, "image", values, name="pictures", root=folder)
    extract.run(pipeline)
    pipeline, _ = presets.apply(pipeline, presets.Preset(preset, values))
    encode.run(pipeline)
    encoded, task = Encoded.read(pipeline.paths.encoded), task_of(pipeline)
    encoder: Any = task.Encoder.load(pipeline.paths.encoder)
    section: Any = pipeline.train
    part = encoder.trainable(section.backbone)
    network: Any = task.build_network(task.training_data(encoded, encoded.classes, encoder), section)[0]
    groups = network.groups(part.groups, share=section.backbone_learning_rate, layer_decay=section.layer_decay)
    update = optimizer(section.optimizer, groups, rate=section.learning_rate, decay=section.weight_decay)
    pictures = torch.rand(section.batch_size, 3, 224, 224).contiguous(memory_format=torch.channels_last)
    targets = torch.zeros(section.batch_size, dtype=torch.int64)

    def step() -> None:
        network.train()
        with autocast(section.precision):
            loss = torch.nn.functional.cross_entropy(network(pictures).float(), targets)
        update.zero_grad(set_to_none=True)
        loss.backward()
        update.step()

    return step, section.batch_size


def table(rows: list[Row]) -> str:
    """Return a row for each preset on each set, in Markdown."""
    lines = [
        "| pictures | train / valid / test | recipe | seeds | valid | test | minutes | peak MB | MB | ms a picture |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        cells = [
            row.name,
            " / ".join(f"{count:,}" for count in row.runs[0].counts.values()),
            row.recipe,
            str(len(row.runs)),
            spread([run.valid for run in row.runs]),
            spread([run.test for run in row.runs]),
            spread_of_minutes([run.seconds / 60 for run in row.runs]),
            f"{max(run.peak_mb for run in row.runs):,.0f}",
            f"{mean(run.megabytes for run in row.runs):.0f}",
            f"{mean(run.milliseconds for run in row.runs):.1f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def spread_of_minutes(values: list[float]) -> str:
    return f"{mean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")


def name_of(data: str, values: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return how the table calls a set, and its values with absolute paths."""
    name = re.sub(r"(\.tar)?\.\w+$", "", Path(data).name)
    if OFFICIAL in values:
        values = {**values, OFFICIAL: str(Path(values[OFFICIAL]).resolve())}
        name += ", official split"
    return name, values


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="*", metavar="DATA[::NAME=VALUE…]")
    parser.add_argument("--presets", nargs="+", default=["balanced"], choices=["fast", "balanced", "best"])
    parser.add_argument("--minutes", type=float, help="that a preset may take")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--step", action="store_true", help="compare the speed of training steps instead")
    parser.add_argument("--json", type=lambda name: Path(name).resolve())
    parser.add_argument("--job", type=json.loads, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    if arguments.job:
        run_job(arguments.job)
        return
    if arguments.step:
        data, values = parse_set(arguments.data[0])
        with tempfile.TemporaryDirectory() as name, chdir(name):
            speeds = step_speeds(data, values, preset=arguments.presets[0], folder=Path(name).resolve())
        print("; ".join(f"{name}: {speed:.1f} images/s" for name, speed in speeds.items()))
        print(f"{speeds['last blocks'] / speeds['all layers']:.2f} times as fast")
        return
    rows: list[Row] = []
    failed = False
    for text in arguments.data:
        data, values = parse_set(text)
        name, values = name_of(data, values)
        shown = ", ".join(f"{key} {value}" for key, value in values.items() if key != OFFICIAL)
        for preset in arguments.presets:
            recipe = preset + (f" in {arguments.minutes:g} minutes" if arguments.minutes else "")
            row = Row(name, f"{recipe}, {shown}" if shown else recipe, [])
            for seed in range(arguments.seeds):
                job = {
                    "data": data,
                    "values": values,
                    "preset": preset,
                    "minutes": arguments.minutes,
                    "seed": seed,
                }
                try:
                    row.runs.append(in_a_process(job))
                except (FlowermlError, subprocess.CalledProcessError) as error:
                    print(f"error: {name}, {recipe}, seed {seed}: {error}", file=sys.stderr)
                    failed = True
                    continue
                run = row.runs[-1]
                print(
                    f"{name}, {row.recipe}, seed {seed}: valid {run.valid:.4f}, test {run.test:.4f}, "
                    f"{run.seconds / 60:.1f} minutes, {run.peak_mb:,.0f} MB",
                    file=sys.stderr,
                )
            rows += [row] if row.runs else []
            if arguments.json:
                about = {**lineage.environment(), "cores": os.cpu_count(), "load": os.getloadavg()[0]}
                result = {"about": about, "arguments": vars(arguments), "rows": [asdict(row) for row in rows]}
                arguments.json.write_text(json.dumps(result, indent=2, default=str) + "\n", encoding="utf-8")
    if rows:
        print(table(rows))
    sys.exit(failed)


if __name__ == "__main__":
    main()
