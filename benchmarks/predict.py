"""Time a saved classifier on the test examples of its pipeline: python benchmarks/predict.py PIPELINE

Reads models/PIPELINE/classifier and data/PIPELINE/examples.parquet, as `dvc repro` writes them.
"""

import argparse
import resource
from time import perf_counter

from flowerml import Classifier
from flowerml.config.paths import Paths
from flowerml.data.examples import Examples


def peak_memory() -> float:
    """Return the peak memory of this process in MB (on Linux, where ru_maxrss is in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pipeline")
    paths = Paths(parser.parse_args().pipeline)
    raws = [example.raw for example in Examples(paths.examples).of("test")]
    classifier = Classifier.load(paths.classifier)
    memory, started = peak_memory(), perf_counter()
    count = sum(1 for _ in classifier.predict_each(raws))
    seconds = perf_counter() - started
    print(
        f"{count:,} examples in {seconds:.1f} s, {count / seconds:.0f} per second; "
        f"peak memory +{peak_memory() - memory:.0f} MB"
    )


if __name__ == "__main__":
    main()
