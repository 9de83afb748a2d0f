"""How Hypothesis is run, and bytes that were damaged or forged.

In `make test` a few examples, the same at every run. FLOWERML_EXAMPLES=20000 tries as many of each property, others
at every run, which is what found those that are named in the tests.
"""

import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

FEW = 60
SECONDS = 5.0  # of the processor, for one example; most take a thousandth of it
TELLING = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**62)

_wanted = int(os.environ.get("FLOWERML_EXAMPLES", "0"))
few = settings(
    max_examples=_wanted or FEW,
    derandomize=not _wanted,
    database=None,
    deadline=None,  # of the clock, which depends on what else the machine does; `in_time` asks the processor
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
)
fewer = settings(few, max_examples=few.max_examples // 10)  # of what asks a network hundreds of times

Change = tuple[str, float, bytes]
"""What is done, where (as a share of the length), and with which bytes."""

_numbers = st.builds(
    lambda value, form: struct.pack(form, value & (256 ** struct.calcsize(form) - 1)),
    st.sampled_from(TELLING) | st.integers(0, 2**64 - 1),
    st.sampled_from(["B", "<H", ">H", "<L", ">L", "<Q", ">Q"]),
)
_places = st.floats(0, 1)
_values = _numbers | st.binary(min_size=1, max_size=40)
forgeries = st.lists(st.tuples(st.sampled_from(["flip", "put"]), _places, _values), min_size=1, max_size=3)
"""Changes after which everything else is where it was: what was read before is believed further."""
_damages = st.tuples(st.sampled_from(["cut", "flip", "put", "insert", "delete", "repeat"]), _places, _values)
changes: st.SearchStrategy[list[Change]] = forgeries | st.lists(_damages, min_size=1, max_size=6)


def changed(content: bytes, made: list[Change]) -> bytes:
    """The bytes after these changes, one after the other."""
    for kind, share, value in made:
        content = _changed(content, kind, int(share * len(content)), value)
    return content


def _changed(content: bytes, kind: str, at: int, value: bytes) -> bytes:
    before, behind = content[:at], content[at:]
    if kind == "cut":
        return before
    if kind == "flip":
        return before + bytes(one ^ other for one, other in zip(behind, value, strict=False)) + behind[len(value) :]
    if kind == "put":
        return before + value + behind[len(value) :]
    if kind == "insert":
        return before + value + behind
    if kind == "delete":
        return before + behind[len(value) :]
    return before + behind[: 50 * len(value)] + behind


@contextmanager
def in_time() -> Iterator[None]:
    """Fails where the block takes more than SECONDS of the processor."""
    start = time.process_time()
    yield
    taken = time.process_time() - start
    assert taken < SECONDS, f"took {taken:.1f} s"
