"""Attempts to download one file, until it is complete.

urllib3's Retry is not enough here, though it reads the Retry-After header for us (http.py): it ends where the body
begins, so that it neither retries a body that is cut nor resumes it; it never forgives earlier failures after progress;
it waits in silence; and it knows nothing of buckets. Two layers of retries would multiply the attempts.
"""

import sys
import time

from flowerml.core.display import visible
from flowerml.data.download.partial import PartialFile
from flowerml.data.download.remote import PermanentError, RemoteFile, TransientError, clean

MAX_PAUSE = 120.0  # seconds, whatever Retry-After says
# Bytes that reset the count of failures, if they are less than a hundredth of the file. With no minimum a server that
# sends one byte an attempt would be asked for ever.
MIN_PROGRESS = 2**20


def transfer(remote: RemoteFile, partial: PartialFile, *, attempts: int, pause: float) -> None:
    """Complete `partial`; raises PermanentError after `attempts` failures in a row without progress."""
    from tqdm import tqdm

    if partial.is_complete:
        return
    failures, furthest = 0, partial.size
    while True:
        try:
            _attempt(remote, partial)
            return
        except TransientError as error:
            if partial.size - furthest >= _min_progress(partial):
                failures, furthest = 0, partial.size
            failures += 1
            reason = clean(error) + _position(partial)
            if failures >= attempts:
                raise PermanentError(f"{reason}, given up after {failures} attempts in a row") from error
            wait = min(max(pause * 2 ** min(failures - 1, 20), error.wait), MAX_PAUSE)
            retry = f"retrying in {wait:g} s (attempt {failures + 1} of {attempts})"
            tqdm.write(visible(f"{partial.target.name}: {reason}; {retry}"), file=sys.stderr)
            time.sleep(wait)


def _attempt(remote: RemoteFile, partial: PartialFile) -> None:
    from flowerml.core import progress

    with remote.open(partial.info, partial.size) as stream:
        if stream.start == 0:
            partial.begin(stream.info)
        size, name = stream.info.size, partial.target.name
        with (
            partial.appending(size) as file,
            progress.bar(desc=visible(name), unit="B", unit_scale=True, initial=stream.start, total=size) as bar,
        ):
            for chunk in stream.chunks:
                file.write(chunk)
                file.flush()
                bar.update(len(chunk))
    if size not in (None, partial.size):
        raise TransientError("the connection was cut")


def _min_progress(partial: PartialFile) -> float:
    size = partial.info.size if partial.info else None
    return min(MIN_PROGRESS, size / 100) if size else MIN_PROGRESS


def _position(partial: PartialFile) -> str:
    from tqdm import tqdm

    if not partial.size:
        return ""
    size = partial.info.size if partial.info else None
    total = f" of {tqdm.format_sizeof(size)}B" if size else ""
    return f" (after {tqdm.format_sizeof(partial.size)}B{total})"
