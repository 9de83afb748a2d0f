"""The benchmarks run on the embedded sample or on little, and judge what they measured."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

from flowerml.checks import labels
from flowerml.engine import similar

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


@pytest.mark.extended
def test_growth_measures_processes(run):
    printed = run("growth", "--stages", "texts/extract", "search/checkpoint", "--scales", "1", "2", "--share", "0.2")
    assert "| texts/extract | 80 / 160 texts |" in printed and "exponents are at most 1.1" in printed


@pytest.mark.parametrize("name", ["search/ask", "search/checkpoint", "search/journal"])
def test_growth_measures_made_up_trials(run, name, tmp_path):
    growth = importlib.import_module("growth")
    cost = growth.measure_here(name, 3, tmp_path)
    assert cost.items == 3 and cost.seconds > 0 and (cost.written_bytes > 0 or name == "search/ask")


@pytest.mark.parametrize("name", ["pictures", "texts", "cosines", "labels"])
def test_growth_finds_what_it_hides(run, name, tmp_path, monkeypatch):
    stages = importlib.import_module("growth_stages")
    for module in (similar, labels):
        monkeypatch.setattr(module, "EXACT_ROWS", 100)
    answer = stages.STAGES[f"checks/{name}"].prepare(3000, tmp_path)()
    assert answer if name == "labels" else answer.groups and (answer.partly_compared or name == "texts")


def test_growth_exponents(run):
    growth = importlib.import_module("growth")

    def costs(power):
        counts = [10, 110, 410, 1610]
        return [growth.Cost(n, 5 + (n - 10) ** power / 100, 0, 1e7) for n in counts]

    assert growth.exponent(costs(2), "seconds") == 2
    assert growth.exponent(costs(1), "written_bytes") is None
    assert "search/ask: seconds grow with exponent 2.00" in growth.verdict({"search/ask": costs(2)})
    assert "| 110 / 410 / 1,610 trials | 1.00 / 4.00 / 16.00 | 1.00 |" in growth.table({"search/ask": costs(1)})


def test_growth_runs_the_steps_before(run):
    growth = importlib.import_module("growth")
    assert growth.with_steps_before(["texts/encode", "checks/labels"]) == [
        "texts/download",
        "texts/extract",
        "texts/encode",
        "checks/labels",
    ]


def test_running_ahead_beats_rounds(run, tmp_path):
    table = run(
        "workers", "--trials", "100", "--draws", "5", "--workers", "1", "8", "--plot", str(tmp_path / "plot.png")
    )
    row = next(line for line in table.splitlines() if line.startswith("| 8 |"))
    ahead, _, rounds, one, without_order = (float(cell.split()[0]) for cell in row.split("|")[2:-1])
    assert one == pytest.approx(1 / 8, abs=0.01) and rounds < 0.6 < 0.85 < ahead <= without_order <= 1
    assert (tmp_path / "plot.png").stat().st_size > 1000


@pytest.mark.extended
def test_real_search_with_sleeping_workers(run):
    table = run("workers", "--trials", "12", "--workers", "2", "--sleep", "0.05")
    assert table.splitlines()[-1].startswith("| 2 | ")
