"""A search that is killed while it sends several trials at once: nothing is lost, and nothing is recorded twice."""

import random
import subprocess
import sys
import time

import pytest
from mlflow import MlflowClient

from tests.support.project import REPOSITORY

pytestmark = pytest.mark.engines

TRIALS, STEPS = 4, 60
# Trials whose entries take turns, sent at once; each process logs the next steps of all of them.
PROGRAM = f"""
import sys, time
from contextlib import ExitStack
from flowerml.tracking import mirror, runs
mirror.SEND_INTERVAL = 0.01
with runs.run("killed", "search", {{}}, resume="key") as parent, ExitStack() as stack:
    trials = [stack.enter_context(parent.child(f"trial {{number}}", {{}})) for number in range({TRIALS})]
    for trial in trials:
        trial.params({{"seed": 0}})
    print("started", flush=True)
    for step in range({STEPS}):
        for trial in trials:
            trial.metrics({{"loss": step / 100}}, step=step)
        time.sleep(0.01)
runs.finish_resumable("killed", "search")
"""


def test_killed_sender_records_everything_once(member, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    draw = random.Random(0)
    for kill in (True, True, True, False):
        process = subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None and process.stdout.readline() == "started\n"
        if kill:
            time.sleep(draw.uniform(0.05, 0.6))
            process.kill()
        process.communicate(timeout=120)
    assert process.returncode == 0
    client = MlflowClient()
    experiment = client.get_experiment_by_name("killed")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert sorted(run.info.run_name for run in runs) == ["search", *(f"trial {number}" for number in range(TRIALS))]
    assert {run.info.status for run in runs} == {"FINISHED"}
    for run in runs:
        steps = [metric.step for metric in client.get_metric_history(run.info.run_id, "loss")]
        assert sorted(steps) == ([] if run.info.run_name == "search" else list(range(STEPS)))
