"""benchmarks/serve.py: its load, what it makes of answers, and its bars."""

import asyncio
import importlib
import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from flowerml.core.errors import InputError
from flowerml.tasks.image.encoder.pictures import decode

ROOT = Path(__file__).parents[1]
ANSWER = b'HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"top":1}'
REFUSAL = b"HTTP/1.1 429 Busy\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n"
BROKEN = b"HTTP/1.1 422 No\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n2\r\n{}\r\n0\r\n\r\n"


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("serve")


@pytest.fixture
def port():
    """A server that refuses every fifth good request, and closes the connection after a hostile one."""
    seen = 0

    async def answer(reader, writer):
        nonlocal seen
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                assert b"\r\nHost: localhost:%d\r\n" % server.sockets[0].getsockname()[1] in head
                body = await reader.readexactly(4)
                seen += 1
                writer.write(BROKEN if body == b"evil" else ANSWER if seen % 5 else REFUSAL)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(answer, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield server.sockets[0].getsockname()[1]
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    server.close()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()


def test_load_counts_good_hostile_and_refused(benchmark, port):
    load = benchmark.load
    good, evil = (load.request("/predict", "text/plain", body) for body in (b"good", b"evil"))
    answers = load.run(load.Load(port=port, good=[good], hostile=[evil], clients=3, seconds=1.0, warm_up=0.05))
    assert len(answers.latencies) == answers.good[200] > 10
    assert set(answers.good) == {200, 429} and set(answers.hostile) == {422}
    row = benchmark.of_answers(("ours", 3, True), answers, cpu=0.2, memory=50.0)
    assert row.failed == 0 < row.refused < 1 and 0 < row.p50_ms <= row.p99_ms < 1_000
    assert row.cpu_ms == pytest.approx(200 / answers.good[200])


def test_nothing_answered_is_no_number(benchmark):
    answers = benchmark.load.Answers(seconds=1.0)
    answers.good[403] = 7
    row = benchmark.of_answers(("ours", 1, False), answers, cpu=0.2, memory=50.0)
    assert row.a_second == 0 and row.p50_ms != row.p50_ms and row.failed == 7


def row(benchmark, what, clients, a_second, *, p50=5.0, p99=10.0, hostile=False):
    return benchmark.Row(
        what=what,
        clients=clients,
        hostile=hostile,
        a_second=a_second,
        p50_ms=p50,
        p95_ms=p99,
        p99_ms=p99,
        cpu_ms=1.0,
        memory_mb=100.0,
        refused=0.0,
        failed=0,
        own_cpu=0.1,
    )


def judged(benchmark, rows, kind):
    return benchmark.bars({(row.what, row.clients, row.hostile): row for row in rows}, kind)


def test_bars_of_pictures(benchmark):
    def measured(rate):
        return [
            row(benchmark, "Classifier.predict", 32, 160),
            row(benchmark, "mlflow /invocations", 32, 110),
            row(benchmark, "flowerml raw", 32, rate),
            row(benchmark, "litserve raw", 32, 132),
        ]

    assert [bar.holds for bar in judged(benchmark, measured(145), "image")] == [True, True, True]
    assert [bar.holds for bar in judged(benchmark, measured(142), "image")] == [False, True, True]
    assert [bar.holds for bar in judged(benchmark, measured(120), "image")] == [False, False, False]


def test_bars_of_texts(benchmark):
    rows = [row(benchmark, "mlflow /invocations", 32, 100), row(benchmark, "flowerml raw", 32, 440)]
    (bar,) = judged(benchmark, rows, "text")
    assert not bar.holds and str(bar).startswith("FAILS: raw bodies against mlflow models serve, 32 clients: 4.40")


def test_bar_of_one_client_and_hostile_neighbors(benchmark):
    rows = [
        row(benchmark, "Classifier.predict", 1, 80, p50=11.0),
        row(benchmark, "flowerml raw", 1, 75, p50=12.5),
        row(benchmark, "flowerml raw", 32, 140, p99=100),
        row(benchmark, "flowerml raw", 32, 90, p99=210, hostile=True),
    ]
    assert [bar.holds for bar in judged(benchmark, rows, "image")] == [True, False]


def test_median_of_rounds(benchmark):
    rows = [row(benchmark, "ours", 8, rate) for rate in (90.0, 100.0, 500.0)]
    assert benchmark.median_row(rows) == rows[1]


def test_bad_pictures_are_no_pictures(benchmark):
    codes = []
    for body in importlib.import_module("servers").bad_bodies("image"):
        with pytest.raises(InputError) as error:
            decode(body)
        codes.append(error.value.code)
    assert codes == ["unreadable_image"] * 3 + ["image_too_large"]


def test_every_entrance_gets_bad_bodies(benchmark, tmp_path):
    servers = importlib.import_module("servers")
    model = servers.Model(tmp_path, tmp_path, "image", "image", "AAAA", b"\0\0\0")
    compared = servers.servers(model, workers=2, ours=None, bentoml="python")
    assert [server.name for server in compared] == list(benchmark.NAMES)
    for door in (door for server in compared for door in server.doors):
        assert door.good.endswith((b"\0\0\0", b'"AAAA"}', b'[["AAAA"]]}}')) and len(door.hostile) >= 6
        assert door.good not in door.hostile


@pytest.mark.extended
def test_it_measures_real_servers(reproduced):
    model = reproduced.folder / "models/reviews/mlflow"
    options = ("--servers", "flowerml", "empty", "--seconds", "0.3", "--rounds", "1", "--clients", "1", "--json")
    command = [sys.executable, ROOT / "benchmarks/serve.py", model, *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180)
    measured = json.loads(done.stdout)
    assert done.returncode == (0 if all(bar["holds"] for bar in measured["bars"]) else 1)
    names = ["Classifier.predict", "flowerml raw", "flowerml json", "flowerml /invocations", "empty raw"]
    assert [row["what"] for row in measured["rows"]] == names
    assert all(row["a_second"] > 1 and row["failed"] == 0 for row in measured["rows"])
