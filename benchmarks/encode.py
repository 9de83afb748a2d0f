"""How fast pictures are encoded, beside their network alone: python benchmarks/encode.py PICTURES

PICTURES is a folder, tar or zip with one folder per class; what is not said here is as in the section `flowers` of
params.yaml. Encoding is all from the example table to the finished file: read, decode, transform, network, write. The
network alone has its tensors in memory. All ways take turns. With --memory: the peak of a process that encodes
so many pictures, and of one that encodes ten times as many.
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

from flowerml.data import examples
from flowerml.data.examples import Example, Examples
from flowerml.engine import onnx
from flowerml.pipeline import encode
from flowerml.tasks import registry
from flowerml.tasks.image.encoder import Encoder
from flowerml.tasks.image.encoder.features import engine
from flowerml.tasks.registry import Pipeline
from flowerml.tracking import lineage

Way = Callable[[], object]


def read(pipeline: Pipeline, source: Path, count: int) -> Iterator[Example]:
    """So many pictures, evenly from the whole source; over again, where it has fewer."""
    listed = pipeline.task.listing(source, pipeline.data, labelled=True).rows
    rows = {row.id: row for row in listed[:: max(1, len(listed) // count)][:count]}
    found = list(pipeline.task.contents(source, pipeline.data, set(rows)))
    for number, (name, content) in enumerate(islice(cycle(found), count)):
        yield Example(f"{number}/{name}", "train", rows[name].label, content)


def alone(encoder: Encoder, name: str, pictures: np.ndarray, folder: Path, batch_size: int) -> Way:
    """The network on tensors in memory: in `flowerml` as encoding runs it, in the others on all cores together."""
    if name == "flowerml":
        own = engine(encoder.frozen, size=encoder.transform.size)
        return lambda: sum(1 for _ in own.over(lambda one: [one], pictures, batch_size=batch_size))
    kind, _, precision = name.partition("-")
    if kind == "torch":
        return lambda: in_torch(encoder, pictures, brain=precision == "bf16")
    path = folder / "network.onnx"
    if not path.exists():
        one, three = encoder.random_inputs(1, seed=0), encoder.random_inputs(3, seed=1)
        onnx.export(encoder.frozen, path, trace=one, check=three, output="features")
    if kind == "onnxruntime":
        run = onnx.runner(path)
        starts = range(0, len(pictures), batch_size)
        return lambda: [run({"image": pictures[start : start + batch_size]}) for start in starts]
    return in_openvino(path, pictures, precision)


def in_torch(encoder: Encoder, pictures: np.ndarray, *, brain: bool) -> None:
    network = encoder.frozen.to(memory_format=torch.channels_last)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=brain):
        for start in range(0, len(pictures), 8):
            batch = torch.from_numpy(pictures[start : start + 8]).to(memory_format=torch.channels_last)
            network(batch).float().numpy()


def in_openvino(path: Path, pictures: np.ndarray, precision: str) -> Way:
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
    """All of encoding, as the stage does it."""
    path.unlink(missing_ok=True)
    encode.encode(path, table, encoder, section)


def speed(arguments: argparse.Namespace, pipeline: Pipeline, table: Examples, folder: Path) -> dict[str, Any]:
    encoder, section = fitted(pipeline)
    pictures = np.stack([encoder.prepare(example.raw) for example in islice(table, arguments.tensors)])
    networks = {name: alone(encoder, name, pictures, folder, arguments.batch_size) for name in arguments.engine}
    (setup, _) = timed(lambda: encoder.fingerprint(section, "train"))
    for way in networks.values():  # caches, and what a library does when it is first called
        way()
    counts = {"encode": arguments.images, **dict.fromkeys(networks, len(pictures))}
    ways = {"encode": lambda: encode_all(table, encoder, section, folder / "encoded.arrow"), **networks}
    rounds: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in tqdm(range(arguments.repeat), desc="rounds"):
        for name, way in ways.items():
            rounds[name].append(tuple(1000 * value / counts[name] for value in timed(way)))
    print(f"{setup:.1f} s to get ready, which is not counted\n{table_of(rounds)}")
    return {"setup_seconds": setup, "clock_and_core_milliseconds_each": rounds}


def timed(way: Way) -> tuple[float, float]:
    """Seconds on the clock, and on all cores together: the latter hardly know of what else the machine does."""
    clock, core = perf_counter(), process_time()
    way()
    return perf_counter() - clock, process_time() - core


def table_of(rounds: dict[str, list[tuple[float, float]]]) -> str:
    """Mean and standard deviation of each way, and how fast encoding is beside it, round by round."""
    lines = [f"{'':18}{'pictures/s':>12}{'±':>8}{'core ms each':>14}{'±':>8}{'encode is':>12}{'±':>8}{'by core':>10}"]
    for name, found in rounds.items():
        rates, cores = [1000 / clock for clock, _ in found], [core for _, core in found]
        shares = [other / own for (own, _), (other, _) in zip(rounds["encode"], found, strict=True)]
        by_core = mean(cores) / mean(core for _, core in rounds["encode"])
        numbers = f"{mean(rates):12.1f}{spread(rates):8.1f}{mean(cores):14.2f}{spread(cores):8.2f}"
        lines.append(f"{name:18}{numbers}{mean(shares):12.1%}{spread(shares):8.1%}{by_core:10.1%}")
    return "\n".join(lines)


def memory(arguments: argparse.Namespace, pipeline: Pipeline, table: Examples, folder: Path) -> dict[str, Any]:
    many = folder / "many.parquet"
    again = (Example(f"{n}/{one.id}", one.split, one.label, one.raw) for n in range(10) for one in table)
    examples.write(many, again, raw=bytes)
    peaks = {}
    for path, count in ((table.path, arguments.images), (many, 10 * arguments.images)):
        command = [sys.executable, __file__, str(path), "--peak", *passed(arguments)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        peaks[count] = json.loads(done.stdout.splitlines()[-1])
        print(f"{count:9,} pictures: before {peaks[count]['before']:6.0f} MB, peak {peaks[count]['peak']:6.0f} MB")
    return {"megabytes": peaks}


def peak(pipeline: Pipeline, path: Path) -> dict[str, float]:
    """The most memory this process has had before encoding, and after, in MB."""
    encoder, section = fitted(pipeline)
    before = highest()
    with tempfile.TemporaryDirectory() as folder:
        encode_all(Examples(path), encoder, section, Path(folder, "encoded.arrow"))
    return {"before": before, "peak": highest()}


def highest() -> float:
    """In MB, on Linux; getrusage would count what the parent process had too."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024 / 1e6


