"""Workers on Ray and Dask: clusters that are started for a test on this machine."""

import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flowerml.core.errors import FlowermlError, InputError
from flowerml.engine.executors import Place, WorkerLost, machine_facts, open_pool, ordered
from tests.engine.test_executors import all_ended
from tests.support.project import REPOSITORY

WORKSHOP = "tests.engine.workshop:Workshop"
SIZE = 2
PACKAGES = {"ray": "ray", "dask": "distributed"}
DRIVER = """
from flowerml.engine.executors import Place, machine_facts, open_pool
with open_pool(Place("ENGINE", workers=1), threads=1, facts=machine_facts()) as pool:
    worker = pool.start("tests.engine.workshop:Workshop")
    print(worker.call("pid").result(), flush=True)
    worker.call("sleep", 60).result()
"""

pytestmark = pytest.mark.engines


@pytest.fixture(scope="module", params=["ray", "dask"])
def engine(request):
    if importlib.util.find_spec(PACKAGES[request.param]) is None:
        pytest.skip(f"needs {PACKAGES[request.param]}")
    return request.param


@pytest.fixture(scope="module")
def pool(engine):
    with open_pool(Place(engine, None, SIZE), threads=1, facts=machine_facts()) as opened:
        yield opened


@pytest.fixture
def worker(pool):
    started = pool.start(WORKSHOP, 3)
    yield started
    started.close()


def test_calls_and_errors(worker):
    assert [call.result() for call in [worker.call("add", number) for number in (1, 2, 3)]] == [4, 6, 9]
    with pytest.raises(InputError, match="it is bad"):
        worker.call("fail").result()
    content = os.urandom(5_000_000)
    assert worker.call("echo", content).result() == content
    names = ("OMP_NUM_THREADS", "FLOWERML_THREADS", "FLOWERML_WORKERS", "FLOWERML_ENGINE")
    assert [worker.call("variable", name).result() for name in names] == ["1", "1", "1", "local"]


def test_a_factory_that_raises_fails_every_call(pool):
    worker = pool.start(WORKSHOP, -1)
    for _ in range(2):
        with pytest.raises(FlowermlError, match="expected a start from 0"):
            worker.call("add", 1).result()
    worker.close()


def test_a_killed_worker_is_lost_and_replaced(pool, worker):
    lost = worker.call("die", signal.SIGKILL)
    with pytest.raises(WorkerLost, match="while it was working"):
        lost.result(30)
    with pytest.raises(WorkerLost):
        worker.call("add", 1).result(30)
    heir = pool.start(WORKSHOP, 5)
    assert heir.call("add", 1).result(30) == 6
    heir.close()


def test_closing_ends_a_call(pool):
    worker = pool.start(WORKSHOP)
    process = worker.call("pid").result()
    call = worker.call("sleep", 60)
    worker.close()
    with pytest.raises(WorkerLost):
        call.result(20)
    assert all_ended([process])


def test_results_are_ordered_on_fewer_workers_than_asked_for(pool, worker):
    worker.ready.result()  # and keeps one of the places
    assert list(ordered(pool, WORKSHOP, (), "square", range(6), ahead=4)) == [n * n for n in range(6)]


def test_files_that_a_worker_does_not_see_are_copied_once(engine, tmp_path, monkeypatch):
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "a.txt").write_text("alpha")
    (tmp_path / "empty").touch()
    monkeypatch.chdir(tmp_path)
    with open_pool(Place(engine, None, SIZE), threads=1, facts=machine_facts()) as pool:
        seen = pool.share(tmp_path)
        # The same files under a name that leads to them in this process alone.
        folder = os.open(tmp_path, os.O_RDONLY)
        try:
            hidden = pool.share(Path(f"/proc/self/fd/{folder}"))
            workers = [pool.start(WORKSHOP) for _ in range(SIZE)]
            assert workers[0].call("read", seen, "below/a.txt").result() == (str(tmp_path), "alpha")
            places = {worker.call("read", hidden, "below/a.txt").result() for worker in workers}
        finally:
            os.close(folder)
        assert len(places) == 1
        place, content = places.pop()
        assert content == "alpha"
        assert place != str(tmp_path)
        assert (Path(place) / "empty").exists()
        assert Path(place).parents[1].stat().st_mode & 0o077 == 0
    assert not Path(place).parents[1].exists()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_worker_outlives_a_killed_driver(engine):
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER.replace("ENGINE", engine)], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    )
    process = int(driver.stdout.readline())
    driver.kill()
    driver.wait()
    driver.stdout.close()
    assert all_ended([process], 30)


@pytest.mark.parametrize(
    ("address", "message"),
    [("127.0.0.1:1", "no cluster answers at 127.0.0.1:1"), ("nonsense", "such as"), ("http://127.0.0.1:1", "such as")],
)
def test_an_address_without_a_cluster_is_one_line(engine, address, message, monkeypatch):
    if engine == "ray":
        monkeypatch.setattr("ray.is_initialized", lambda: False)  # the pool of this module
    with pytest.raises(FlowermlError, match=message):
        open_pool(Place(engine, address, 1), threads=1, facts=machine_facts())
