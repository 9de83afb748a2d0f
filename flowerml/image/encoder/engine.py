"""What runs the frozen backbone over many pictures."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from flowerml import onnx
from flowerml.image.encoder.pictures import Pixels


def engine(frozen: nn.Module, *, crop: int) -> Callable[[Pixels], Pixels]:
    """A function from pictures [N, 3, crop, crop] to features [N, D], both float32.

    torch on a GPU; else ONNX Runtime, which on a CPU is several times faster and is the function that is served.
    """
    return _on_gpu(frozen) if torch.cuda.is_available() else _on_cpu(frozen, crop)


def _on_gpu(frozen: nn.Module) -> Callable[[Pixels], Pixels]:
    frozen = frozen.cuda()

    @torch.inference_mode()
    def run(pictures: Pixels) -> Pixels:
        return frozen(torch.from_numpy(pictures).cuda(non_blocking=True)).cpu().numpy()

    return run


def _on_cpu(frozen: nn.Module, crop: int) -> Callable[[Pixels], Pixels]:
    rng = np.random.default_rng(0)
    trace, check = ({"image": rng.standard_normal((n, 3, crop, crop), dtype=np.float32)} for n in (1, 3))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "frozen.onnx")
        onnx.export(frozen, path, trace=trace, check=check, output="features")
        run = onnx.runner(path)
    return lambda pictures: run({"image": pictures})
