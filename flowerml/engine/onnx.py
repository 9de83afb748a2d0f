"""ONNX graphs: written from a torch module, checked against it, and run."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from flowerml.core.display import one_line
from flowerml.core.errors import ModelError

if TYPE_CHECKING:
    from torch import nn

TOLERANCE = 1e-4  # relative to the largest output; fp32 graphs were seen to differ from torch by 1e-6
OPSET = 18

Arrays = Mapping[str, NDArray[np.float32] | NDArray[np.int64]]
"""Inputs by name."""


def session(path: Path, *, threads: int = 0) -> onnxruntime.InferenceSession:
    """Return a session on the CPU; `threads` 0 uses all cores. A session may be used from many threads at once."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Waiting threads sleep: spinning, they would take the cores from other requests and from the rest of the machine.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def runner(path: Path, *, threads: int = 0) -> Callable[[Arrays], NDArray[np.float32]]:
    """Return a function from inputs by name to the graph's output; inputs that the graph does not read are ignored."""
    graph = session(path, threads=threads)
    names = [node.name for node in graph.get_inputs()]

    def run(inputs: Arrays) -> NDArray[np.float32]:
        output: NDArray[np.float32] = graph.run(None, {name: inputs[name] for name in names})[0]
        return output

    return run


def export(module: "nn.Module", path: Path, *, trace: Arrays, check: Arrays, output: str) -> None:
    """Write `module` as an ONNX graph with a free batch size, and check that the saved graph agrees with torch.

    `trace` and `check` are inputs by name, of different batch sizes (and lengths, if inputs have any): an axis that
    differs between them is free. Raises ModelError for an operator that ONNX lacks, and where graph and module differ
    by more than TOLERANCE of the largest output.
    """
    import torch

    module = module.eval().cpu()
    arguments = tuple(torch.from_numpy(array) for array in trace.values())
    axes = {name: _free_axes(trace[name], check[name]) for name in trace}
    with _exportable():
        torch.onnx.export(
            module,
            arguments,
            str(path),
            dynamo=False,  # of the two exporters the one that was right on every network tried, and seven times faster
            opset_version=OPSET,
            input_names=list(trace),
            output_names=[output],
            dynamic_axes={**axes, output: {0: "batch"}},
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


def _free_axes(trace: NDArray[np.generic], check: NDArray[np.generic]) -> dict[int, str]:
    axes = {axis: f"axis{axis}" for axis in range(trace.ndim) if trace.shape[axis] != check.shape[axis]}
    return {**axes, 0: "batch"}


def _check(module: "nn.Module", path: Path, inputs: Arrays) -> None:
    import torch

    with torch.inference_mode():
        expected = module(*(torch.from_numpy(array) for array in inputs.values())).numpy()
    error = np.abs(runner(path)(inputs) - expected).max() / max(1.0, np.abs(expected).max())
    if not error <= TOLERANCE:
        raise ModelError(
            f"the exported graph differs from torch by {error:.1e} of the largest output; "
            f"at most {TOLERANCE:.0e} is accepted"
        )
