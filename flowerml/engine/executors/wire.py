"""What travels between the driver and a worker: plain data, arrays and our dataclasses, and errors as they are.

Pickled on pipes and in a cluster's memory, between processes of the same user and the same code; never in a file.
"""

import pickle
import traceback
from dataclasses import dataclass
from typing import Any

from flowerml.core.urls import scrub

PROTOCOL = 5
MAX_CAUSES = 8  # of a chain of errors


@dataclass(frozen=True)
class PackedError:
    """An exception that any process with the same code can raise again, with the errors it came from.

    `content` is its pickle, None where its class cannot be made from it; then `kind`, `arguments` and `state` are.
    """

    content: bytes | None
    kind: type[BaseException]
    arguments: tuple[Any, ...]
    state: dict[str, Any]
    cause: "PackedError | None"


@dataclass(frozen=True)
class Failure:
    """The reply of a worker where a method raised: the error, and its stack trace as text."""

    error: PackedError
    trace: str

    def restored(self, worker: str) -> BaseException:
        """Return the error; its stack trace in the worker is a note, which `--debug` shows."""
        error = _unpack(self.error)
        error.add_note(f"in {worker}:\n{self.trace}")
        return error


def encode(value: Any) -> bytes:
    """Return any value as bytes; raises TypeError for one that cannot leave its process."""
    try:
        return pickle.dumps(value, PROTOCOL)
    except (pickle.PicklingError, TypeError, AttributeError, RecursionError) as error:
        raise TypeError(f"{type(value).__name__}: cannot be sent to another process ({error})") from None


def decode(data: bytes) -> Any:
    """Return the value of `encode`."""
    return pickle.loads(data)


def encode_error(error: BaseException) -> bytes:
    """Return an error as the bytes of a Failure."""
    trace = scrub("".join(traceback.format_exception(error)))
    return encode(Failure(_pack(error, MAX_CAUSES), trace))


def _pack(error: BaseException, depth: int) -> PackedError:
    earlier = error.__cause__ or error.__context__
    cause = _pack(earlier, depth - 1) if earlier is not None and depth > 0 else None
    try:
        content = pickle.dumps(error, PROTOCOL)
        if type(pickle.loads(content)) is type(error):
            return PackedError(content, type(error), (), {}, cause)
    except (pickle.PickleError, TypeError, AttributeError, ValueError, RecursionError):
        pass  # a class whose __init__ asks for other arguments than it hands on, or that holds what cannot be sent
    kind, arguments, state = type(error), error.args, dict(error.__dict__)
    if not _is_plain((kind, arguments, state)):
        text = str(error) if _is_plain(kind) else f"{kind.__name__}: {error}"
        kind, arguments, state = (kind if _is_plain(kind) else RuntimeError), (text,), {}
    return PackedError(None, kind, arguments, state, cause)


def _is_plain(value: Any) -> bool:
    try:
        pickle.loads(pickle.dumps(value, PROTOCOL))
    except (pickle.PickleError, TypeError, AttributeError, ValueError, RecursionError):
        return False
    return True


def _unpack(packed: PackedError) -> BaseException:
    if packed.content is not None:
        error: BaseException = pickle.loads(packed.content)
    else:
        # Not kind(*arguments): what __init__ asks for is not what it handed on to its base.
        error = packed.kind.__new__(packed.kind, *packed.arguments)
        error.__dict__.update(packed.state)
    if packed.cause is not None:
        error.__cause__ = _unpack(packed.cause)
    return error
