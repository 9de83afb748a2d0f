"""Where networks run: the GPU if there is one, else the CPU; batches moved there, and lower precision."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager

import torch
from torch import Tensor

Inputs = tuple[Tensor, ...]
"""The inputs of a network, each with the batch as its first axis."""


def device() -> torch.device:
    """Return the GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def repeat_to_the_bit() -> None:
    """Keep a GPU to algorithms that give the same bits each time, so that a training resumes as if never interrupted.

    By default cuDNN sums the gradients of convolutions in any order.
    """
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False


def moved(tensor: Tensor, target: torch.device) -> Tensor:
    """Return a tensor of the CPU on `target`; a GPU copies it while the CPU goes on, from pinned memory."""
    if target.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(target, non_blocking=True)


def on_device(batches: Iterable[tuple[Inputs, Tensor]]) -> Iterator[tuple[Inputs, Tensor]]:
    """Yield the batches, moved to the device."""
    target = device()
    for inputs, targets in batches:
        yield tuple(moved(tensor, target) for tensor in inputs), moved(targets, target)


def autocast(precision: str) -> AbstractContextManager[object]:
    """Return the context in which a network computes in `precision`: float32, or bfloat16 where torch deems it safe.

    The weights stay in float32. bfloat16 has its range, so that no gradient is scaled, as float16 would need.

    >>> with autocast("bfloat16"):
    ...     torch.nn.Linear(2, 2).to(device())(torch.zeros(1, 2, device=device())).dtype
    torch.bfloat16
    """
    return torch.autocast(device().type, dtype=torch.bfloat16, enabled=precision == "bfloat16")


def fast_bfloat16() -> bool:
    """Return whether this machine multiplies in bfloat16 faster than in float32."""
    if device().type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") or capabilities.get("bf16"))


def describe(precision: str) -> str:
    """Return in a few words what a network trains on, such as `a CPU with 2 threads, in float32`."""
    threads = torch.get_num_threads()
    name = f"a CPU with {threads} thread{'s' if threads > 1 else ''}"
    if device().type == "cuda":
        name = f"a GPU ({torch.cuda.get_device_name()}), pictures channels last and batches pinned"
    slow = precision == "bfloat16" and not fast_bfloat16()
    return f"{name}, in {precision}" + (" (which it computes slowly; float32 is faster)" if slow else "")
