"""The engine under load: what it refuses, whose turn it is, and how work ends early."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from threading import Event
from typing import Any

import pytest

from flowerml import Classifier
from flowerml.core.errors import InputError
from flowerml.server.admission import Stopping
from flowerml.server.engine import Engine
from flowerml.server.errors import Busy, OutOfTime
from flowerml.server.metrics import Metrics
from flowerml.serving.answer import answer_json
from tests.classifier.test_old_classifiers import SAVED, THEN

TEXTS: list[str] = [*THEN["texts"][:3], "a film about nothing"]
LONG = "a good film, and a bad end " * 60
SECONDS = 20
GROUP = 8  # texts that this classifier sends through its network together


@dataclass(frozen=True)
class Loaded:
    classifier: Classifier
    model: dict[str, str | None] = field(default_factory=lambda: {"name": "reviews", "version": "3"})


class Gate:
    """A reader of inputs that lets none through until it is opened; `read` are those that it let through."""

    def __init__(self) -> None:
        self.opened = Event()
        self.reached = Event()
        self.read: list[Any] = []

    def __call__(self, value: Any) -> Any:
        self.reached.set()
        assert self.opened.wait(SECONDS)
        self.read.append(value)
        return value

    async def is_reached(self) -> None:
        assert await asyncio.to_thread(self.reached.wait, SECONDS)


@pytest.fixture(scope="module")
def loaded() -> Loaded:
    return Loaded(Classifier.load(SAVED, threads=1))


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.opened.set()


def run(work: Callable[..., Coroutine[Any, Any, None]], **options: Any) -> None:
    """Run `work` with an engine, of one thread if nothing else is said."""

    async def bounded() -> None:
        engine = Engine(**{"threads": 1, **options})
        async with asyncio.timeout(SECONDS):
            await work(engine)
        assert engine.load == 0
        assert await engine.drain()

    asyncio.run(bounded())


def codes(answers: list[dict[str, Any]]) -> list[str | None]:
    return [answer["error"]["code"] for answer in answers]


def start(coroutine: Coroutine[Any, Any, list[dict[str, Any]]]) -> "asyncio.Task[list[dict[str, Any]]]":
    return asyncio.get_running_loop().create_task(coroutine)


def test_answers_are_those_of_the_classifier(loaded):
    async def work(engine: Engine) -> None:
        for texts in (TEXTS[:1], TEXTS * 5):
            expected = [answer_json(row, loaded.model) for row in loaded.classifier.predict(texts, top_k=2)]
            assert await engine.answer(loaded, texts, top_k=2) == expected

    run(work, threads=2)


def test_texts_of_other_requests_change_no_bit(loaded):
    async def work(engine: Engine) -> None:
        alone = [answer_json(loaded.classifier.predict([text])[0], loaded.model) for text in TEXTS]
        answers = await asyncio.gather(*(engine.answer(loaded, [text]) for text in TEXTS * 5))
        assert [answer for (answer,) in answers] == alone * 5

    run(work)


def test_large_texts_are_answered_one_by_one(loaded):
    async def work(engine: Engine) -> None:
        texts = [text + " and so on" * 3000 for text in TEXTS]
        expected = [answer_json(loaded.classifier.predict([text])[0], loaded.model) for text in texts]
        assert await engine.answer(loaded, texts) == expected

    run(work)


def test_errors_keep_their_place(loaded):
    async def work(engine: Engine) -> None:
        values = [TEXTS[0], "", InputError("not_a_text", "no text"), TEXTS[1]]
        assert codes(await engine.answer(loaded, values)) == [None, "empty_text", "not_a_text", None]

    run(work)


def test_large_inputs_leave_threads_to_others(loaded, gate):
    large = "a good film " * 12_000

    def wait(raw: Any, answer: Any) -> None:
        gate(raw)

    async def work(engine: Engine) -> None:
        many = [start(engine.answer(loaded, [TEXTS[0], large, large], observe=wait)) for _ in range(2)]
        alone = [start(engine.answer(loaded, [large], observe=wait)) for _ in range(2)]
        await gate.is_reached()
        assert codes(await engine.answer(loaded, TEXTS)) == [None] * 4
        assert not any(request.done() for request in many + alone)
        gate.opened.set()
        assert [codes(answers) for answers in await asyncio.gather(*many, *alone)] == [[None] * 3] * 2 + [[None]] * 2

    run(work, threads=2)


def test_a_bug_fails_one_group(loaded, caplog):
    def broken(raw: Any, answer: Any) -> None:
        if raw == "broken":
            raise ZeroDivisionError

    async def work(engine: Engine) -> None:
        answers = await engine.answer(loaded, ["fine"] * GROUP + ["broken"] * GROUP + ["fine"] * GROUP, observe=broken)
        assert codes(answers) == [None] * GROUP + ["internal_error"] * GROUP + [None] * GROUP
        assert "ZeroDivisionError" in caplog.text

    run(work)


def test_top_k_is_checked_first(loaded):
    async def work(engine: Engine) -> None:
        with pytest.raises(InputError, match="top_k"):
            await engine.answer(loaded, TEXTS, top_k=0)

    run(work)


def test_requests_above_the_queue_are_refused(loaded, gate):
    async def work(engine: Engine) -> None:
        accepted = [start(engine.answer(loaded, TEXTS[:1], decode=gate)) for _ in range(3)]
        await gate.is_reached()
        with pytest.raises(Busy) as refused:
            await engine.answer(loaded, TEXTS[:1])
        assert refused.value.status == 429 and int(refused.value.headers["retry-after"]) >= 1
        gate.opened.set()
        assert [codes(answers) for answers in await asyncio.gather(*accepted)] == [[None]] * 3
        assert codes(await engine.answer(loaded, TEXTS[:1])) == [None]

    run(work, queue=2)


def test_a_long_list_is_accepted(loaded):
    async def work(engine: Engine) -> None:
        assert len(await engine.answer(loaded, TEXTS * 20)) == 80

    run(work, queue=0, threads=2)


def test_a_long_list_takes_turns(loaded, gate):
    async def work(engine: Engine) -> None:
        done: list[str] = []
        many = start(engine.answer(loaded, TEXTS * 20, decode=gate, observe=lambda raw, answer: done.append("many")))
        await gate.is_reached()
        one = start(engine.answer(loaded, TEXTS[:1], observe=lambda raw, answer: done.append("one")))
        await asyncio.sleep(0)
        gate.opened.set()
        await asyncio.gather(many, one)
        assert done.index("one") <= 2 * GROUP and len(done) == 81

    run(work)


def test_what_is_not_answered_in_time_says_so(loaded, gate):
    async def work(engine: Engine) -> None:
        values = [*range(GROUP), "waits", *["never read"] * GROUP]

        def read(value: Any) -> Any:
            return gate(value) if isinstance(value, str) else TEXTS[0]

        answers = await engine.answer(loaded, values, decode=read)
        assert codes(answers) == [None] * GROUP + ["out_of_time"] * (GROUP + 1)
        gate.opened.set()
        await engine.answer(loaded, TEXTS[:1])
        assert len(gate.read) == GROUP  # the rest of the group that waited

    run(work, seconds=1.5)  # a busy machine too answers the first group by then


def test_a_request_without_any_answer_is_out_of_time(loaded, gate):
    async def work(engine: Engine) -> None:
        with pytest.raises(OutOfTime):
            await engine.answer(loaded, TEXTS, decode=gate)
        gate.opened.set()

    run(work, seconds=0.05)


def test_a_cancelled_request_ends(loaded, gate):
    async def work(engine: Engine) -> None:
        request = start(engine.answer(loaded, TEXTS * 5, decode=gate))
        await gate.is_reached()
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        assert engine.load == 0
        gate.opened.set()
        await engine.answer(loaded, TEXTS[:1])
        assert len(gate.read) == GROUP

    run(work)


def test_explanations_are_those_of_the_classifier(loaded):
    async def work(engine: Engine) -> None:
        (answer,) = await engine.answer(loaded, TEXTS[:1], explain=True)
        expected = loaded.classifier.explain(TEXTS[0]).to_json()
        assert answer["explanation"] == {
            "label": expected["label"],
            "heat_map": None,
            "words": expected["words"],
        }

    run(work)


def test_others_are_answered_during_an_explanation(loaded):
    async def work(engine: Engine) -> None:
        begun = asyncio.Event()
        loop = asyncio.get_running_loop()
        explained = start(
            engine.answer(loaded, [LONG], explain=True, observe=lambda *_: loop.call_soon_threadsafe(begun.set))
        )
        await begun.wait()
        assert codes(await engine.answer(loaded, TEXTS[:1])) == [None]
        assert not explained.done()
        assert (await explained)[0]["explanation"]["words"]

    run(work)


def test_a_cancelled_explanation_ends(loaded):
    async def work(engine: Engine) -> None:
        begun = asyncio.Event()
        loop = asyncio.get_running_loop()
        ended = engine.answer(
            loaded, [LONG] * 50, explain=True, observe=lambda *_: loop.call_soon_threadsafe(begun.set)
        )
        request = start(ended)
        await begun.wait()
        request.cancel()
        assert codes(await engine.answer(loaded, TEXTS[:1], explain=True)) == [None]

    run(work)


def test_explanations_have_a_queue_of_their_own(loaded, gate):
    async def work(engine: Engine) -> None:
        explained = start(engine.answer(loaded, TEXTS[:1], explain=True, decode=gate))
        await gate.is_reached()
        with pytest.raises(Busy, match="1 explanations"):
            await engine.answer(loaded, TEXTS[:1], explain=True)
        assert codes(await engine.answer(loaded, TEXTS[:1])) == [None]
        gate.opened.set()
        await explained

    run(work, threads=2, explain_queue=0)


def test_slots_are_taken_in_turn():
    async def work(engine: Engine) -> None:
        inside, most = 0, 0

        async def mounted() -> None:
            nonlocal inside, most
            async with engine.slot():
                inside += 1
                most = max(most, inside)
                await asyncio.sleep(0.01)
                inside -= 1

        await asyncio.gather(*(mounted() for _ in range(6)))
        assert most == 2
        with pytest.raises(Busy):
            await asyncio.gather(*(mounted() for _ in range(10)))
        while engine.load:
            await asyncio.sleep(0.01)

    run(work, queue=6)


def test_a_slot_that_is_not_free_in_time():
    async def work(engine: Engine) -> None:
        async with engine.slot(explain=True):
            with pytest.raises(OutOfTime):
                async with engine.slot(explain=True):
                    pytest.fail("two explanations at a time")

    run(work, seconds=0.05)


def test_answers_that_are_ready_together_wake_the_loop_once(loaded, gate):
    class Counting(asyncio.SelectorEventLoop):
        wakes = 0

        def call_soon_threadsafe(self, *arguments: Any, **options: Any) -> asyncio.Handle:
            self.wakes += 1
            return super().call_soon_threadsafe(*arguments, **options)

    async def work() -> None:
        engine = Engine(threads=1)
        first = start(engine.answer(loaded, TEXTS[:1], decode=gate))
        await gate.is_reached()
        empty = [start(engine.answer(loaded, [""])) for _ in range(30)]
        await asyncio.sleep(0)
        loop = asyncio.get_running_loop()
        assert isinstance(loop, Counting)
        loop.wakes = 0
        gate.opened.set()
        await asyncio.gather(first, *empty)
        assert loop.wakes <= 15
        await engine.drain()

    with asyncio.Runner(loop_factory=Counting) as runner:
        runner.run(work())


def test_draining_waits_for_what_was_accepted(loaded, gate):
    async def work() -> None:
        metrics = Metrics()
        engine = Engine(threads=1, metrics=metrics)
        accepted = start(engine.answer(loaded, TEXTS, decode=gate))
        await gate.is_reached()
        drained = asyncio.create_task(engine.drain())
        await asyncio.sleep(0)
        assert engine.draining and not drained.done()
        gate.opened.set()
        assert await drained and codes(await accepted) == [None] * 4
        with pytest.raises(Stopping):
            await engine.answer(loaded, TEXTS)
        text = metrics.render()[0].decode()
        assert 'flowerml_pending{kind="answers"} 0.0' in text
        assert 'version="3"' in text

    asyncio.run(work())


def test_draining_gives_up(loaded, gate):
    async def work() -> None:
        engine = Engine(threads=1)
        request = start(engine.answer(loaded, TEXTS, decode=gate))
        await gate.is_reached()
        release = asyncio.get_running_loop().call_later(0.2, gate.opened.set)
        assert not await engine.drain(0.05)
        release.cancel()
        request.cancel()

    asyncio.run(work())
