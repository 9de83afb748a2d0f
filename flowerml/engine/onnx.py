"""From a torch module to an ONNX graph and a session that runs it."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from flowerml.core.errors import ModelError

if TYPE_CHECKING:
    from torch import nn

TOLERANCE = 1e-4  # of the largest output; fp32 graphs were seen to differ from torch by 1e-6
OPSET = 18

Arrays = Mapping[str, NDArray[Any]]


def session(path: Path, *, threads: int = 0) -> onnxruntime.InferenceSession:
    """A session on the CPU; `threads` 0 takes all cores. Sessions may be used from many threads at once."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Threads that wait sleep: spinning, they take the cores from other requests, and from the rest of the machine.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def runner(path: Path, *, threads: int = 0) -> Callable[[Arrays], NDArray[Any]]:
    """A function from inputs by name to the graph's output. Inputs that the graph does not read are passed over."""
    running = session(path, threads=threads)
    names = [one.name for one in running.get_inputs()]
    return lambda inputs: running.run(None, {name: inputs[name] for name in names})[0]


def export(module: "nn.Module", path: Path, *, trace: Arrays, check: Arrays, output: str) -> None:
    """Write `module` as an ONNX graph whose first axes are free, and see that the saved graph agrees with torch.

    `trace` and `check` are inputs by name, of different batch sizes (and lengths, where inputs have any).
    Raises ModelError for what ONNX has no operators for, and where graph and module differ by more than TOLERANCE
    of the largest output.
    """
    import torch

    module = module.eval().cpu()
    arguments = tuple(torch.from_numpy(array) for array in trace.values())
    free = {name: _free_axes(trace[name], check[name]) for name in trace}
    with _translatable():
        torch.onnx.export(
            *(module, arguments, str(path)),
            dynamo=False,  # of the two exporters the one that was right on every network tried, and seven times faster
            opset_version=OPSET,
            input_names=list(trace),
            output_names=[output],
            dynamic_axes={**free, output: {0: "batch"}},
        )
    _check(module, path, check)


@contextmanager
def _translatable() -> Iterator[None]:
    """Keeps torch from what ONNX has no word for, and from telling of it in a thousand lines."""
    import torch

    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # an operator of torch alone, taken where nothing is trained
    torch._C._jit_set_onnx_log_enabled(False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (torch.onnx.OnnxExporterError, TypeError) as error:
        if isinstance(error, TypeError) and "when translating" not in str(error):
            raise
        reason = str(error).splitlines()[0][:200]
        raise ModelError(f"this network cannot be written as an ONNX graph: {reason}") from None
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


def _free_axes(one: NDArray[Any], other: NDArray[Any]) -> dict[int, str]:
    axes = {axis: f"axis{axis}" for axis in range(one.ndim) if one.shape[axis] != other.shape[axis]}
    return {**axes, 0: "batch"}


def _check(module: "nn.Module", path: Path, inputs: Arrays) -> None:
    import torch

    with torch.inference_mode():
        expected = module(*(torch.from_numpy(array) for array in inputs.values())).numpy()
    found = runner(path)(inputs)
    apart = np.abs(found - expected).max() / max(1.0, np.abs(expected).max())
    if not apart <= TOLERANCE:
        raise ModelError(f"the exported graph is {apart:.1e} away from torch; at most {TOLERANCE:.0e} is accepted")
