"""POST /predict: any body that holds inputs, and the answers to them in the one wire format."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from starlette.types import Scope, Send

from flowerml.core.errors import InputError
from flowerml.data.examples import Raw
from flowerml.server import bodies, streams
from flowerml.server.bodies import Incoming
from flowerml.server.context import Context
from flowerml.server.disconnect import Disconnect
from flowerml.server.errors import HttpError, OutOfTime, send_json, shown
from flowerml.server.parameters import NAMES, Parameters, check_names
from flowerml.tasks.base import Task

if TYPE_CHECKING:
    from flowerml.server.engine import Engine
    from flowerml.server.loading import Loaded

JSON = "application/json"
LINES = ("application/x-ndjson", "application/jsonl", "application/x-jsonlines")
FORM = "multipart/form-data"
FILE = "application/octet-stream"
TEXT = "text/plain"
MLFLOW_KEYS = frozenset({"dataframe_split", "dataframe_records", "instances"})
CURL = "application/x-www-form-urlencoded"  # what `curl --data-binary` says unless it is told the type

Answers = list[dict[str, Any]]


class NotOurs(Exception):
    """A body in MLflow's own form, which its parser answers."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self.content = content


Input = Callable[[], Raw] | InputError
"""What reads an input, in the thread that will answer it; it may raise InputError. Or why there is none."""


@dataclass(frozen=True)
class Inputs:
    """The inputs of a request in order. With `single` the answer is not in a list."""

    inputs: Sequence[Input]
    parameters: Parameters
    single: bool = False


