"""JSON lines in and out: in order, in bounded memory, and each error the answer of its line."""

import asyncio
import itertools
import json

import pytest

from flowerml.server import streams
from flowerml.server.bodies import Incoming, Receiving
from flowerml.server.context import Context
from flowerml.server.errors import Busy, HttpError
from tests.server.conftest import lines

NDJSON = {"content-type": "application/x-ndjson"}


def code(answer):
    return answer["error"]["code"]


def test_each_line_has_its_answer(reviews):
    body = '"a good film"\n{"text": "dull"}\n\n{"inputs": "a cast"}\nbroken\n{"film": "good"}\n7\n"the last"'
    reply = reviews.post("/predict?top_k=1", content=body, headers=NDJSON)
    assert (reply.status_code, reply.headers["content-type"]) == (200, "application/x-ndjson")
    assert [code(answer) for answer in lines(reply)] == [None] * 3 + ["bad_line", "bad_line", "not_a_text", None]
    assert [len(answer["top"]) for answer in lines(reply)] == [1, 1, 1, 0, 0, 0, 1]


def test_more_lines_than_a_request_may_have(reviews):
    chunks = (b'"film %d"\n' % number for number in range(300))
    reply = reviews.post("/predict", content=chunks, headers=NDJSON)
    single = [reviews.post("/predict", content=b"film %d" % number).json() for number in (0, 299)]
    assert [lines(reply)[0], lines(reply)[-1]] == single and len(lines(reply)) == 300


def test_line_above_the_limit_is_dropped(reviews):
    chunks = itertools.chain([b'"good"\n'], [b"x" * 60_000] * 40, [b'\n"good"'])
    reply = reviews.post("/predict", content=chunks, headers=NDJSON)
    assert [code(answer) for answer in lines(reply)] == [None, "too_large", None]
    assert reviews.app.routes.receiving.held == 0


def test_no_lines(reviews):
    reply = reviews.post("/predict", content=b"\n\n", headers=NDJSON)
    assert (reply.status_code, code(reply.json())) == (400, "no_inputs")


def test_bad_parameter_of_a_stream(reviews):
    reply = reviews.post("/predict?top_k=0", content=b'"good"', headers=NDJSON)
    assert (reply.status_code, code(reply.json())) == (400, "bad_top_k")


class Client:
    """A client that sends chunks, then goes or stays, and reads only while `reads` is set."""

    def __init__(self, chunks, *, stays=True):
        self.chunks, self.stays, self.taken = iter(chunks), stays, 0
        self.reads = asyncio.Event()
        self.reads.set()
        self.read = b""
        self.statuses = []

    async def receive(self):
        await asyncio.sleep(0)
        chunk = next(self.chunks, None)
        if chunk is None:
            if self.stays:
                await asyncio.Event().wait()
            return {"type": "http.disconnect"}
        self.taken += len(chunk)
        return {"type": "http.request", "body": chunk, "more_body": chunk != b""}

    async def send(self, message):
        if message["type"] == "http.response.start":
            self.statuses.append(message["status"])
        else:
            await self.reads.wait()
            self.read += message["body"]


def answering(client, ask, *, limit=1000, seconds=60.0):
    context = Context("id", "POST", "/predict")
    incoming = Incoming(client.receive, context, Receiving(2**30), limit, seconds, None)
    return streams.answer(incoming, client.send, ask)


async def echo(values):
    await asyncio.sleep(0)
    return [{"value": value} for value in values]


def test_client_that_sends_all_before_it_reads(monkeypatch):
    monkeypatch.setattr(streams, "IN_MEMORY", 1000)

    async def exchange():
        client = Client([*(b'"%d"\n' % number for number in range(3000)), b""])
        client.reads.clear()
        task = asyncio.create_task(answering(client, echo))
        while client.taken < 16_889:
            await asyncio.sleep(0.001)
        client.reads.set()
        await asyncio.wait_for(task, 60)
        return client.read

    read = asyncio.run(exchange())
    assert [int(json.loads(line)["value"]) for line in read.splitlines()] == list(range(3000))


