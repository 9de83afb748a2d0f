"""The digest of a table's rows, whatever their order: a SHA-256 of the sorted rows, in bounded memory."""

import hashlib
import heapq
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute

RUN_ROWS = 2**18  # are sorted in memory, about 60 MB of them; more are merged from temporary files


def digest_of_rows(batches: Iterable[pa.RecordBatch], columns: list[str]) -> str:
    """Return the SHA-256 of the rows as lines: their columns joined by tabs, sorted, joined by line feeds.

    >>> batch = pa.RecordBatch.from_pydict({"id": ["b", "a"], "label": ["1", "2"]})
    >>> digest_of_rows([batch], ["id", "label"]) == hashlib.sha256(b"a\\t2\\nb\\t1").hexdigest()
    True
    """
    digest, separator = hashlib.sha256(), b""
    with tempfile.TemporaryDirectory(prefix="flowerml-") as folder:
        for line in _merged(_runs(batches, columns), Path(folder)):
            digest.update(separator + line)
            separator = b"\n"
    return digest.hexdigest()


def _runs(batches: Iterable[pa.RecordBatch], columns: list[str]) -> Iterator[pa.ChunkedArray]:
    """Yield the lines, at least RUN_ROWS at once but for the last ones."""
    lines: list[pa.Array] = []
    for batch in batches:
        # As bytes, which are sorted as code points are.
        parts = (batch.column(name).cast(pa.binary()) for name in columns)
        lines.append(pa.compute.binary_join_element_wise(*parts, b"\t"))
        if sum(map(len, lines)) >= RUN_ROWS:
            yield pa.chunked_array(lines, pa.binary())
            lines = []
    if lines:
        yield pa.chunked_array(lines, pa.binary())


def _merged(runs: Iterator[pa.ChunkedArray], folder: Path) -> Iterator[bytes]:
    """Yield all lines, sorted; where there is more than one run, each is sorted into a file."""
    run, following = next(runs, None), next(runs, None)
    if run is None:
        return iter(())
    if following is None:
        return _lines(_sorted(run))
    paths: list[Path] = []
    while run is not None:
        paths.append(folder / str(len(paths)))
        table = pa.table({"line": _sorted(run)})
        with pa.ipc.new_file(str(paths[-1]), table.schema) as file:
            file.write_table(table, max_chunksize=1024)
        run, following = following, next(runs, None)
    return heapq.merge(*(_lines(pa.ipc.open_file(pa.memory_map(str(path))).read_all()["line"]) for path in paths))


def _sorted(lines: pa.ChunkedArray) -> pa.ChunkedArray:
    return lines.take(pa.compute.sort_indices(lines))


def _lines(lines: pa.ChunkedArray) -> Iterator[bytes]:
    return (line for start in range(0, len(lines), 1024) for line in lines.slice(start, 1024).to_pylist())
