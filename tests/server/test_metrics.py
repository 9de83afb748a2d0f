"""The metrics of one process, and of several that share a folder."""

import os
import subprocess
import sys

import pytest

from flowerml.server.metrics import MOST_VALUES, Metrics

MODEL = {"name": "flowers", "version": "1"}


def shown(metrics: Metrics) -> list[str]:
    """Return the lines of samples."""
    return [line for line in metrics.render()[0].decode().splitlines() if not line.startswith("#")]


def test_inputs_are_counted_by_outcome():
    metrics = Metrics()
    metrics.answered(MODEL, ["known", "unknown", "known", "empty_text"])
    lines = shown(metrics)
    assert 'flowerml_inputs_total{model="flowers",outcome="known",version="1"} 2.0' in lines
    assert 'flowerml_inputs_total{model="flowers",outcome="empty_text",version="1"} 1.0' in lines
    assert 'flowerml_known_share{model="flowers"} 0.6666666666666666' in lines


def test_the_share_known_is_that_of_the_newest_version():
    metrics = Metrics()
    metrics.answered(MODEL, ["unknown"] * 9)
    metrics.answered({**MODEL, "version": "2"}, ["known"])
    assert 'flowerml_known_share{model="flowers"} 1.0' in shown(metrics)


def test_the_share_known_slides():
    metrics = Metrics()
    metrics.answered(MODEL, ["unknown"] * 500)
    metrics.answered(MODEL, ["known"] * 750)
    assert 'flowerml_known_share{model="flowers"} 0.75' in shown(metrics)


def test_one_version_is_in_use():
    metrics = Metrics()
    for version in ("1", "2", "1"):
        metrics.reloaded("flowers", version)
    lines = shown(metrics)
    assert [line for line in lines if line.startswith("flowerml_model_info")] == [
        'flowerml_model_info{model="flowers",version="1"} 1.0'
    ]
    assert 'flowerml_reloads_total{model="flowers"} 3.0' in lines


def test_drift_is_that_of_the_newest_version():
    metrics = Metrics()
    metrics.drift("flowers", "1", True, 1e-9, 500)
    metrics.drift("flowers", "2", False, 0.4, 50)
    assert [line for line in shown(metrics) if line.startswith("flowerml_drift")] == [
        'flowerml_drift{model="flowers",version="2"} 0.0',
        'flowerml_drift_records{model="flowers",version="2"} 50.0',
        'flowerml_drift_smallest_p{model="flowers",version="2"} 0.4',
    ]


def test_labels_are_bounded():
    metrics = Metrics()
    for number in range(3 * MOST_VALUES):
        metrics.request(f"/{number}", f"METHOD{number}", 404, 0.1)
    lines = [line for line in shown(metrics) if line.startswith("flowerml_requests_total")]
    assert len(lines) == MOST_VALUES + 1
    assert f'flowerml_requests_total{{method="other",route="other",status="404"}} {2 * MOST_VALUES}.0' in lines


@pytest.fixture
def shared(tmp_path):
    """Return a function that runs code in a process of its own; all processes share their metrics."""

    def run(code: str) -> str:
        return subprocess.run(
            [sys.executable, "-c", f"from flowerml.server.metrics import Metrics; metrics = Metrics(); {code}"],
            env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    return run


def test_workers_are_added_up_and_the_dead_forgotten(shared):
    work = (
        "metrics.request('/predict', 'POST', 200, 0.02); metrics.pending('answers', 3); "
        "metrics.reloaded('flowers', '1'); metrics.reloaded('flowers', '2'); "
        "metrics.answered({'name': 'flowers', 'version': '2'}, ['known', 'unknown'])"
    )
    shared(f"{work}; import os; os._exit(0)")
    lines = shared(f"{work}; print(metrics.render()[0].decode())").splitlines()
    assert 'flowerml_requests_total{method="POST",route="/predict",status="200"} 2.0' in lines
    assert 'flowerml_pending{kind="answers"} 3.0' in lines
    assert 'flowerml_request_seconds_bucket{le="0.025",route="/predict"} 2.0' in lines
    assert 'flowerml_model_info{model="flowers",version="2"} 1.0' in lines
    assert not any(line.startswith('flowerml_model_info{model="flowers",version="1"}') for line in lines)
    assert 'flowerml_known_share{model="flowers"} 0.5' in lines
