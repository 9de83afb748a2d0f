"""What the last bits of a result depend on: processor, GPU, versions and code. Workers must share them."""

import os
import platform
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path

from flowerml.core import fingerprint
from flowerml.core.display import one_line
from flowerml.core.errors import FlowermlError

MIXED = "FLOWERML_MIXED"
CODE = "code of flowerml"
PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "transformers",
    "tokenizers",
    "numpy",
    "scipy",
    "scikit-learn",
    "onnxruntime",
    "pillow",
)
# With these a library is told to use other instructions than the processor has.
VARIABLES = (
    "ATEN_CPU_CAPABILITY",
    "DNNL_MAX_CPU_ISA",
    "ONEDNN_MAX_CPU_ISA",
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
    "NVIDIA_TF32_OVERRIDE",
    "OPENBLAS_CORETYPE",
)
# The families of instructions that kernels are chosen by.
INSTRUCTIONS = ("amx", "asimd", "avx", "bf16", "f16c", "fma", "i8mm", "sse4", "sve")
GPU_DEVICES = ("/dev/nvidia0", "/dev/nvidiactl", "/dev/kfd", "/dev/dxg")


class MixedMachines(FlowermlError):
    """A worker whose results could differ from the driver's in the last bits."""


def machine_facts() -> dict[str, str]:
    """Return what the bits of a result depend on in this process, in words that can be shown.

    >>> sorted(machine_facts())[:3]
    ['GPU', 'Python', 'code of flowerml']
    """
    return {**_settled_facts(), "GPU": _gpu(), "variables": _variables()}


@cache
def _settled_facts() -> dict[str, str]:
    return {
        "processor": _processor(),
        "Python": platform.python_version(),
        CODE: _code_digest(),
        **{name: _version(name) for name in PACKAGES},
    }


def location() -> str:
    """Return where this process imports flowerml from: a folder of one machine, as another container is another one."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        boot = ""
    return f"{platform.node()} {boot} {Path(__file__).parents[2]}"


def differences(driver: Mapping[str, str], worker: Mapping[str, str]) -> list[str]:
    """Return in words where a worker's facts are not the driver's.

    >>> differences({"torch": "2.9.1", "GPU": "none"}, {"torch": "2.8.0", "GPU": "none"})
    ['torch 2.8.0 (the driver: 2.9.1)']
    """
    names = [*driver, *(name for name in worker if name not in driver)]
    return [
        f"{name} {worker.get(name, 'unknown')} (the driver: {driver.get(name, 'unknown')})"
        for name in names
        if driver.get(name) != worker.get(name)
    ]


def check_alike(driver: Mapping[str, str], worker: Mapping[str, str], *, name: str) -> str | None:
    """Raise MixedMachines where a worker is unlike the driver; return a warning where FLOWERML_MIXED allows it.

    Other code of flowerml is never allowed: the two would not understand each other.
    """
    lines = differences(driver, worker)
    if not lines:
        return None
    difference = one_line("; ".join(lines), 400)
    if any(line.startswith(f"{CODE} ") for line in lines):
        raise MixedMachines(f"{name} runs other code of flowerml than this command; install the same version on both")
    if os.environ.get(MIXED, "") != "allow":
        raise MixedMachines(
            f"{name} could give other results in the last bits: {difference}; use like machines, or set {MIXED}=allow "
            "to go on without the promise of equal results"
        )
    return f"{name} is unlike this machine, so results may differ in the last bits: {difference}"


def _processor() -> str:
    """Return the make and model of the processor, and the instructions that kernels are chosen by."""
    fields: dict[str, str] = {}
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as file:
            for line in file:
                name, colon, value = line.partition(":")
                if not colon and fields:
                    break
                fields[name.strip()] = value.strip()
    except OSError:
        return f"{platform.machine()} {platform.processor()} ({platform.system()})"
    make = [
        fields[name]
        for name in ("vendor_id", "cpu family", "model", "CPU implementer", "CPU architecture", "CPU part")
        if name in fields
    ]
    flags = (fields.get("flags") or fields.get("Features") or "").split()
    instructions = sorted(flag for flag in flags if flag.startswith(INSTRUCTIONS))
    return f"{platform.machine()} {' '.join(make)} with {' '.join(instructions)}"


def _gpu() -> str:
    """Return the name of the GPU that torch would use, `none` without one.

    torch takes seconds to import, so it is not asked where there is no device of a GPU.
    """
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden == "" or (platform.system() == "Linux" and not any(Path(device).exists() for device in GPU_DEVICES)):
        return "none"
    try:
        import torch
    except ModuleNotFoundError:
        return "none"
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "none"


def _variables() -> str:
    chosen = [f"{name}={os.environ[name]}" for name in VARIABLES if name in os.environ]
    return " ".join(chosen) or "none"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _code_digest() -> str:
    """Return a digest of the source files of this package."""
    package = Path(__file__).parents[2]
    return fingerprint.of({}, packages=(), code=sorted(package.rglob("*.py")))[:16]
