"""Compare `flowerml train` with scikit-learn on texts: python benchmarks/texts.py DATA[::NAME=VALUE…] …

DATA is what `flowerml train` takes: a table, a folder or an archive; ::data.text_column=review is its option -S.

    python benchmarks/texts.py reviews/ tickets.csv::data.text_column=Document::data.label_column=Topic_group

Ours is the search of the defaults, on the train and valid splits that the seed deals. The others are two pipelines of
scikit-learn with its defaults, on the texts of train, and once more on those of train and valid. All are scored on the
same test texts, for five seeds of the splits, or one where the source has a test split. Seconds are those from the file
to the saved classifier (extract, encode, search, calibrate, export), and those of `fit`.

The interval is that of the mean difference to the better of the two on train: the bootstrap draws texts, each with its
answers in all splits. The bar: the mean accuracy is at most 0.003 below that of the better one.
"""

import argparse
import json
import os
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable
from contextlib import chdir
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import mean, stdev
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

from flowerml.classifier.classifier import Classifier
from flowerml.cli.options import parsed
from flowerml.core.errors import FlowermlError
from flowerml.data.examples import Example, Examples
from flowerml.data.split import SPLITS
from flowerml.evaluation.intervals import Interval, bootstrap
from flowerml.pipeline import adhoc, encode, extract, train
from flowerml.tracking import connection, database, lineage

BAR = 0.003
OURS = "flowerml"
PEERS: dict[str, Callable[[], Any]] = {
    "logistic regression": lambda: make_pipeline(TfidfVectorizer(), LogisticRegression()),
    "linear SVM": lambda: make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LinearSVC()),
}
WITH_VALID = " on train and valid"


@dataclass
class Scores:
    """What one method reached: in each split its accuracy, macro-F1 and seconds."""

    accuracy: list[float] = field(default_factory=list)
    macro_f1: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def add(self, predicted: NDArray[Any], actual: NDArray[Any], seconds: float) -> None:
        self.accuracy.append(float((predicted == actual).mean()))
        self.macro_f1.append(float(f1_score(actual, predicted, average="macro", zero_division=0)))
        self.seconds.append(seconds)


@dataclass
class Measured:
    """One set: its size, the scores of each method, and for each split the test ids and the hits of each method."""

    name: str
    counts: dict[str, int] = field(default_factory=dict)
    classes: int = 0
    megabytes: list[float] = field(default_factory=list)
    chosen: list[dict[str, Any]] = field(default_factory=list)
    scores: dict[str, Scores] = field(default_factory=lambda: defaultdict(Scores))
    hits: list[tuple[list[str], dict[str, NDArray[np.bool_]]]] = field(default_factory=list)

    @property
    def peer(self) -> str:
        """Return the peer with the higher mean accuracy, of those fitted on train."""
        return max(PEERS, key=lambda name: mean(self.scores[name].accuracy))

    def difference(self, peer: str) -> Interval:
        """Return the accuracy of ours above a peer's, in the mean of the splits, with its paired interval."""
        sums: dict[str, float] = defaultdict(float)
        times: dict[str, int] = defaultdict(int)
        for ids, hits in self.hits:
            for id, ours, theirs in zip(ids, hits[OURS].tolist(), hits[peer].tolist(), strict=True):
                sums[id] += ours - theirs
                times[id] += 1
        gains, counts = np.array(list(sums.values())), np.array(list(times.values()))
        return bootstrap(
            lambda drawn: {"gain": float(drawn @ gains / (drawn @ counts))}, len(gains), resamples=2000, seed=0
        )["gain"]

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "counts": self.counts,
            "classes": self.classes,
            "megabytes": self.megabytes,
            "chosen": self.chosen,
            "scores": {name: asdict(scores) for name, scores in self.scores.items()},
            "differences": {peer: asdict(self.difference(peer)) for peer in self.scores if peer != OURS},
        }


def measure(data: str, values: dict[str, Any], *, splits: int, limit: int | None, folder: Path) -> Measured:
    """Train and score all methods on each split of a set."""
    measured = Measured(Path(data).name)
    for seed in range(splits):
        options = {**values, "data.seed": seed, "data.limit": limit}
        pipeline, _ = adhoc.pipeline_from_data(data, "text", options, name="texts", root=folder)
        published = any(row.split == "test" for row in extract.list_source(pipeline).rows)
        started = perf_counter()
        extract.run(pipeline)
        encode.run(pipeline)
        result = train.run(pipeline, folder=folder / "classifier")
        seconds = perf_counter() - started
        examples = {name: list(Examples(pipeline.paths.examples).of(name)) for name in SPLITS}
        score(measured, result.classifier, examples, seconds)
        section = result.trial.section
        measured.chosen.append({name: getattr(section, name) for name in ["network", *section.search.space]})
        report(measured, seed)
        if published:
            break
    return measured


