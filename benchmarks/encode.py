"""Time the encoding of pictures against their network alone: python benchmarks/encode.py PICTURES

PICTURES is a folder, tar or zip with one folder per class; all other settings are those of the section `flowers` of
params.yaml. Encoding is everything from the example table to the finished file: read, decode, transform, network,
write. The network alone has its tensors in memory. Workloads take turns, round by round. With --memory: the peak of a
process that encodes this many pictures, and of one that encodes ten times as many.
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from statistics import mean, stdev
from time import perf_counter, process_time
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from flowerml.config.pipeline import Pipeline
from flowerml.data import examples
from flowerml.data.examples import Example, Examples
from flowerml.engine import onnx
from flowerml.pipeline import encode
from flowerml.tasks import image
from flowerml.tasks.image.encoder import Encoder
from flowerml.tasks.image.encoder.features import select_engine
from flowerml.tasks.pipelines import load_pipeline
from flowerml.tracking import lineage

Workload = Callable[[], object]


def sample_examples(pipeline: Pipeline, source: Path, count: int) -> Iterator[Example]:
    """Yield `count` pictures, evenly from the whole source, which is repeated if it has fewer."""
    listed = image.listing(source, pipeline.data, labelled=True).rows
    rows = {row.id: row for row in listed[:: max(1, len(listed) // count)][:count]}
    contents = list(image.contents(source, pipeline.data, set(rows)))
    for number, (name, content) in enumerate(islice(cycle(contents), count)):
        yield Example(f"{number}/{name}", "train", rows[name].label, content)


def network_alone(encoder: Encoder, name: str, pictures: np.ndarray, folder: Path, batch_size: int) -> Workload:
    """Return the network on tensors in memory: `flowerml` as encoding runs it, the others with all cores on a batch."""
    if name == "flowerml":
        engine = select_engine(encoder.frozen, size=encoder.preprocessing.to_pixels.size)
        return lambda: sum(1 for _ in engine.extract(lambda picture: [picture], pictures, batch_size=batch_size))
    library, _, precision = name.partition("-")
    if library == "torch":
        return lambda: run_torch(encoder, pictures, bfloat16=precision == "bf16")
    path = folder / "network.onnx"
    if not path.exists():
        random_inputs = encoder.preprocessing.random_inputs
        trace, check = random_inputs(1, seed=0), random_inputs(3, seed=1)
        onnx.export(encoder.frozen, path, trace=trace, check=check, output="features")
    if library == "onnxruntime":
        run = onnx.runner(path)
        starts = range(0, len(pictures), batch_size)
        return lambda: [run({"image": pictures[start : start + batch_size]}) for start in starts]
    return openvino_workload(path, pictures, precision)


def run_torch(encoder: Encoder, pictures: np.ndarray, *, bfloat16: bool) -> None:
    network = encoder.frozen.to(memory_format=torch.channels_last)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        for start in range(0, len(pictures), 8):
            batch = torch.from_numpy(pictures[start : start + 8]).to(memory_format=torch.channels_last)
            network(batch).float().numpy()


def openvino_workload(path: Path, pictures: np.ndarray, precision: str) -> Workload:
    import openvino

    core = openvino.Core()
    model = core.read_model(path)
    model.reshape([1, *pictures.shape[1:]])
    hints = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": {"fp32": "f32"}.get(precision, precision)}
    compiled = core.compile_model(model, "CPU", hints)

    def run() -> None:
        queue = openvino.AsyncInferQueue(compiled)
        queue.set_callback(lambda request, _: request.get_output_tensor(0).data.copy())
        for picture in pictures:
            queue.start_async({0: picture[np.newaxis]})
        queue.wait_all()

    return run


def encode_all(table: Examples, encoder: Encoder, section: Any, path: Path) -> None:
    """Encode as the stage does, without a cache."""
    path.unlink(missing_ok=True)
    encode.encode(path, table, encoder, section)


def measure_speed(arguments: argparse.Namespace, pipeline: Pipeline, table: Examples, folder: Path) -> dict[str, Any]:
    encoder, section = fit_encoder(pipeline), pipeline.encode
    transform = encoder.preprocessing.transform
    pictures = np.stack([transform(example.raw) for example in islice(table, arguments.tensors)])
    networks = {name: network_alone(encoder, name, pictures, folder, arguments.batch_size) for name in arguments.engine}
    (setup, _) = seconds_of(lambda: encoder.fingerprint(section, "train"))
    for workload in networks.values():  # fills caches, and pays for what a library does on its first call
        workload()
    counts = {"encode": arguments.images, **dict.fromkeys(networks, len(pictures))}
    workloads = {"encode": lambda: encode_all(table, encoder, section, folder / "encoded.arrow"), **networks}
    rounds: dict[str, list[tuple[float, float]]] = {name: [] for name in workloads}
    for _ in tqdm(range(arguments.repeat), desc="rounds"):
        for name, workload in workloads.items():
            rounds[name].append(tuple(1000 * seconds / counts[name] for seconds in seconds_of(workload)))
    print(f"{setup:.1f} s of setup, which is not counted\n{speed_table(rounds)}")
    return {"setup_seconds": setup, "clock_and_core_milliseconds_each": rounds}


def seconds_of(workload: Workload) -> tuple[float, float]:
    """Return seconds on the clock and of all cores; the latter depend little on what else the machine does."""
    clock, core = perf_counter(), process_time()
    workload()
    return perf_counter() - clock, process_time() - core


def speed_table(rounds: dict[str, list[tuple[float, float]]]) -> str:
    """Return mean and standard deviation of each workload, and the speed of encoding relative to it in each round."""
    lines = [f"{'':18}{'pictures/s':>12}{'±':>8}{'core ms each':>14}{'±':>8}{'encode is':>12}{'±':>8}{'by core':>10}"]
    for name, times in rounds.items():
        rates, cores = [1000 / clock for clock, _ in times], [core for _, core in times]
        shares = [alone / encoding for (encoding, _), (alone, _) in zip(rounds["encode"], times, strict=True)]
        by_core = mean(cores) / mean(core for _, core in rounds["encode"])
        numbers = f"{mean(rates):12.1f}{spread(rates):8.1f}{mean(cores):14.2f}{spread(cores):8.2f}"
        lines.append(f"{name:18}{numbers}{mean(shares):12.1%}{spread(shares):8.1%}{by_core:10.1%}")
    return "\n".join(lines)


def measure_memory(arguments: argparse.Namespace, pipeline: Pipeline, table: Examples, folder: Path) -> dict[str, Any]:
    tenfold = folder / "tenfold.parquet"
    copies = (replace(example, id=f"{number}/{example.id}") for number in range(10) for example in table)
    examples.write(tenfold, copies, raw=bytes)
    peaks = {}
    for path, count in ((table.path, arguments.images), (tenfold, 10 * arguments.images)):
        command = [sys.executable, __file__, str(path), "--peak", *encoder_options(arguments)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        peaks[count] = json.loads(done.stdout.splitlines()[-1])
        print(f"{count:9,} pictures: before {peaks[count]['before']:6.0f} MB, peak {peaks[count]['peak']:6.0f} MB")
    return {"megabytes": peaks}


def peak_memory(pipeline: Pipeline, path: Path) -> dict[str, float]:
    """Return the most memory that this process has had before encoding, and after it, in MB."""
    encoder = fit_encoder(pipeline)
    before = max_resident()
    with tempfile.TemporaryDirectory() as folder:
        encode_all(Examples(path), encoder, pipeline.encode, Path(folder, "encoded.arrow"))
    return {"before": before, "peak": max_resident()}


def max_resident() -> float:
    """Return the peak resident memory in MB, on Linux; getrusage would include that of the parent process."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024 / 1e6


