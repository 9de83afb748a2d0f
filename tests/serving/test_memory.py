"""What a server keeps of the memory that a request took."""

import subprocess
import sys

import pytest

CODE = """
import resource
import numpy as np
from flowerml.serving.memory import configure_malloc

configure_malloc()

def faults(size):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(50):
        np.empty(size, np.uint8).fill(1)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / 50

print(faults(800_000), faults(4_000_000))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc is told what to keep")
def test_small_blocks_are_kept_and_large_ones_returned():
    output = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True).stdout
    small, large = map(float, output.split())
    assert small < 20  # of 195 pages
    assert large > 500  # of 977
