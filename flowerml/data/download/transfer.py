"""One attempt after the other, until the file is whole."""

import sys
import time

from flowerml.data.download.partial import Part
from flowerml.data.download.remote import Refusal, Remote, Retry, one_line

LONGEST_PAUSE = 120.0  # seconds, whatever Retry-After says
# What must have come since the last attempts were forgiven, if it is less than a hundredth of the file: without it a
# server that gives one byte each time would be asked for ever.
PROGRESS = 2**20


def transfer(remote: Remote, part: Part, *, attempts: int, pause: float) -> None:
    """Bring `part` from what it has to the whole file; raises Refusal."""
    from tqdm import tqdm

    if part.whole:
        return
    failures, furthest = 0, part.size
    while True:
        try:
            _attempt(remote, part)
            return
        except Retry as problem:
            if part.size - furthest >= _progress(part):
                failures, furthest = 0, part.size
            failures += 1
            reason = one_line(str(problem)) + _position(part)
            if failures >= attempts:
                raise Refusal(f"{reason}, given up after {failures} attempts in a row") from problem
            wait = min(max(pause * 2 ** min(failures - 1, 20), problem.wait), LONGEST_PAUSE)
            again = f"trying again in {wait:g} s (attempt {failures + 1} of {attempts})"
            tqdm.write(f"{part.target.name}: {reason}; {again}", file=sys.stderr)
            time.sleep(wait)


def _attempt(remote: Remote, part: Part) -> None:
    from tqdm import tqdm

    with remote.open(part.known, part.size) as answer:
        if answer.start == 0:
            part.begin(answer.known)
        size, name = answer.known.size, part.target.name
        with (
            part.appending(size) as file,
            tqdm(desc=name, unit="B", unit_scale=True, initial=answer.start, total=size) as bar,
        ):
            for chunk in answer.chunks:
                file.write(chunk)
                file.flush()
                bar.update(len(chunk))
    if size not in (None, part.size):
        raise Retry("the connection was cut")


def _progress(part: Part) -> float:
    size = part.known.size if part.known else None
    return min(PROGRESS, size / 100) if size else PROGRESS


def _position(part: Part) -> str:
    from tqdm import tqdm

    if not part.size:
        return ""
    size = part.known.size if part.known else None
    of = f" of {tqdm.format_sizeof(size)}B" if size else ""
    return f" (after {tqdm.format_sizeof(part.size)}B{of})"
