"""`kill -9` in the middle of fine-tuning: a re-run resumes and ends with the same weights."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.project import REPOSITORY

# A batch of one picture makes an epoch long enough to be killed in.
TRAINING = """
import sys
from pathlib import Path
from flowerml.core.fingerprint import of_tensors
from flowerml.search.checkpoint import Checkpoint
from flowerml.search.study import Search
from flowerml.tasks.image.networks import build_network
from tests.tasks.image.test_fine_tuning import data, section

values = section(
    epochs=6, batch_size=1, dropout=0.2, ema=0.9, mixup=0.3, clip_norm=1.0, accumulate=2, warmup_epochs=0.5,
    precision="bfloat16", search={"trials": 1, "prune": False, "space": {}},
)
trial, checkpoint = next(iter(Search(values))), Checkpoint(Path(sys.argv[1]), "key")
network, training = build_network(data(), values)
saved = checkpoint.running(trial)
if saved is not None:
    trial.restore(saved.epochs, state="complete", reason="")
    training.resume(saved.state)
for epoch in training:
    trial.report(epoch)
    checkpoint.write(trial, training)
    print(epoch.number, flush=True)
print(of_tensors(network.state_dict()))
"""


def command(folder: Path) -> list[str]:
    return [sys.executable, "-c", TRAINING, str(folder)]


def killed_after(folder: Path, epochs: int, *, delay: float) -> list[str]:
    """Kill a training some time after it has finished so many epochs; return the numbers of those."""
    with subprocess.Popen(command(folder), cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        seen = [process.stdout.readline().strip() for _ in range(epochs)]
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    return seen


@pytest.mark.extended
def test_killed_fine_tuning_resumes_to_the_bit(tmp_path):
    def run(folder: Path) -> list[str]:
        done = subprocess.run(command(folder), cwd=REPOSITORY, capture_output=True, text=True, check=True)
        return done.stdout.split()

    whole = run(tmp_path / "whole")
    generator = random.Random(0)
    seen = killed_after(tmp_path / "killed", 2, delay=generator.uniform(0, 0.02))
    seen += killed_after(tmp_path / "killed", 1, delay=generator.uniform(0, 0.02))
    rest = run(tmp_path / "killed")
    assert seen[0] == "1" and seen[2] != "1" and rest[0] != "1"
    assert rest[-1] == whole[-1]
