"""Networks of a task on its encodings: in this process, and in a worker that trains for a search."""

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from tqdm import tqdm

from flowerml.data.encodings import Encoded
from flowerml.engine import onnx
from flowerml.engine.executors import Place, Shared, machine_facts, open_pool
from flowerml.search.driver import Workers
from flowerml.search.networks import Cost
from flowerml.search.trainee import Trainee
from flowerml.tasks.registry import TASKS

if TYPE_CHECKING:
    from torch import Tensor, nn

    from flowerml.config.params import Train
    from flowerml.config.pipeline import Pipeline
    from flowerml.engine.fit import Training
    from flowerml.search.networks import Weights
    from flowerml.tasks.base import Encoder, Task
    from flowerml.tasks.records import Detector

TIMED = 30  # passes of which the shortest is what a network takes
FACTORY = "flowerml.pipeline.trainers:trainee"


@dataclass(frozen=True)
class TaskNetworks:
    """The networks of a task on its training data; `refit_data` are those of train and valid, where a refit is wanted.

    See `flowerml.search.networks.Networks`.
    """

    task: "Task"
    encoder: "Encoder[Any, Any, Any]"
    data: Any
    refit_data: Any = None

    def build(self, section: "Train") -> "tuple[nn.Module, Training]":
        """Return a new network and the iteration that trains it on train."""
        return self.task.build_network(self.data, section)

    def build_refit(self, section: "Train") -> "tuple[nn.Module, Training]":
        """Return a new network and the iteration that trains it on train and valid."""
        return self.task.build_network(self.refit_data, section)

    def predict_valid(self, network: "nn.Module") -> "Tensor":
        """Return the logits of the validation examples, [N, C]."""
        return self.task.predict_valid(self.data, network)

    def valid_targets(self) -> "Tensor":
        """Return their class indices, [N]."""
        return self.task.valid_targets(self.data)

    def combined(self, networks: "Sequence[nn.Module]", weights: "Sequence[float]") -> "nn.Module":
        """Return a network that answers with the weighted mean of the probabilities of others."""
        return self.task.combined(networks, weights)

    def cost(self, network: "nn.Module") -> Cost:
        """Return what a network costs where it is served, measured on a random input."""
        encoder = self.encoder.read_by(network)
        inputs, others = (encoder.preprocessing.random_inputs(count, seed=count) for count in (1, 3))
        with TemporaryDirectory(prefix="flowerml-") as folder:
            path = Path(folder, "network.onnx")
            onnx.export(encoder.graph(network).eval().cpu(), path, trace=inputs, check=others, output="logits")
            graph = onnx.Graph(path, threads=1)
            graph.run(inputs)
            # The shortest, as it says least of what else the machine is doing.
            seconds = min(_seconds(lambda: graph.run(inputs)) for _ in range(TIMED))
            return Cost(1000 * seconds, path.stat().st_size)

    def detector(self, network: "nn.Module", before: "Detector | None" = None) -> "Detector | None":
        """Return the detector of inputs unlike the training examples, for a classifier of this network."""
        return self.task.fit_detector(self.data, network, before)


def _seconds(action: "Callable[[], object]") -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


@contextmanager
def open_workers(pipeline: "Pipeline", place: Place, *, weights: "Weights | None") -> Iterator[Workers | None]:
    """Yield workers at a place that train a pipeline's networks on its encodings; None where this process does.

    Each has as many threads as torch has here. With `weights` their networks start from these.
    """
    if place.in_process:
        yield None
        return
    paths, threads = pipeline.paths, torch.get_num_threads()
    _warn_of_threads(place, threads)
    with (
        TemporaryDirectory(prefix="flowerml-") as folder,
        open_pool(place, threads=threads, facts=machine_facts()) as pool,
    ):
        start = None
        if weights is not None:
            start = Path(folder, "weights.safetensors")
            save_file({name: tensor.contiguous() for name, tensor in weights.items()}, start)
        arguments = (
            pipeline.kind,
            pool.share(paths.encoded),
            pool.share(paths.encoder),
            pipeline.train.model_dump(),
            pool.share(start) if start is not None else None,
        )
        yield Workers(pool, FACTORY, arguments)


def trainee(kind: str, encoded: Shared, encoder: Shared, section: dict[str, Any], weights: Shared | None) -> Trainee:
    """Return a worker's object for the networks of a kind of data, on shared encodings and their encoder.

    `section` is that of the search, as plain data.
    """
    task = TASKS[kind]
    rows = Encoded.read(encoded.path())
    data = task.training_data(rows, rows.classes, task.Encoder.load(encoder.path()))
    make = task.section_types().train.model_validate
    return Trainee(
        WorkerNetworks(task, data, make(section)),
        make,
        load_file(weights.path()) if weights is not None else None,
    )


@dataclass
class WorkerNetworks:
    """The networks of a task in a worker; see `flowerml.search.networks.Builder`.

    The data of a refit are made when the first one begins: most workers train none.
    """

    task: "Task"
    data: Any
    section: "Train"

    def build(self, section: "Train") -> "tuple[nn.Module, Training]":
        """Return a new network and the iteration that trains it on train."""
        return self.task.build_network(self.data, section)

    def build_refit(self, section: "Train") -> "tuple[nn.Module, Training]":
        """Return a new network and the iteration that trains it on train and valid."""
        return self.task.build_network(self._refit_data, section)

    @cached_property
    def _refit_data(self) -> Any:
        return self.task.with_valid(self.data, self.section)


def _warn_of_threads(place: Place, threads: int) -> None:
    """Say that local workers have more threads than there are cores, if so."""
    cores = os.cpu_count() or 1
    if place.engine == "local" and not torch.cuda.is_available() and place.workers * threads > cores:
        fit = max(1, cores // place.workers)
        tqdm.write(
            f"{place.workers} workers with {threads} threads each share {cores} cores, which is slower than without; "
            f"set train.threads to {fit}{'' if place.workers <= cores else f' and use {cores} workers at most'}",
            file=sys.stderr,
        )
