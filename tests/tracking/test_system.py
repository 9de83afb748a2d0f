"""System metrics of a run: logged as it lasts, and never in its way."""

import threading
import time

import pytest

from flowerml.tracking import runs, system
from tests.support.registered import registry


@pytest.fixture
def every_moment(monkeypatch):
    monkeypatch.setattr(system, "INTERVAL", 0.01)
    monkeypatch.delenv(system.VARIABLE)


def wait_for_metrics(run):
    end = time.monotonic() + 60
    while not run.client.get_run(run.run_id).data.metrics and time.monotonic() < end:
        time.sleep(0.05)


def test_metrics_of_a_run_are_those_of_mlflows_page(tmp_path, every_moment):
    with registry(tmp_path):
        with runs.run("birds", "search", {}) as run, system.sampled(run):
            wait_for_metrics(run)
        metrics = run.client.get_run(run.run_id).data.metrics
    assert set(metrics) == set(system.measure()) and all(name.startswith("system/") for name in metrics)
    assert 0 < metrics["system/system_memory_usage_percentage"] <= 100
    assert not any(thread.name == "system-metrics" for thread in threading.enumerate())


def test_short_run_has_one_value_of_each(tmp_path, monkeypatch):
    monkeypatch.delenv(system.VARIABLE)
    with registry(tmp_path):
        with runs.run("birds", "search", {}) as run, system.sampled(run):
            pass
        history = run.client.get_metric_history(run.run_id, "system/cpu_utilization_percentage")
    assert len(history) == 1


def test_person_may_turn_them_off(tmp_path, every_moment, monkeypatch):
    monkeypatch.setenv(system.VARIABLE, "false")
    with registry(tmp_path):
        with runs.run("birds", "search", {}) as run, system.sampled(run):
            time.sleep(0.1)
        assert run.client.get_run(run.run_id).data.metrics == {}


def test_full_disk_is_the_runs_own_error(every_moment):
    class Full:
        def metrics(self, values, step):
            raise OSError(28, "No space left on device")

    with system.sampled(Full()):
        time.sleep(0.1)