@dataclass(slots=True)
class Request:
    """A request to predict, and the loaded model that answers it."""

    scope: Scope
    context: Context
    incoming: Incoming
    loaded: "Loaded"
    engine: "Engine"
    content_type: bytes
    max_items: int

    async def answer(self, send: Send) -> None:
        """Answer it; raises HttpError, ClientGone, and NotOurs for a body in MLflow's form."""
        parameters = Parameters.from_query(self.scope["query_string"])
        kind = self.content_type.partition(b";")[0].strip().lower().decode("latin-1") or FILE
        if kind in LINES:
            together = 1 if parameters.explain else streams.BATCH
            ask = partial(self._ask_lines, parameters=parameters)
            await streams.answer(self.incoming, send, ask, together=together)
            return
        inputs = await self._inputs(kind, parameters)
        async with Disconnect(self.incoming.receive):
            answers = await self._ask(inputs.inputs, inputs.parameters)
        status, error = _outcome(answers)
        body: dict[str, Any] = answers[0] if inputs.single else {"predictions": answers}
        if status != 200:
            body = body | ({} if inputs.single else {"error": error}) | {"request_id": self.context.id}
        await send_json(send, status, body)

    async def _ask(self, inputs: Sequence[Input], parameters: Parameters) -> Answers:
        """Return the answers to inputs; raises HttpError."""
        try:
            answers = await self.engine.answer(
                self.loaded,
                inputs,
                top_k=parameters.top_k,
                explain=parameters.explain,
                decode=_read,
                observe=self.context.observe,
            )
        except InputError as error:  # of a parameter, as it applies to all inputs
            raise HttpError(400, error.code, error.message) from None
        self.context.items += len(inputs)
        return answers

    @property
    def _task(self) -> Task:
        return self.loaded.classifier.task

    async def _ask_lines(self, values: Sequence[Any], parameters: Parameters) -> Answers:
        inputs = (bodies.one_input(value, self._task.INPUT) for value in values)
        return await self._ask([self._from_json(value) for value in inputs], parameters)

    def _from_json(self, value: Any) -> Input:
        return value if isinstance(value, InputError) else partial(self._task.from_json, value)

    def _from_file(self, content: bytes) -> Input:
        # Through JSON as well, where the size of an input is checked.
        return lambda: self._task.from_json(self._task.from_bytes(content))

    async def _inputs(self, kind: str, parameters: Parameters) -> Inputs:
        """Return the inputs of a body that is not a stream."""
        if kind == FILE or (kind.startswith("image/") and self._task.RAW is bytes):
            return Inputs([self._from_file(await self.incoming.read())], parameters, single=True)
        if kind == TEXT and self._task.RAW is str:
            return await self._read_text(parameters)
        if kind == JSON or kind.endswith("+json"):
            return self._read_json(await self.incoming.read(), parameters)
        if kind == FORM:
            return await self._read_form(parameters)
        raise self._unsupported(kind)

    async def _read_text(self, parameters: Parameters) -> Inputs:
        _, options = bodies.options(self.content_type)
        text = bodies.text(await self.incoming.read(), options.get("charset", "utf-8"))
        return Inputs([self._from_json(text)], parameters, single=True)

    async def _read_form(self, parameters: Parameters) -> Inputs:
        _, options = bodies.options(self.content_type)
        content = await self.incoming.read()
        parts = await bodies.form(content, options.get("boundary"), max_parts=self.max_items + len(NAMES))
        columns = (self._task.INPUT, "inputs")
        inputs: list[Input] = []
        fields = []
        for part in parts:
            if part.is_file:
                inputs.append(self._from_file(bytes(part.content)))
            elif part.name in columns:
                inputs.append(self._from_json(bodies.text(bytes(part.content), "utf-8")))
            else:
                fields.append((part.name, bytes(part.content[:100]).decode("utf-8", "replace")))
        check_names((name for name, _ in fields), (*NAMES, *columns))
        self._check_count(len(inputs))
        return Inputs(inputs, parameters.with_texts(fields))

    def _read_json(self, content: bytes, parameters: Parameters) -> Inputs:
        value = bodies.parse_json(content)
        if not isinstance(value, dict):
            raise HttpError(400, "bad_json", 'expected an object such as {"inputs": …}')
        if not MLFLOW_KEYS.isdisjoint(value):
            raise NotOurs(content)
        check_names(value, ("inputs", "parameters"), what="key")
        if "inputs" not in value:
            raise HttpError(400, "no_inputs", "expected the key 'inputs' with an input, or a list of them")
        inputs = value["inputs"]
        single = not isinstance(inputs, list)
        values = [inputs] if single else inputs
        self._check_count(len(values))
        return Inputs(
            [self._from_json(value) for value in values],
            parameters.with_json(value.get("parameters", {})),
            single=single,
        )

    def _check_count(self, count: int) -> None:
        if count == 0:
            raise HttpError(400, "no_inputs", f"there is no {self._task.NOUN} in the body")
        if count > self.max_items:
            raise bodies.too_many(self.max_items)

    def _unsupported(self, kind: str) -> HttpError:
        own = "image/jpeg" if self._task.RAW is bytes else TEXT
        told = f"; with curl: -H 'Content-Type: {own}'" if kind == CURL else ""
        return HttpError(
            415,
            "unsupported_media_type",
            f"this model classifies {self._task.NOUN}s, and takes {own}, {FILE}, {FORM}, {JSON} or {LINES[0]}; "
            f"found {shown(kind)}{told}",
            {"accept": ", ".join(("image/*" if self._task.RAW is bytes else TEXT, FILE, FORM, JSON, LINES[0]))},
        )


def _read(reader: Callable[[], Raw]) -> Raw:
    return reader()


def _outcome(answers: Answers) -> tuple[int, dict[str, Any] | None]:
    """Return the status of a reply, and where no input has an answer the error that says so."""
    codes = [answer["error"]["code"] for answer in answers]
    if None in codes:
        return 200, None
    if "internal_error" in codes:
        raise HttpError(500, "internal_error", "the server failed; its log says why")
    if "out_of_time" in codes:
        raise OutOfTime
    message = f"none of the {len(codes)} inputs could be read; each answer says why"
    return 422, {"code": codes[0] if len(set(codes)) == 1 else "all_failed", "message": message}
