"""The benchmarks of texts run on the embedded sample, and judge what they measured."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
TINY = "sample::data.sample_per_class=30::train.search.trials=1::train.network=ngrams"


@pytest.fixture
def run(monkeypatch, capsys):
    """Return a function that runs a benchmark and returns what it prints."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")  # restored afterwards

    def run(name: str, *arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        importlib.import_module(name).main()
        return str(capsys.readouterr().out)

    return run


@pytest.mark.extended
def test_texts_scores_all_methods(run):
    with pytest.raises(SystemExit) as end:
        run("texts", TINY, "--splits", "1")
    assert not end.value.code


def test_texts_reports_a_faulty_set(run, tmp_path):
    with pytest.raises(SystemExit) as end:
        run("texts", str(tmp_path / "missing.csv"))
    assert end.value.code


def test_fewshot_scores_each_size(run):
    assert "| 4 |" in run("fewshot", TINY, "--labels", "4", "8", "--draws", "1")


def test_interval_draws_texts_with_all_their_splits(run):
    texts = importlib.import_module("texts")
    measured = texts.Measured("set")
    for _ in range(5):  # the same ten texts in five splits are ten texts, not fifty
        measured.hits.append((list("abcdefghij"), {texts.OURS: np.arange(10) < 9, "peer": np.arange(10) < 5}))
    interval = measured.difference("peer")
    assert interval.estimate == pytest.approx(0.4)
    assert interval.high - interval.low > 0.5
