"""Does `train.class_weights: balanced` help where classes are 20:1? python benchmarks/imbalance.py PIPELINE

Needs data/PIPELINE/encoded.arrow (`dvc repro encode@PIPELINE`). Every second class keeps one in twenty of its training
examples; the validation split stays whole. The section `train` of params.yaml is trained as it is, without a search,
with and without class weights, on the same examples and seeds.
"""

import argparse
from statistics import mean, stdev

import numpy as np
import pyarrow as pa
from sklearn.metrics import f1_score, recall_score

from flowerml.data.encodings import Encoded
from flowerml.tasks.pipelines import load_pipeline
from flowerml.tasks.registry import task_of


def thin_out(encoded: Encoded, ratio: int, seed: int) -> tuple[Encoded, set[str]]:
    """Return encodings with one in `ratio` training rows (at least one) of every second class, and these classes."""
    rare = set(encoded.classes[1::2])
    split, label = (np.array(encoded.table.column(name).to_pylist()) for name in ("split", "label"))
    keep = np.ones(len(label), dtype=bool)
    rng = np.random.default_rng(seed)
    for name in rare:
        rows = rng.permutation(np.flatnonzero((split == "train") & (label == name)))
        keep[rows[max(1, len(rows) // ratio) :]] = False
    return Encoded(encoded.table.filter(pa.array(keep))), rare


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pipeline")
    parser.add_argument("--ratio", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    import torch

    pipeline = load_pipeline(arguments.pipeline)
    torch.set_num_threads(pipeline.train.threads or torch.get_num_threads())
    whole = Encoded.read(pipeline.paths.encoded)
    task = task_of(pipeline)
    encoder = task.Encoder.load(pipeline.paths.encoder)
    print(f"{'class_weights':<14}{'accuracy':>17}{'macro-F1':>17}{'recall, rare':>17}{'recall, frequent':>17}")
    for weights in (None, "balanced"):
        scores = []
        for seed in range(arguments.seeds):
            encoded, rare = thin_out(whole, arguments.ratio, seed)
            data = task.training_data(encoded, whole.classes, encoder)
            section = pipeline.train.with_values({"class_weights": weights}).model_copy(update={"seed": seed})
            scores.append(_scores(task, data, section, whole.classes, rare))
        columns = [f"{mean(values):.4f} ± {stdev(values):.4f}" for values in zip(*scores, strict=True)]
        print(f"{weights!s:<14}" + "".join(f"{column:>17}" for column in columns))


def _scores(task, data, section, classes, rare) -> tuple[float, float, float, float]:
    """Return accuracy, macro-F1, and mean recall of rare and of frequent classes, on the validation split."""
    import torch

    network, epochs = task.build_network(data, section)
    for _ in epochs:
        pass
    with torch.inference_mode():
        pairs = [(network(*inputs).argmax(1), targets) for inputs, targets in data.valid(batch_size=256)]
    predicted, actual = (torch.cat(column).numpy() for column in zip(*pairs, strict=True))
    recalls = recall_score(actual, predicted, average=None, labels=range(len(classes)), zero_division=0)
    is_rare = np.array([name in rare for name in classes])
    f1 = f1_score(actual, predicted, average="macro", zero_division=0)
    return float((predicted == actual).mean()), float(f1), recalls[is_rare].mean(), recalls[~is_rare].mean()


if __name__ == "__main__":
    main()
