"""Stage `encode`: examples.parquet -> encoded.arrow, the fitted encoder, and the findings in the encodings."""

import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm import tqdm

from flowerml.checks import encodings as encoding_checks
from flowerml.checks import page
from flowerml.config.params import Section
from flowerml.config.pipeline import Pipeline
from flowerml.core import files
from flowerml.core.display import display_path, format_size
from flowerml.core.errors import DataError
from flowerml.data import encodings, findings, split
from flowerml.data.encodings import Encoded, EncodingCache, Row
from flowerml.data.examples import Examples, Key, Raw
from flowerml.data.names import category_names
from flowerml.tasks.base import Encoder
from flowerml.tasks.registry import task_of

SPLITS = ("train", "valid")

SAMPLE = 64  # examples of a split by which the size of the encodings is estimated
TOLD_FROM = 2**28  # bytes of encodings


@dataclass
class EncodeReport:
    """The number of rows encoded, the number reused from the former file, and the findings."""

    encoded: int = 0
    unchanged: int = 0
    findings: list[dict[str, Any]] = field(default_factory=list)

    def __str__(self) -> str:
        total = self.encoded + self.unchanged
        unchanged = f"; {self.unchanged:,} unchanged" if self.unchanged else ""
        return f"encoded {self.encoded:,} of {total:,} examples{unchanged}"


def run(pipeline: Pipeline, *, encoder: Encoder[Any, Any, Any] | None = None) -> EncodeReport:
    """Encode a pipeline's training and validation examples once for all trials; unchanged rows are reused.

    The encoder is fitted to the training examples unless one is given. Raises ChecksError for a finding named in
    `data.checks.fail_on`, after the encodings, the findings and their page are written.
    """
    paths = pipeline.paths
    examples = Examples(paths.examples)
    if encoder is None:
        encoder = task_of(pipeline).Encoder.fit(examples.of("train"), pipeline.encode, pipeline.data.limits)
    report = encode(paths.encoded, examples, encoder, pipeline.encode)
    encoder.save(paths.encoder)
    report.findings = _check(pipeline, examples)
    return report


def summary(report: EncodeReport) -> str:
    """Return the report in a few lines for the terminal."""
    lines = [f"{finding['severity']}: {finding['name']}: {finding['text']}" for finding in report.findings]
    return "\n".join([str(report), *lines])


def encode(path: Path, examples: Examples, encoder: Encoder[Any, Any, Any], section: Section) -> EncodeReport:
    """Write the encodings of the training and validation examples, atomically.

    A row of the former file is reused if its content and all that its encoding depends on are unchanged; else those of
    its columns that depend on less, such as the features of a pretrained encoder of texts, which a new dictionary does
    not change. The file is byte for byte that of a run from scratch. Memory is bounded except for a few words per row.
    Raises DataError before anything is encoded if the disk has too little room.
    """
    columns = encoder.columns
    fingerprints = {split: encoder.fingerprint(section, split) for split in SPLITS}
    parts = encoder.parts(section)
    _check_room(path.parent, examples, encoder, section)
    cache = EncodingCache(path, columns=columns, fingerprints=fingerprints, parts=parts)
    fresh = encoder.encode(examples.of(*SPLITS, where=lambda key: key not in cache), section, known=cache.part)
    report = EncodeReport()
    rows = tqdm(_merged(examples, cache, fresh, report), total=examples.count(*SPLITS), desc="encode", unit="example")
    encodings.write(path, rows, columns=columns, fingerprints=fingerprints, parts=parts)
    return report


def _check_room(folder: Path, examples: Examples, encoder: Encoder[Any, Any, Any], section: Section) -> None:
    """Say how large the encodings will be, if they are large; raises DataError if the disk has no room for them."""
    sizes = [examples.count(name) * encoder.row_bytes(islice(examples.of(name), SAMPLE), section) for name in SPLITS]
    needed, free = sum(sizes), shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(
            f"{folder}: the encodings of {examples.count(*SPLITS):,} examples take about {format_size(needed)}, but "
            f"{format_size(free)} are free; make room, or let encode cache less (see encode.cache, encode.views)"
        )
    if needed > TOLD_FROM:
        tqdm.write(f"encodings: about {format_size(needed)} in {display_path(folder)}", file=sys.stderr)


def _check(pipeline: Pipeline, examples: Examples) -> list[dict[str, Any]]:
    """Write and return the findings in the encodings; write the page of these and those of `extract`."""
    paths, section, task = pipeline.paths, pipeline.data.checks, task_of(pipeline)
    names = category_names(paths.category_names)
    report = files.read_json(paths.checks)
    new_findings = encoding_checks.findings(task, section, Encoded.read(paths.encoded), names, report["findings"])
    files.write_json(paths.encoded_checks, {"findings": new_findings})
    report["findings"] = findings.by_severity([*report["findings"], *new_findings])

    def raws(ids: set[str]) -> Iterator[tuple[str, Raw]]:
        chosen = examples.of(*split.SPLITS, where=lambda key: key.id in ids)
        return ((example.id, example.raw) for example in chosen)

    page.write(paths.data_page, pipeline.name, report, task=task, raws=raws)
    failing = findings.failing(new_findings, section.fail_on)
    if failing:
        places = f"{paths.encoded_checks}, {paths.data_page}"
        raise findings.ChecksError(failing, f"data.checks.fail_on stops here; more: {places}")
    return new_findings


def _merged(
    examples: Examples, cache: EncodingCache, fresh: Iterator[Row], report: EncodeReport
) -> Iterator[tuple[Key, Row]]:
    for key in examples.keys(*SPLITS):
        if key in cache:
            report.unchanged += 1
            yield key, cache[key]
        else:
            report.encoded += 1
            yield key, next(fresh)
