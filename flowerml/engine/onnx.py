"""ONNX graphs: written from a torch module, checked against it, and run."""

import hashlib
import os
import resource
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, BinaryIO, TypeVar

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from flowerml.core.display import one_line, printable
from flowerml.core.errors import ModelError
from flowerml.core.forking import PerProcess
from flowerml.core.regular import open_regular
from flowerml.engine import graph_check

if TYPE_CHECKING:
    from torch import nn

TOLERANCE = 1e-4  # relative to the largest output; fp32 graphs were seen to differ from torch by 1e-6
OPSET = 18
MAX_BYTES = 2**31  # protobuf reads no larger file
LOAD_SECONDS = 60.0  # to make a session, and for one input; the largest networks tried take a few
MEMORY_SHARE = 0.75
CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"

R = TypeVar("R")

Arrays = Mapping[str, NDArray[np.float32] | NDArray[np.int64]]
"""Inputs by name."""
TYPES = {"float32": "float", "float64": "double"}  # NumPy's names of types that ONNX calls otherwise
_state = onnxruntime.capi.onnxruntime_pybind11_state
ERRORS: tuple[type[Exception], ...] = (
    RuntimeError,
    ValueError,
    MemoryError,
    *(value for value in vars(_state).values() if isinstance(value, type) and issubclass(value, Exception)),
)
"""What a session raises, which derives from Exception alone."""


class Graph:
    """A graph that a file holds, for any number of threads and for the processes that are forked from this one.

    The file may come from a stranger: see `graph_check`. It stays open, as a fork does not copy the threads of a
    session: a child makes its own of the same bytes, also where the file was replaced meanwhile. `digest` is the
    SHA-256 of its bytes in hex. If `accelerated` it runs on a GPU where ONNX Runtime has CUDA: `on_gpu` says so. Raises
    OSError where the file cannot be read, ModelError where it is not accepted.
    """

    def __init__(self, path: Path, *, threads: int = 0, accelerated: bool = False) -> None:
        self._file = open_regular(path, limit=MAX_BYTES)
        self._new_session = partial(session, threads=threads, accelerated=accelerated)
        content = _content(self._file)
        self.digest = hashlib.sha256(content).hexdigest()
        graph_check.check(content)
        self._made: onnxruntime.InferenceSession | None = within(LOAD_SECONDS, lambda: self._new_session(content))
        self._session = PerProcess(self._make)
        self._inputs = [node.name for node in self._session().get_inputs()]
        self.outputs = len(self._session().get_outputs())
        self.on_gpu = CUDA in self._session().get_providers()  # without a driver the CPU is left

    def run(self, inputs: Arrays) -> tuple[NDArray[np.float32], ...]:
        """Return the outputs for inputs by name, of which the graph reads some; raises ModelError where it fails."""
        try:
            outputs = self._session().run(None, {name: inputs[name] for name in self._inputs})
        except ERRORS as error:
            raise ModelError(f"the network fails: {printable(one_line(error), 200)}") from None
        return tuple(outputs)

    def check(self, inputs: Arrays, *, width: int, features: int = 0) -> None:
        """Raise ModelError unless the graph reads such inputs, and returns finite numbers in time.

        These are [B, `width`]; as a second output that a graph need not have, [B]; and with `features`, as a third one,
        [B, `features`].
        """
        for node in self._session().get_inputs():
            expected = inputs.get(node.name)
            if expected is None:
                raise ModelError(f"the network reads an unknown input {printable(node.name, 60)!r}")
            kind = TYPES.get(expected.dtype.name, expected.dtype.name)
            if node.type != f"tensor({kind})":
                raise ModelError(
                    f"the network reads {node.name} as {printable(node.type, 60)}, expected tensor({kind})"
                )
        outputs = self._session().get_outputs()
        counts, expected_count = ((3,), "three outputs") if features else ((1, 2), "one or two outputs")
        if len(outputs) not in counts or any(output.type != "tensor(float)" for output in outputs):
            raise ModelError(f"expected a network with {expected_count} of float numbers")
        answers = within(LOAD_SECONDS, lambda: self.run(inputs))
        rows = len(next(iter(inputs.values())))
        for answer, expected_shape in zip(answers, ((rows, width), (rows,), (rows, features)), strict=False):
            if answer.shape != expected_shape:
                raise ModelError(f"the network returns {list(answer.shape)} numbers, expected {list(expected_shape)}")
            if not np.isfinite(answer).all():
                raise ModelError("the network returns numbers that are not finite")

    def _make(self) -> onnxruntime.InferenceSession:
        made, self._made = self._made, None
        if made is not None:
            return made
        content = _content(self._file)
        if hashlib.sha256(content).hexdigest() != self.digest:
            raise ModelError("the file of the network was changed in place while it was in use; load it again")
        return self._new_session(content)


