"""Encoding by workers in other processes: the same bytes, also if one of them is lost."""

import os
import signal
from pathlib import Path

import pytest

from flowerml.core.errors import FlowermlError
from flowerml.data import examples
from flowerml.engine.executors import Place, Shared
from flowerml.pipeline import encode, encoding_pool, shards
from flowerml.pipeline.encode_rows import Facts
from flowerml.pipeline.encoding_pool import BlockEncoder, Task
from flowerml.pipeline.shards import Shard
from flowerml.tasks.registry import TASKS
from tests.pipeline.test_shards import pipeline, reviews, whole

__all__ = ["pipeline", "whole"]  # fixtures

LOST = "FLOWERML_TEST_LOST"


class Mortal(BlockEncoder):
    """An encoder whose process dies once, in its second task."""

    tasks = 0

    def encode(self, task):
        self.tasks += 1
        marker = Path(os.environ[LOST])
        if self.tasks == 2 and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().encode(task)


@pytest.fixture
def blocks(monkeypatch):
    """Make row groups of a few texts, so that there are many tasks."""
    monkeypatch.setattr(examples, "ROW_GROUP_BYTES", 500)


def fitted(pipeline):
    texts = [row for row in reviews(60) if row.split == "train"]
    return TASKS["text"].Encoder.fit(texts, pipeline.encode, pipeline.data.limits)


def test_a_worker_gives_the_rows_of_this_process(pipeline, tmp_path):
    made = pipeline()
    encoder, section, rows = fitted(made), made.encode, reviews(60)
    encoder.save(tmp_path / "encoder")
    facts = Facts.of(encoder, section)
    worker = BlockEncoder("text", Shared(str(tmp_path / "encoder"), None), section.model_dump(), facts.fingerprints)
    columns = worker.encode(Task(rows, {}))
    expected = list(encoder.encode(rows, section))
    for received, row in zip(encoding_pool._rows(columns), expected, strict=True):
        assert {name: values.tolist() for name, values in received.items()} == {
            name: values.tolist() for name, values in row.items()
        }
        assert all(received[name].dtype == row[name].dtype for name in row)


def test_a_worker_that_encodes_otherwise_is_refused(pipeline, tmp_path):
    made = pipeline()
    fitted(made).save(tmp_path / "encoder")
    folder, others = Shared(str(tmp_path / "encoder"), None), {"train": "another", "valid": "another"}
    with pytest.raises(FlowermlError, match="a worker would give other encodings than this machine"):
        BlockEncoder("text", folder, made.encode.model_dump(), others)


def test_without_anything_to_encode_no_worker_starts(pipeline, tmp_path, monkeypatch):
    made = pipeline()
    encode.run(made)
    monkeypatch.setenv("FLOWERML_ENGINE", "ray")
    monkeypatch.setenv("FLOWERML_WORKERS", "4")
    monkeypatch.setenv("FLOWERML_ADDRESS", "ray://nowhere:1")
    assert encode.run(made).unchanged == 24


@pytest.mark.parametrize(
    ("place", "threads"),
    [(Place(workers=4), 2), (Place(workers=40), 1), (Place("ray", None, 2), 1)],
)
def test_workers_share_the_cores(place, threads):
    assert encoding_pool.threads_of(place, lambda: 8) == threads


@pytest.mark.engines
@pytest.mark.parametrize("workers", [2, 4])
def test_workers_give_the_bytes_of_one_process(pipeline, whole, blocks, workers, monkeypatch):
    monkeypatch.setenv("FLOWERML_WORKERS", str(workers))
    made = pipeline()
    assert encode.run(made).encoded == 24
    assert made.paths.encoded.read_bytes() == whole


@pytest.mark.engines
def test_a_lost_worker_changes_nothing(pipeline, whole, blocks, monkeypatch, tmp_path):
    monkeypatch.setenv("FLOWERML_WORKERS", "2")
    monkeypatch.setenv(LOST, str(tmp_path / "lost"))
    monkeypatch.setattr(encoding_pool, "FACTORY", f"{__name__}:Mortal")
    made = pipeline()
    encode.run(made)
    assert (tmp_path / "lost").exists() and made.paths.encoded.read_bytes() == whole


@pytest.mark.engines
def test_shards_may_use_workers(pipeline, whole, blocks, monkeypatch):
    monkeypatch.setenv("FLOWERML_WORKERS", "2")
    made = pipeline()
    for number in (1, 2):
        shards.encode_shard(made, Shard(number, 2))
    shards.join(made)
    assert made.paths.encoded.read_bytes() == whole


@pytest.mark.engines
def test_actors_of_ray_give_the_bytes_of_one_process(pipeline, whole, blocks, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setenv("FLOWERML_ENGINE", "ray")
    monkeypatch.setenv("FLOWERML_WORKERS", "2")
    made = pipeline()
    assert encode.run(made).encoded == 24
    assert made.paths.encoded.read_bytes() == whole


def test_what_is_known_is_not_computed():
    task = Task(reviews(3), {reviews(3)[0].digest: {"features": [1]}})

    class Recorder:
        def encode(self, rows, section, *, known):
            return ({"seen": known(row.digest).get("features", [0])} for row in rows)

    worker = BlockEncoder.__new__(BlockEncoder)
    worker._encoder, worker._section = Recorder(), None
    assert worker.encode(task)["seen"][1].tolist() == [1, 0, 0]
