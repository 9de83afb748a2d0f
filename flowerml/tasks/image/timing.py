"""How long fine-tuning takes here, estimated from measurements and from how fast this machine is now."""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

REFERENCE = "tf_efficientnet_lite0"
OVERHEAD = 25.0  # seconds for starting, the head's start, the graph and the report
# Pictures a second on one core of the machine of docs/how-to/fine-tune.md: REFERENCE answers at 224 px in torch, its
# graph encodes, and its last four of seven blocks are trained, in bfloat16 beside augmentation.
ANSWERED, ENCODED, TRAINED = 45.0, 75.0, 51.0
MORE_CORES = 0.74  # exponent: two cores train 1.67 times as fast as one
FLOAT32 = 0.55  # of the speed of bfloat16
ON_GPU = 200.0  # pictures a second and core: what augmentation leaves it


@dataclass(frozen=True)
class Work:
    """What is to be trained: networks by their backbones, at `side` pixels, `whole` or only their last blocks.

    With `refit` all of it twice, the second time with the validation pictures.
    """

    backbones: tuple[str, ...]
    side: int
    whole: bool
    precision: str
    refit: bool


@dataclass(frozen=True)
class Machine:
    """How fast this machine is: its cores, and one of them compared with that of the measurements."""

    cores: int
    share: float

    @classmethod
    def measured(cls) -> "Machine":
        """Return this machine. The shortest of a few passes on one core says little of what else runs now."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return cls(cores, min(4.0, max(0.25, _answers_a_second(REFERENCE) / ANSWERED)))

    def seconds(self, work: Work, epochs: int, counts: Mapping[str, int]) -> float:
        """Return how long it takes in all, with so many epochs."""
        train, valid, test = (counts[split] for split in ("train", "valid", "test"))
        slower = [_answers_a_second(REFERENCE) / _answers_a_second(name) for name in work.backbones]
        answered = ENCODED * self.share * self.cores
        once = sum(slower) * ((train + valid) / answered)  # encoding, then calibration and evaluation of all together
        once += sum(slower) * ((valid * (1 + work.refit) + test) / answered)
        pictures = train * (1 + work.refit) + valid * work.refit
        epoch = sum(pictures * ratio / self._trained_a_second(work) + valid * ratio / answered for ratio in slower)
        return OVERHEAD + once + epochs * epoch

    def epochs(self, work: Work, seconds: float, counts: Mapping[str, int]) -> int:
        """Return how many epochs fit into so many seconds."""
        fixed = self.seconds(work, 0, counts)
        return max(0, int((seconds - fixed) / (self.seconds(work, 1, counts) - fixed)))

    def _trained_a_second(self, work: Work) -> float:
        import torch

        if torch.cuda.is_available():
            return ON_GPU * self.cores
        speed = TRAINED * self.share * self.cores**MORE_CORES * (224 / work.side) ** 2
        return speed * (FLOAT32 if work.precision == "float32" else 1) * (0.5 if work.whole else 1)


@cache
def _answers_a_second(backbone: str) -> float:
    """Return how many pictures of 224 pixels a network answers on one core, at its fastest."""
    import torch

    from flowerml.tasks.image.encoder.backbone import architecture

    network = architecture(backbone, crop=224)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            return 1 / min(_seconds(lambda: network(torch.zeros(1, 3, 224, 224))) for _ in range(6))
    finally:
        torch.set_num_threads(threads)


def _seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started