def session(content: bytes, threads: int, *, accelerated: bool = False) -> onnxruntime.InferenceSession:
    """Return a session on the CPU; `threads` 0 uses all cores. A session may be used from many threads at once.

    If `accelerated` it is on the GPU, where ONNX Runtime has CUDA.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Waiting threads sleep: spinning, they would take the cores from other requests and from the rest of the machine.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # ONNX Runtime must not read the bytes as another format: `graph_check` has read them as ONNX.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    if _limit_memory() == os.getpid():
        options.add_session_config_entry("session.use_env_allocators", "1")
    options.log_severity_level = 4
    # Constants are folded while a session is made, by running a part of the graph: 186 bytes took 5.5 s. Without it
    # flowerml's graphs return the same bits, in the same time but for 0.3 ms of 5 for a picture.
    return onnxruntime.InferenceSession(
        content, options, providers=providers(accelerated=accelerated), disabled_optimizers=["ConstantFolding"]
    )


def providers(*, accelerated: bool) -> list[str | tuple[str, dict[str, str]]]:
    """Return what runs a graph: the CPU, or first CUDA, if `accelerated` and where ONNX Runtime has it."""
    if accelerated and CUDA in onnxruntime.get_available_providers():
        # TF32 rounds to 10 bits, which would move answers in their third digit.
        return [(CUDA, {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}), CPU]
    return [CPU]


def within(seconds: float, function: Callable[[], R]) -> R:
    """Return what `function` returns; raise ModelError if it takes longer.

    Its thread then keeps running, as nothing stops a kernel of ONNX Runtime, but the process can end without it.
    """
    future: Future[R] = Future()

    def work() -> None:
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    Thread(target=work, daemon=True, name="graph").start()
    try:
        return future.result(timeout=seconds)
    except TimeoutError:
        raise ModelError(f"the network took more than {seconds:g} s to load or for one input") from None
    except ModelError:
        raise
    except ERRORS as error:
        raise ModelError(f"the network cannot be loaded: {printable(one_line(error), 200)}") from None


@cache
def _limit_memory() -> int:
    """Limit all sessions of this process together to MEMORY_SHARE of the memory; return the process's id.

    A network that asks for more fails, and the process is not killed. A child process is not limited: the allocator
    has a lock that another thread may have held at the fork.
    """
    kind = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR
    where = onnxruntime.OrtMemoryInfo("Cpu", kind, 0, onnxruntime.OrtMemType.DEFAULT)
    limit = int(MEMORY_SHARE * memory())
    onnxruntime.create_and_register_allocator(where, onnxruntime.OrtArenaCfg({"max_mem": limit}))
    return os.getpid()


def memory() -> int:
    """Return the bytes of memory that this process may use: of the machine, of its container or of `ulimit -v`."""
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        limits.append(soft)
    with suppress(OSError, ValueError):  # no control group, or one without a limit ("max")
        limits.append(int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return min(limits)


def _content(file: BinaryIO) -> bytes:
    """Return the bytes of an open file, without moving its position, which forked processes share."""
    size = os.fstat(file.fileno()).st_size
    parts = []
    start = 0
    while start < size and (part := os.pread(file.fileno(), size - start, start)):
        parts.append(part)
        start += len(part)
    return b"".join(parts) if len(parts) != 1 else parts[0]


def runner(path: Path, *, threads: int = 0) -> Callable[[Arrays], NDArray[np.float32]]:
    """Return a function from inputs by name to the first output; inputs that the graph does not read are ignored."""
    graph = Graph(path, threads=threads)
    return lambda inputs: graph.run(inputs)[0]


def export(
    module: "nn.Module", path: Path, *, trace: Arrays, check: Arrays, output: str, others: Sequence[str] = ()
) -> None:
    """Write `module` as an ONNX graph with a free batch size, and check that the saved graph agrees with torch.

    The module returns one tensor, called `output`, or a tuple with the `others` behind it. `trace` and `check` are
    inputs by name, of different batch sizes (and lengths, if inputs have any): an axis that differs between them is
    free. Raises ModelError for an operator that ONNX lacks, and where graph and module differ by more than TOLERANCE of
    the largest number in an output.
    """
    import torch

    module = module.eval().cpu()
    arguments = tuple(torch.from_numpy(array) for array in trace.values())
    axes = {name: _free_axes(name, trace[name], check[name]) for name in trace}
    outputs = [output, *others]
    with _exportable():
        torch.onnx.export(
            module,
            arguments,
            str(path),
            dynamo=False,  # of the two exporters the one that was right on every network tried, and seven times faster
            opset_version=OPSET,
            input_names=list(trace),
            output_names=outputs,
            dynamic_axes={**axes, **{name: {0: "batch"} for name in outputs}},
        )
    _check(module, path, check)


@contextmanager
def _exportable() -> Iterator[None]:
    """Keep torch to operators that ONNX has, and its failures to one line instead of a thousand."""
    import torch

    fastpath = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # in evaluation mode torch would use a fused operator of its own
    torch._C._jit_set_onnx_log_enabled(False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (torch.onnx.OnnxExporterError, TypeError) as error:
        if isinstance(error, TypeError) and "when translating" not in str(error):
            raise
        reason = one_line(str(error).splitlines()[0], 200)
        raise ModelError(f"this network cannot be written as an ONNX graph: {reason}") from None
    finally:
        torch.backends.mha.set_fastpath_enabled(fastpath)


def _free_axes(name: str, trace: NDArray[np.generic], check: NDArray[np.generic]) -> dict[int, str]:
    # Of each input its own: ONNX Runtime takes axes of one name to be equally long, and lets tensors share memory.
    axes = {axis: f"{name}_axis{axis}" for axis in range(trace.ndim) if trace.shape[axis] != check.shape[axis]}
    return {**axes, 0: "batch"}


def _check(module: "nn.Module", path: Path, inputs: Arrays) -> None:
    import torch

    with torch.inference_mode():
        returned = module(*(torch.from_numpy(array) for array in inputs.values()))
    expected = [tensor.numpy() for tensor in (returned if isinstance(returned, tuple) else (returned,))]
    for found, wanted in zip(Graph(path).run(inputs), expected, strict=True):
        error = np.abs(found - wanted).max() / max(1.0, np.abs(wanted).max())
        if not error <= TOLERANCE:
            raise ModelError(
                f"the exported graph differs from torch by {error:.1e} of the largest output; "
                f"at most {TOLERANCE:.0e} is accepted"
            )
