"""Slices: which inputs are harder."""

import numpy as np

from flowerml.evaluation.slices import slice_table
from flowerml.tasks.properties import input_properties
from flowerml.tasks.registry import TASKS


def test_worse_slices_are_found_in_noise():
    generator = np.random.default_rng(0)
    light = generator.random(800)
    properties = [{"brightness": value, "size": 256.0, "shape": "wide" if value > 0.5 else "tall"} for value in light]
    hits = generator.random(800) < np.where(light < np.quantile(light, 0.25), 0.7, 0.95)
    table = slice_table(properties, hits)
    worst = table.iloc[0]
    assert worst["property"] == "brightness" and worst["slice"].startswith("lowest quarter")
    assert worst["worse"] and worst["support"] == 200 and worst["low"] < worst["accuracy"] < worst["high"]
    assert "size" not in set(table["property"])  # it is the same everywhere
    noise = slice_table(properties, generator.random(800) < 0.9)
    assert not noise["worse"].any() and len(noise) == 6


def test_inputs_without_properties_are_skipped():
    unreadable = input_properties(TASKS["image"], b"no picture")
    properties = [{"words": float(number)} for number in range(40)] + [unreadable]
    table = slice_table(properties, np.ones(41, dtype=bool))
    assert table["support"].tolist() == [10, 10, 10, 10]


def test_false_alarms_are_rare():
    generator = np.random.default_rng(5)
    alarms = 0
    for _ in range(60):
        properties = [dict(zip("abcdef", row, strict=True)) for row in generator.random((120, 6))]
        alarms += slice_table(properties, generator.random(120) < 0.8)["worse"].any()
    assert alarms <= 7  # of 60: 0.05 each, so more than that once in a hundred


def test_slices_hold_what_they_are_named():
    properties = [{"words": float(number)} for number in (1, 1, 1, 1, 1, 2, 3, 4, 5, 6, 7, 8)]
    table = slice_table(properties, np.ones(12, dtype=bool))
    assert dict(zip(table["slice"], table["support"], strict=True)) == {
        "lowest quarter, 1": 5,
        "second quarter, 2": 1,
        "third quarter, 3 to 5": 3,
        "highest quarter, 6 to 8": 3,
    }
