"""From the example table to the encoded one: what is already encoded is taken over."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from flowerml.checks import encodings, page
from flowerml.core import files
from flowerml.data import encodings as encoded
from flowerml.data import findings, split
from flowerml.data.encodings import Former, Row
from flowerml.data.examples import Examples, Key, Raw
from flowerml.pipeline import download
from flowerml.tasks.registry import Encoder, Pipeline

SPLITS = ("train", "valid")


@dataclass
class Report:
    """How many rows were encoded, and how many were taken over from the file that stood there."""

    encoded: int = 0
    unchanged: int = 0

    def __str__(self) -> str:
        total = self.encoded + self.unchanged
        unchanged = f"; {self.unchanged:,} unchanged" if self.unchanged else ""
        return f"encoded {self.encoded:,} of {total:,} examples{unchanged}"


def encode(path: Path, table: Examples, encoder: Encoder, section: Any) -> Report:
    """Write the training and validation examples' encodings, atomically.

    A row of the file that stood there is taken over where its content and all that its encoding depends on are the
    same; the file is, byte for byte, what it would be without. Memory is bounded but for a few words a row.
    """
    columns = encoder.columns
    fingerprints = {split: encoder.fingerprint(section, split) for split in SPLITS}
    former = Former(path, columns=columns, fingerprints=fingerprints)
    fresh = encoder.encode(table.of(*SPLITS, where=lambda key: key not in former), section)
    report = Report()
    rows = tqdm(_merged(table, former, fresh, report), total=table.count(*SPLITS), desc="encode", unit="example")
    encoded.write(path, rows, columns=columns, fingerprints=fingerprints)
    return report


def check(pipeline: Pipeline, table: Examples) -> list[dict[str, Any]]:
    """Look for what shows in encodings; write the findings, and the page of these and those of `extract`.

    Raises ChecksError where something is found that `data.checks.fail_on` names, once both are written.
    """
    paths, section = pipeline.paths, pipeline.data.checks
    names = download.category_names(paths.category_names)
    report = files.read_json(paths.checks)
    rows = encoded.Encoded.read(paths.encoded)
    found = encodings.findings(pipeline.task, section, rows, names, report["findings"])
    files.write_json(paths.encoded_checks, {"findings": found})
    report["findings"] = findings.sort([*report["findings"], *found])

    def raws(ids: set[str]) -> Iterator[tuple[str, Raw]]:
        return ((one.id, one.raw) for one in table.of(*split.SPLITS, where=lambda key: key.id in ids))

    page.write(paths.data_page, pipeline.name, report, task=pipeline.task, raws=raws)
    stopping = findings.stopping(found, section.fail_on)
    if stopping:
        places = f"{paths.encoded_checks}, {paths.data_page}"
        raise findings.ChecksError(stopping, f"data.checks.fail_on stops here; more: {places}")
    return found


def _merged(table: Examples, former: Former, fresh: Iterator[Row], report: Report) -> Iterator[tuple[Key, Row]]:
    for key in table.keys(*SPLITS):
        if key in former:
            report.unchanged += 1
            yield key, former[key]
        else:
            report.encoded += 1
            yield key, next(fresh)
