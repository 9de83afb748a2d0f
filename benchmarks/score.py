"""Measure `flowerml score` against the obvious loop and `predict --out`: rows a second, CPU seconds and memory.

    python benchmarks/score.py SOURCE MODEL [--column NAME] [--workers 1 2 4]

SOURCE is a Parquet table of texts or a folder of pictures, MODEL a saved classifier's folder. Each way runs in a
process of its own, start included, so give it enough rows; all files of answers must be the same bytes. On a busy
machine only the CPU seconds mean something: the load is printed beside them.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LOOP = """
import sys
from pathlib import Path
from flowerml import Classifier
source, model, column = sys.argv[1:]
if Path(source).is_dir():
    inputs = sorted(path for path in Path(source).rglob("*") if path.is_file())
else:
    import pyarrow.parquet as pq
    inputs = pq.read_table(source)[column].to_pylist()
print(len(Classifier.load(model).predict(inputs, top_k=1)))
"""


def measured(command: list[str]) -> tuple[float, float, float]:
    """Run a command; return wall seconds, CPU seconds of all its processes, and the peak of the largest in MB."""
    code = (
        "import resource, subprocess, sys\n"
        "code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode\n"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
        "print(used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, code)"
    )
    started = time.perf_counter()
    output = subprocess.run(
        [sys.executable, "-c", code, *command], stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    cpu, memory, ended = output.split()
    if ended not in ("0", "1"):  # 1: rows that cannot be read
        raise SystemExit(f"{' '.join(command)} failed")
    return time.perf_counter() - started, float(cpu), float(memory)


def main() -> None:
    """Print a line for each way, and whether the answers agree."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source")
    parser.add_argument("model")
    parser.add_argument("--column", default="text")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args()
    flowerml = [sys.executable, "-m", "flowerml"]
    common = ["--model", options.model, "--text-column", options.column]
    with tempfile.TemporaryDirectory() as folder:
        ways = {"loop": [sys.executable, "-c", LOOP, options.source, options.model, options.column]}
        predicted = Path(folder, "predict.csv")
        ways["predict --out"] = [*flowerml, "predict", options.source, *common, "--out", str(predicted)]
        for number in options.workers:
            out = ["--out", f"{folder}/score-{number}.csv", "--workers", str(number)]
            ways[f"score --workers {number}"] = [*flowerml, "score", options.source, *common, *out]
        print(f"{'':<20} {'wall':>9} {'CPU':>9} {'memory':>9}   load")
        for name, command in ways.items():
            wall, cpu, memory = measured(command)
            print(f"{name:<20} {wall:>7.1f} s {cpu:>7.1f} s {memory:>6.0f} MB   {os.getloadavg()[0]:.1f}", flush=True)
        rows = predicted.read_bytes().count(b"\n") - 1
        same = len({path.read_bytes() for path in Path(folder).glob("*.csv")}) == 1
        print(f"{rows:,} lines; the answers are {'the same bytes' if same else 'NOT THE SAME'}")
        if not same:
            raise SystemExit(1)


if __name__ == "__main__":
    main()