def score(measured: Measured, classifier: Classifier, examples: dict[str, list[Example]], seconds: float) -> None:
    """Score our classifier, and fit and score the peers, on one split."""
    texts = {name: [example.raw for example in part] for name, part in examples.items()}
    labels = {name: np.array([example.label for example in part]) for name, part in examples.items()}
    answers = {OURS: np.array(classifier.classes)[classifier.probabilities(texts["test"]).argmax(axis=1)]}
    times = {OURS: seconds}
    both = texts["train"] + texts["valid"], np.concatenate([labels["train"], labels["valid"]])
    for name, build in PEERS.items():
        for suffix, (raws, targets) in {"": (texts["train"], labels["train"]), WITH_VALID: both}.items():
            started = perf_counter()
            fitted = build().fit(raws, targets)
            times[name + suffix] = perf_counter() - started
            answers[name + suffix] = fitted.predict(texts["test"])
    for name, predicted in answers.items():
        measured.scores[name].add(predicted, labels["test"], times[name])
    hits = {name: predicted == labels["test"] for name, predicted in answers.items()}
    measured.hits.append(([example.id for example in examples["test"]], hits))
    measured.counts = {name: len(part) for name, part in texts.items()}
    measured.classes = len(classifier.classes)
    measured.megabytes.append(sum(path.stat().st_size for path in classifier.folder.rglob("*") if path.is_file()) / 1e6)


def report(measured: Measured, seed: int) -> None:
    """Print the accuracies of the latest split: a run over many sets takes an hour."""
    accuracies = ", ".join(f"{name} {scores.accuracy[-1]:.4f}" for name, scores in measured.scores.items())
    values = ", ".join(f"{name} {value}" for name, value in measured.chosen[-1].items())
    print(f"{measured.name}, split {seed}: {accuracies}; chosen: {values}", file=sys.stderr)


def table(sets: list[Measured]) -> str:
    """Return a row for each set, in Markdown."""
    lines = [
        "| texts | train / valid / test, classes | flowerml | TF-IDF, logistic regression | TF-IDF(1, 2), linear SVM "
        "| above the better one (95 %) | the same with valid | seconds | MB |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for measured in sets:
        scores, interval = measured.scores, measured.difference(measured.peer)
        counts = " / ".join(f"{count:,}" for count in measured.counts.values())
        cells = [
            measured.name,
            f"{counts}, {measured.classes}",
            *(spread(scores[name].accuracy) for name in (OURS, *PEERS)),
            f"{interval.estimate:+.4f} ({interval.low:+.4f} to {interval.high:+.4f})",
            f"{min(measured.difference(name + WITH_VALID).estimate for name in PEERS):+.4f}",
            " / ".join(f"{mean(scores[name].seconds):.1f}" for name in (OURS, *PEERS)),
            f"{max(measured.megabytes):.1f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def verdict(sets: list[Measured]) -> str:
    """Return a line for each set that misses the bar, and one about all."""
    gains = {measured.name: measured.difference(measured.peer).estimate for measured in sets}
    below = {name: gain for name, gain in gains.items() if gain < -BAR}
    lines = [f"{name}: {-gain:.4f} below the better one, which is more than {BAR}" for name, gain in below.items()]
    holds = f"{len(gains) - len(below)} of {len(gains)} sets are within {BAR} of the better one, or above it"
    return "\n".join([*lines, f"{holds}; in the mean of the sets {mean(gains.values()):+.4f}"])


def spread(values: list[float]) -> str:
    return f"{mean(values):.4f}" + (f" ± {stdev(values):.4f}" if len(values) > 1 else "")


def parse_set(text: str) -> tuple[str, dict[str, Any]]:
    """Return the source, its path made absolute, and the values of DATA::NAME=VALUE…; raises BadParameter."""
    data, *changes = text.split("::")
    path = Path(data).expanduser()
    return str(path.resolve()) if path.exists() else data, parsed(changes)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", metavar="DATA[::NAME=VALUE…]")
    parser.add_argument("--splits", type=int, default=5, help="seeds, where the source has no test split")
    parser.add_argument("--limit", type=int, help="at most this many texts of each class")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    json_path = arguments.json and arguments.json.resolve()
    sets: list[Measured] = []
    failed = False
    for text in arguments.data:
        data, values = parse_set(text)
        # In an empty folder no params.yaml changes the defaults, and the runs go into a database of their own.
        with tempfile.TemporaryDirectory() as name, chdir(name):
            os.environ["MLFLOW_TRACKING_URI"] = database.sqlite_uri(Path(name, "mlflow.db"))
            connection.check()
            try:
                sets.append(
                    measure(data, values, splits=arguments.splits, limit=arguments.limit, folder=Path(name).resolve())
                )
            except FlowermlError as error:
                print(f"error: {data}: {error}", file=sys.stderr)
                failed = True
        if json_path and sets:
            about = {**lineage.environment(), "cores": os.cpu_count(), "load": os.getloadavg()[0]}
            result = {"about": about, "arguments": vars(arguments), "sets": [measured.to_json() for measured in sets]}
            json_path.write_text(json.dumps(result, indent=2, default=str) + "\n", encoding="utf-8")
    if sets:
        print(f"{table(sets)}\n\n{verdict(sets)}")
    sys.exit(failed)


if __name__ == "__main__":
    main()