def fit_encoder(pipeline: Pipeline) -> Encoder:
    return Encoder.fit([], pipeline.encode, pipeline.data.limits)


def spread(values: list[float]) -> float:
    return stdev(values) if len(values) > 1 else 0.0


def encoder_options(arguments: argparse.Namespace) -> list[str]:
    names = ("backbone", "weights", "views")
    return [text for name in names for text in (f"--{name}", str(getattr(arguments, name)))]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("--backbone", default="tf_efficientnet_lite0")
    parser.add_argument("--weights", default="imagenet", help="imagenet, none, or a file")
    parser.add_argument("--views", type=int, default=1)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--tensors", type=int, default=256, help="pictures that the network alone is timed on")
    parser.add_argument("--batch-size", type=int, default=32, help="of onnxruntime; torch takes 8, openvino 1")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument(
        "--engine",
        nargs="+",
        default=["flowerml", "onnxruntime"],
        help="the network alone in: flowerml, onnxruntime, torch-fp32, torch-bf16, openvino-fp32, openvino-bf16",
    )
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--peak", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    pipeline = load_pipeline("flowers")
    changes = {name: getattr(arguments, name) for name in ("backbone", "weights", "views")}
    pipeline = replace(pipeline, encode=pipeline.encode.model_copy(update=changes))
    if arguments.peak:
        print(json.dumps(peak_memory(pipeline, arguments.source)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table = Examples(folder / "examples.parquet")
        examples.write(table.path, sample_examples(pipeline, arguments.source, arguments.images), raw=bytes)
        measure = measure_memory if arguments.memory else measure_speed
        load = os.getloadavg()[0]
        measurements = measure(arguments, pipeline, table, folder)
    about = {**lineage.environment(), "cores": os.cpu_count(), "load_before": load, "processor": platform.processor()}
    if arguments.json:
        result = {"about": about, "arguments": vars(arguments), **measurements}
        arguments.json.write_text(json.dumps(result, indent=2, default=str) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
