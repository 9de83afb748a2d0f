"""benchmarks/drift.py draws reference and window without an example in both, and judges what it counted."""

import importlib
import io

import numpy as np
import pytest
from PIL import Image

from tests.monitoring.test_drift import FEATURES, records
from tests.support.project import REPOSITORY
from tests.support.registered import jpeg


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")
    return importlib.import_module("drift")


def test_counts_alarms_for_each_change(benchmark):
    known = records(180, seed=1)
    darker = records(180, seed=2, brightness=-3.0)
    pool = benchmark.Pool(known, records(60, seed=3, features=2.0), {"darkened": darker}, {})
    results = {result.change: result for result in benchmark.measure(pool, FEATURES, size=60, draws=4)}
    assert [result.alarms for result in results.values()] == [0, 4, 4]
    assert results["darkened"].share == 1 and results["darkened"].first == "brightness"
    assert "half of the classes new" in results


def test_no_example_is_on_both_sides(benchmark):
    pool = benchmark.Pool(records(150, seed=1), records(60, seed=3), {}, {})
    for draw in benchmark.windows(pool, 60).values():
        reference, window = draw(np.random.default_rng(0))
        assert len(window) == 60 and not {each.digest for each in reference} & {each.digest for each in window}


def test_changes_of_pictures_and_texts(benchmark):
    raw = jpeg(0, side=128)
    changed = {name: change(raw) for name, change in benchmark.changes(raw).items()}
    light = {name: np.asarray(Image.open(io.BytesIO(content))).mean() for name, content in changed.items()}
    assert len(changed) == 3 and len(set(changed.values())) == 3
    assert light["darkened to 50%"] == pytest.approx(light["blurred"] / 2, rel=0.1)
    assert benchmark.changes("Rose")["upper case"]("Rose") == "ROSE"