def test_lines_are_read_only_a_little_ahead(monkeypatch):
    monkeypatch.setattr(streams, "AHEAD", 10_000)

    async def exchange():
        client = Client(itertools.repeat(b'"%s"\n' % (b"a" * 96)))
        asked = asyncio.Event()

        async def never(values):
            asked.set()
            await asyncio.Event().wait()

        task = asyncio.create_task(answering(client, never))
        await asked.wait()
        await asyncio.sleep(0.05)
        task.cancel()
        return client.taken

    assert asyncio.run(exchange()) < 20_000


def test_few_of_many_short_lines_are_read_ahead(monkeypatch):
    parsed = []
    monkeypatch.setattr(streams, "_parse", parsed.append)

    async def exchange():
        async def never(values):
            await asyncio.Event().wait()

        task = asyncio.create_task(answering(Client([b"1\n" * 30_000, b""]), never))
        await asyncio.sleep(0.05)
        task.cancel()

    asyncio.run(exchange())
    assert len(parsed) == streams.LINES_AHEAD + streams.BATCH


def test_chunks_of_empty_lines_leave_others_their_turn():
    async def exchange():
        task = asyncio.create_task(answering(Client([b" \n\n" * 10_000] * 100 + [b""]), echo))
        turns = 0
        while not task.done():
            await asyncio.sleep(0)
            turns += 1
        return turns, task.exception().code

    turns, code = asyncio.run(exchange())
    assert turns >= 100 and code == "no_inputs"


def test_client_that_goes_ends_the_work():
    async def exchange():
        client = Client([b'"good"\n', b""], stays=False)
        ended = asyncio.Event()

        async def long(values):
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        with pytest.raises(streams.ClientGone):
            await asyncio.wait_for(answering(client, long), 60)
        return ended.is_set() and asyncio.current_task().cancelling() == 0

    assert asyncio.run(exchange())


def test_late_error_is_the_last_line():
    async def exchange():
        client = Client([b'"good"\n'])
        await answering(client, echo, seconds=0.05)
        return client

    client = asyncio.run(exchange())
    assert client.statuses == [200]
    assert json.loads(client.read.splitlines()[-1]) == {
        "error": {"code": "too_slow", "message": "the body did not arrive within 0.05 s"},
        "request_id": "id",
    }


def test_empty_lines_are_no_sign_of_life():
    async def exchange():
        client = Client(itertools.repeat(b"\n"))
        await asyncio.wait_for(answering(client, echo, seconds=0.05), 60)

    with pytest.raises(HttpError, match="did not arrive"):
        asyncio.run(exchange())


def test_stream_that_has_begun_waits_for_room():
    asked = []

    async def sometimes(values):
        asked.append(values)
        if len(asked) in (2, 3):
            raise Busy(1)
        return await echo(values)

    async def exchange():
        client = Client([*[b'"%d"\n' % number for number in range(2 * streams.BATCH)], b""])
        await asyncio.wait_for(answering(client, sometimes), 60)
        return client.read

    assert len(asyncio.run(exchange()).splitlines()) == 2 * streams.BATCH


def test_early_error_is_a_status():
    async def refuse(values):
        raise HttpError(429, "busy", "…")

    async def exchange():
        await answering(Client([b'"good"\n', b""]), refuse)

    with pytest.raises(HttpError):
        asyncio.run(exchange())


def test_spool_keeps_order_and_survives_a_full_disk(monkeypatch):
    spool = streams.Spool()
    monkeypatch.setattr(streams, "IN_MEMORY", 10)
    assert all(spool.put(bytes([number]) * 7) for number in range(6))
    monkeypatch.setattr(streams.os, "pwrite", lambda *_: (_ for _ in ()).throw(OSError(28, "no space")))
    assert not spool.put(b"more")
    read = b""
    while piece := spool.get():
        read += piece
        spool.drop(len(piece))
    assert read == b"".join(bytes([number]) * 7 for number in range(6))
    assert spool.put(b"more") and spool.get() == b"more" and spool.size == 4
    spool.close()