def fitted(pipeline: Pipeline) -> tuple[Encoder, Any]:
    encoder = pipeline.task.Encoder.fit([], pipeline.encode, pipeline.data.limits)
    assert isinstance(encoder, Encoder)
    return encoder, pipeline.encode


def spread(values: list[float]) -> float:
    return stdev(values) if len(values) > 1 else 0.0


def passed(arguments: argparse.Namespace) -> list[str]:
    names = ("backbone", "weights", "views")
    return [text for name in names for text in (f"--{name}", str(getattr(arguments, name)))]


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("--backbone", default="tf_efficientnet_lite0")
    parser.add_argument("--weights", default="imagenet", help="imagenet, none, or a file")
    parser.add_argument("--views", type=int, default=1)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--tensors", type=int, default=256, help="pictures that the network alone goes over")
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
    arguments = parsed()
    pipeline = registry.pipeline("flowers")
    changed = {name: getattr(arguments, name) for name in ("backbone", "weights", "views")}
    pipeline = replace(pipeline, encode=pipeline.encode.model_copy(update=changed))
    if arguments.peak:
        print(json.dumps(peak(pipeline, arguments.source)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        examples.write(folder / "examples.parquet", read(pipeline, arguments.source, arguments.images), raw=bytes)
        measure = memory if arguments.memory else speed
        load = os.getloadavg()[0]
        found = measure(arguments, pipeline, Examples(folder / "examples.parquet"), folder)
    about = {**lineage.environment(), "cores": os.cpu_count(), "load_before": load, "processor": platform.processor()}
    if arguments.json:
        result = {"about": about, "arguments": vars(arguments), **found}
        arguments.json.write_text(json.dumps(result, indent=2, default=str) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
