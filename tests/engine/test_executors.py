"""Workers as processes of this machine: calls, errors, losses, and that none outlives its driver."""

import os
import signal
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path

import pytest

from flowerml.core.errors import FlowermlError, InputError, root_cause
from flowerml.engine.executors import Place, WorkerLost, facts, local, machine_facts, open_pool, ordered, warm_up
from tests.support.project import REPOSITORY

WORKSHOP = "tests.engine.workshop:Workshop"
DRIVER = """
import sys
from flowerml.engine.executors import Place, machine_facts, open_pool
with open_pool(Place(workers=2), threads=1, facts=machine_facts()) as pool:
    workers = [pool.start("tests.engine.workshop:Workshop") for _ in range(2)]
    print(*[worker.call("pid").result() for worker in workers], pool._server._process.pid, flush=True)
    [worker.call("sleep", 60) for worker in workers][0].result()
"""


@pytest.fixture(scope="module", autouse=True)
def no_slow_imports():
    """Have each pool's server import nothing before it forks: torch takes 5 s, and no call here needs it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "SLOW_IMPORTS", ())
        yield


@pytest.fixture(scope="module")
def pool():
    with open_pool(Place(workers=2), threads=1, facts=machine_facts()) as opened:
        yield opened


@pytest.fixture
def worker(pool):
    started = pool.start(WORKSHOP, 3)
    yield started
    started.close()


def is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def all_ended(processes: list[int], seconds: float = 60.0) -> bool:
    deadline = time.monotonic() + seconds
    while any(is_alive(process) for process in processes):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def test_calls_run_in_order(worker):
    assert [call.result() for call in [worker.call("add", number) for number in (1, 2, 3)]] == [4, 6, 9]


def test_large_values_travel(worker):
    content = os.urandom(3_000_000)
    assert worker.call("echo", content).result() == content


def test_an_error_comes_back_as_it_is(worker):
    with pytest.raises(InputError, match="it is bad") as raised:
        worker.call("fail").result()
    assert raised.value.code == "bad_input"
    assert isinstance(root_cause(raised.value), OSError)
    assert worker.call("add", 1).result() == 4


def test_what_cannot_be_sent_is_an_error(worker):
    with pytest.raises(TypeError, match="cannot be sent"):
        worker.call("secret").result()
    with pytest.raises(TypeError, match="cannot be sent"):
        worker.call("echo", lambda: 1).result()


@pytest.mark.parametrize(
    ("factory", "argument", "message"),
    [
        (WORKSHOP, -1, "expected a start from 0"),
        ("tests.engine.workshop", 1, "expected a factory as"),
        ("tests.engine.workshop:os", 1, "that can be called"),
    ],
)
def test_a_factory_that_raises_fails_every_call(pool, factory, argument, message):
    worker = pool.start(factory, argument)
    for _ in range(2):
        with pytest.raises(FlowermlError, match=message):
            worker.call("add", 1).result()
    worker.close()


def test_a_killed_worker_is_lost(worker):
    lost = worker.call("die", signal.SIGKILL)
    pending = worker.call("add", 1)
    with pytest.raises(WorkerLost, match="was killed by SIGKILL"):
        lost.result()
    with pytest.raises(WorkerLost):
        pending.result()


def test_closing_ends_a_call(worker):
    process = worker.call("pid").result()
    call = worker.call("sleep", 60)
    worker.close()
    with pytest.raises(WorkerLost):
        call.result(60)
    with pytest.raises(WorkerLost, match="closed"):
        worker.call("add", 1).result()
    assert all_ended([process])


def test_a_killed_server_is_replaced():
    with open_pool(Place(workers=1), threads=1, facts=machine_facts()) as pool:
        worker = pool.start(WORKSHOP)
        call = worker.call("sleep", 60)
        worker.ready.result()
        os.kill(pool._server._process.pid, signal.SIGKILL)
        with pytest.raises(WorkerLost):
            call.result(60)
        assert pool.start(WORKSHOP).call("add", 2).result() == 2


def test_a_server_that_was_warmed_up_is_taken(monkeypatch):
    monkeypatch.setattr(local, "SLOW_IMPORTS", ("colorsys",))
    place = Place(workers=2)
    warm_up(Place())
    assert local._warm == []
    warm_up(place)
    warm_up(place)
    (server,) = local._warm
    monkeypatch.setenv("FLOWERML_TEST", "set later")
    with open_pool(place, threads=1, facts=machine_facts()) as pool:
        assert pool.start(WORKSHOP).call("variable", "FLOWERML_TEST").result() == "set later"
        assert pool._server is server
    assert local._warm == []
    assert server.ended


def test_workers_have_their_share_of_threads_and_no_workers(worker):
    names = ("OMP_NUM_THREADS", "FLOWERML_THREADS", "FLOWERML_WORKERS", "FLOWERML_ENGINE")
    assert [worker.call("variable", name).result() for name in names] == ["1", "1", "1", "local"]


def test_output_of_workers_is_in_stderr_under_their_names(worker, capfd):
    worker.call("speak", "café \x1b[2J").result()
    out, err, deadline = "", "", time.monotonic() + 60
    while err.count(f"{worker.name}: café") < 2 and time.monotonic() < deadline:
        time.sleep(0.01)  # its output comes by another way than the result
        captured = capfd.readouterr()
        out, err = out + captured.out, err + captured.err
    assert out == ""
    assert err.count(f"{worker.name}: café") == 2
    assert "\x1b" not in err


def test_results_are_ordered(pool):
    assert list(ordered(pool, WORKSHOP, (), "square", iter(range(9)), ahead=4)) == [n * n for n in range(9)]


def test_items_are_taken_as_far_as_ahead(pool):
    taken = []
    items = (taken.append(number) or number for number in range(100))
    with closing(ordered(pool, WORKSHOP, (), "square", items, ahead=3)) as results:
        assert next(results) == 0
    assert len(taken) <= 4


def test_an_item_of_a_lost_worker_runs_again(pool, tmp_path):
    assert list(ordered(pool, f"{WORKSHOP}", (), "echo", [], ahead=2)) == []
    results = ordered(pool, "tests.engine.workshop:Mortal", (str(tmp_path),), "die_once", range(3), ahead=3)
    assert list(results) == [0, 1, 2]


def test_an_item_that_ends_three_workers_is_given_up(pool):
    results = ordered(pool, WORKSHOP, (), "die", [signal.SIGKILL], ahead=2)
    with pytest.raises(FlowermlError, match="part 1 of the work ended 3 workers"):
        next(results)


def test_an_unlike_machine_is_refused(monkeypatch):
    like = machine_facts()
    with open_pool(Place(workers=1), threads=1, facts={**like, "torch": "0.1"}) as pool:
        worker = pool.start(WORKSHOP)
        with pytest.raises(FlowermlError, match=r"torch .* \(the driver: 0.1\); use like machines"):
            worker.call("add", 1).result()
        assert not pool.mixed
        monkeypatch.setenv(facts.MIXED, "allow")
        assert pool.start(WORKSHOP).call("add", 1).result() == 1
        assert pool.mixed


def test_other_code_is_refused_always(monkeypatch):
    monkeypatch.setenv(facts.MIXED, "allow")
    with pytest.raises(FlowermlError, match="other code"):
        facts.check_alike({facts.CODE: "a"}, {facts.CODE: "b"}, name="worker 1")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("killed", [signal.SIGKILL, signal.SIGTERM])
def test_no_worker_outlives_a_killed_driver(killed):
    driver = subprocess.Popen([sys.executable, "-c", DRIVER], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    processes = [int(number) for number in driver.stdout.readline().split()]
    assert len(processes) == 3
    driver.send_signal(killed)
    driver.wait()
    driver.stdout.close()
    assert all_ended(processes)


def test_ctrl_c_ends_workers_without_stack_traces():
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    processes = [int(number) for number in driver.stdout.readline().split()]
    time.sleep(0.5)  # Python misses a signal that comes in the microsecond before it waits for a lock
    os.killpg(driver.pid, signal.SIGINT)  # as a terminal does
    _, errors = driver.communicate(timeout=60)
    assert all_ended(processes)
    assert "worker" not in "".join(line for line in errors.splitlines() if not line.startswith((" ", "Traceback")))
    with suppress(ProcessLookupError):
        os.killpg(driver.pid, signal.SIGKILL)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"FLOWERML_ENGINE": "spark"}, "expected one of local, ray, dask; found spark"),
        ({"FLOWERML_WORKERS": "0"}, "expected a number from 1 to 10000; found 0"),
        ({"FLOWERML_WORKERS": "two"}, "found two"),
        ({"FLOWERML_ADDRESS": "ray://me:pw@host:10001"}, "found ray://host:10001"),
        ({"FLOWERML_ENGINE": "ray"}, "expected the number of workers on ray"),
    ],
)
def test_a_place_that_cannot_be_followed_is_refused(monkeypatch, values, message):
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(FlowermlError, match=message):
        Place.from_environment()


def test_a_place_is_read_from_the_environment(monkeypatch):
    assert Place.from_environment() == Place("local", None, 1)
    monkeypatch.setenv("FLOWERML_ENGINE", "ray")
    monkeypatch.setenv("FLOWERML_ADDRESS", "auto")
    monkeypatch.setenv("FLOWERML_WORKERS", "8")
    assert Place.from_environment() == Place("ray", "auto", 8)
