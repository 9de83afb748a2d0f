"""Drift: which changes are found, and how seldom one is found where there is none."""

import json
from dataclasses import replace

import numpy as np
import pytest

from flowerml.core.errors import DataError
from flowerml.monitoring import drift
from flowerml.monitoring.drift import compare
from flowerml.monitoring.record import Record, digest
from flowerml.monitoring.reference import Reference

FEATURES = tuple(f"component {number}" for number in range(1, 9))


def records(count, *, seed, brightness=0.0, features=0.0, rate=0.2):
    """Return records of made-up inputs; `rate` is the share of the class tulip."""
    generator = np.random.default_rng(seed)
    return [
        Record(
            time=float(number),
            request="",
            model="flowers",
            version="1",
            digest=digest(f"{seed} {number}"),
            top=((str(generator.choice(["tulip", "rose"], p=[rate, 1 - rate])), float(generator.beta(6, 1))),),
            known=bool(generator.random() < 0.95),
            out_of_distribution=float(generator.random()),
            properties={
                "brightness": float(generator.normal(brightness)),
                "shape": str(generator.choice(["wide", "tall"])),
            },
            features=tuple((generator.normal(size=8) + features).tolist()),
        )
        for number in range(count)
    ]


@pytest.fixture(scope="module")
def reference():
    return Reference.of(records(300, seed=0), features=FEATURES)


def changed(result):
    return {comparison.name for comparison in result.comparisons if comparison.drifted}


def test_same_distribution_is_no_drift(reference):
    result = compare(reference, records(200, seed=1))
    assert not result.drifted and result.smallest_p > drift.LEVEL
    assert (result.examples, result.records, result.distinct, result.errors) == (300, 200, 200, 0)


@pytest.mark.parametrize(
    ("change", "name"),
    [({"brightness": 0.8}, "brightness"), ({"features": 0.35}, drift.TOGETHER), ({"rate": 0.5}, "class")],
)
def test_change_is_found_by_its_test(reference, change, name):
    assert changed(compare(reference, records(200, seed=1, **change))) >= {name}


def test_change_of_correlation_needs_all_features_together():
    def correlated(count, seed, sign):
        generator = np.random.default_rng(seed)
        rows = [(float(value), float(sign * value)) for value in generator.normal(size=count)]
        return [replace(record, features=row) for record, row in zip(records(count, seed=seed), rows, strict=True)]

    before = Reference.of(correlated(300, 7, 1), features=FEATURES[:2])
    assert changed(compare(before, correlated(200, 8, -1))) == {drift.TOGETHER}


def test_unreadable_inputs_are_found(reference):
    broken = [replace(record, top=(), error="not_a_picture") for record in records(30, seed=2)]
    result = compare(reference, [*records(170, seed=1), *broken])
    assert changed(result) == {drift.READABLE} and result.errors == 30


def test_alarms_without_change_are_rare():
    """Of 30 draws at the level 0.2 at most 12: more has a probability of 0.3 %."""
    alarms = [
        compare(
            Reference.of(records(120, seed=2 * draw), features=FEATURES[:2]),
            [replace(record, features=record.features[:2]) for record in records(60, seed=2 * draw + 1)],
            level=0.2,
        ).drifted
        for draw in range(30)
    ]
    assert 1 <= sum(alarms) <= 12


def test_repeated_input_counts_once(reference):
    few = records(60, seed=1)
    result = compare(reference, [*few, *[few[0]] * 500])
    assert (result.records, result.distinct, result.drifted) == (560, 60, False)


def test_same_records_same_p_values(reference):
    window = records(100, seed=4)
    assert compare(reference, window) == compare(reference, window)


def test_columns_of_one_side_are_left_out(reference):
    bare = [replace(record, properties={}, features=()) for record in records(100, seed=1)]
    names = {comparison.name for comparison in compare(reference, bare).comparisons}
    assert names == {"top probability", "class", "known", "out of distribution", drift.READABLE}


def test_few_records_are_an_error(reference):
    with pytest.raises(DataError, match="at least 50 distinct inputs, found 49"):
        compare(reference, records(49, seed=1))
    with pytest.raises(DataError, match="at least 20 validation examples, found 5"):
        compare(Reference.of(records(5, seed=0)), records(100, seed=1))


def test_constant_numbers_are_no_drift(reference):
    def constant(count, seed):
        return [replace(record, features=(1.0, 1.0), out_of_distribution=None) for record in records(count, seed=seed)]

    before = Reference.of(constant(100, 5), features=FEATURES[:2])
    assert not changed(compare(before, constant(100, 6))) & {*FEATURES, drift.TOGETHER}


def test_drift_is_plain_json(reference):
    result = compare(reference, records(100, seed=1, brightness=2.0))
    plain = json.loads(json.dumps(result.to_json(), allow_nan=False))
    first = plain["comparisons"][0]
    assert plain["drifted"] and first["name"] == "brightness"
    assert first["measure"] == "Cohen's d" and first["effect"] == pytest.approx(2, abs=0.4)
    assert first["window"] - first["reference"] == pytest.approx(2, abs=0.4)


def test_share_that_changed_most_is_shown(reference):
    result = compare(reference, records(200, seed=1, rate=0.6))
    (classes,) = (comparison for comparison in result.comparisons if comparison.name == "class")
    assert classes.reference + classes.window == pytest.approx(0.8 if classes.category == "tulip" else 1.2, abs=0.15)
    assert 0.1 < classes.effect < 1
