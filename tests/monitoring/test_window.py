"""The sliding window: what it holds, and when it is compared."""

import numpy as np
import pytest

from flowerml.monitoring.record import Record, digest
from flowerml.monitoring.reference import Reference
from flowerml.monitoring.window import Window


def records(count, *, shift=0.0, seed=1):
    values = np.random.default_rng(seed).normal(shift, 1, count)
    return [
        Record(
            time=float(number),
            request="",
            model="flowers",
            version="1",
            digest=digest(f"{seed} {number}"),
            top=(("rose", 0.9),),
            known=True,
            properties={"brightness": float(value)},
        )
        for number, value in enumerate(values)
    ]


@pytest.fixture(scope="module")
def reference():
    return Reference.of(records(300, seed=0))


def window(reference, *, size=100, seconds=0.0):
    return Window(reference, size=size, seconds=seconds)


def test_a_shift_of_one_deviation_is_drift(reference):
    shifted, alike = window(reference), window(reference)
    for one, other in zip(records(100, shift=1.0), records(100), strict=True):
        shifted.add(one)
        alike.add(other)
    assert shifted.compare().drifted and not alike.compare().drifted


def test_old_records_leave_the_window(reference):
    sliding = window(reference)
    for record in (*records(100, shift=3.0), *records(100, seed=2)):
        sliding.add(record)
    assert len(sliding) == 100 and not sliding.compare().drifted


def test_a_repeated_input_is_there_once(reference):
    probed = window(reference)
    for record in records(60) + records(60)[:1] * 500:
        probed.add(record)
    assert len(probed) == 60 and probed.compare().distinct == 60


def test_few_or_no_new_records_are_not_compared(reference):
    waiting = window(reference)
    for record in records(49):
        waiting.add(record)
    assert waiting.wait() is None and waiting.compare() is None
    waiting.add(records(50)[-1])
    assert waiting.wait() == 0 and waiting.compare() is not None
    assert waiting.wait() is None and waiting.compare() is None


def test_a_comparison_waits_for_its_time(reference):
    waiting = window(reference, seconds=100.0)
    for record in records(60):
        waiting.add(record)
    assert 90 < waiting.wait() <= 100 and waiting.compare() is None


def test_a_comparison_that_fails_is_not_tried_again_at_once(reference, monkeypatch):
    failing = window(reference)
    for record in records(60):
        failing.add(record)
    monkeypatch.setattr("flowerml.monitoring.window.compare", None)
    with pytest.raises(TypeError):
        failing.compare()
    assert failing.wait() is None


def test_a_reference_of_few_examples_is_left_alone():
    alone = window(Reference.of(records(10)))
    for record in records(60):
        alone.add(record)
    assert alone.compare() is None


def test_inputs_that_could_not_be_read_count_too(reference):
    broken = window(reference)
    for record in records(60):
        broken.add(record)
    for number in range(20):
        broken.add(Record(time=1.0, request=str(number), model="flowers", version="1", digest="", error="empty"))
    drift = broken.compare()
    assert (drift.errors, drift.drifted) == (20, True)
