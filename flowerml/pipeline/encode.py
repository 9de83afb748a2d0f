"""Stage `encode`: examples.parquet -> encoded.arrow, the fitted encoder, and the findings in the encodings."""

import shutil
import sys
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm import tqdm

from flowerml.checks import encodings as encoding_checks
from flowerml.checks import page
from flowerml.config.params import Section
from flowerml.config.pipeline import Pipeline
from flowerml.core import files, progress
from flowerml.core.display import display_path, format_size
from flowerml.core.errors import DataError
from flowerml.data import encodings, findings, split
from flowerml.data.encodings import Encoded, Unfinished
from flowerml.data.examples import Examples, Raw
from flowerml.data.names import category_names
from flowerml.engine.executors import Place
from flowerml.pipeline.encode_rows import SPLITS, EncodeReport, Facts, Source, merged
from flowerml.pipeline.encoding_pool import Workers
from flowerml.tasks.base import Encoder
from flowerml.tasks.registry import task_of

SAMPLE = 64  # examples of a split by which the size of the encodings is estimated
TOLD_FROM = 2**28  # bytes of encodings


def run(pipeline: Pipeline, *, encoder: Encoder[Any, Any, Any] | None = None) -> EncodeReport:
    """Encode a pipeline's training and validation examples once for all trials; unchanged rows are reused.

    The encoder is fitted to the training examples unless one is given. Workers encode where FLOWERML_ENGINE and
    FLOWERML_WORKERS ask for some. Raises ChecksError for a finding named in `data.checks.fail_on`, after the encodings,
    the findings and their page are written.
    """
    paths = pipeline.paths
    examples, place = Examples(paths.examples), Place.from_environment()
    if encoder is None:
        encoder = task_of(pipeline).Encoder.fit(examples.of("train"), pipeline.encode, pipeline.data.limits)
    workers = None if place.in_process else Workers(place, pipeline.kind)
    return finish(pipeline, encoder, encode(paths.encoded, examples, encoder, pipeline.encode, workers=workers))


def finish(pipeline: Pipeline, encoder: Encoder[Any, Any, Any], report: EncodeReport) -> EncodeReport:
    """Save the encoder of new encodings, and check these; return the report with the findings."""
    encoder.save(pipeline.paths.encoder)
    report.findings = _check(pipeline, Examples(pipeline.paths.examples))
    return report


def summary(report: EncodeReport) -> str:
    """Return the report in a few lines for the terminal."""
    return "\n".join([str(report), *finding_lines(report)])


def finding_lines(report: EncodeReport) -> list[str]:
    """Return a line for each finding."""
    return [f"{finding['severity']}: {finding['name']}: {finding['text']}" for finding in report.findings]


def encode(
    path: Path,
    examples: Examples,
    encoder: Encoder[Any, Any, Any],
    section: Section,
    *,
    workers: Workers | None = None,
    only_join: bool = False,
) -> EncodeReport:
    """Write the encodings of the training and validation examples, atomically.

    A row of the former file is reused if its content and all that its encoding depends on are unchanged; else those of
    its columns that depend on less, such as the features of a pretrained encoder of texts, which a new dictionary does
    not change. So are rows that a killed process has left, and those of shards. The file is byte for byte that of a run
    from scratch in one process. Memory is bounded except for 24 bytes a row.

    Raises DataError before anything is encoded if the disk has too little room, and with `only_join` if any row is new.
    """
    facts, unfinished = Facts.of(encoder, section), Unfinished.of(path)
    check_room(path.parent, examples, encoder, section)
    left = unfinished.take_over()
    cache = facts.cache(path, [*unfinished.finished_shards(), *left])
    for superfluous in set(cache.superfluous()) & set(left):
        files.remove(superfluous)
    source = Source(examples, encoder, section, facts, cache, workers)
    if only_join and (missing := source.missing()):
        raise DataError(
            f"{path}: {missing:,} of {examples.count(*SPLITS):,} examples are in no shard: the examples have "
            "changed since, or a shard is damaged; run the shards again"
        )
    report = write(path, unfinished, source)
    unfinished.remove()
    return report


def write(path: Path, unfinished: Unfinished, source: Source) -> EncodeReport:
    """Encode what is not known and write all rows of a source; until they are complete, in the unfinished folder."""
    report, facts, total = EncodeReport(), source.facts, source.examples.count(*SPLITS, blocks=source.blocks)
    fresh = source.encoded(unfinished.folder / "encoder")
    with closing(fresh), progress.bar(total=total, desc="encode", unit="example") as bar:
        encodings.write_resumably(
            path,
            [merged(keys, source.cache, fresh, report, bar) for keys in source.keys_of_parts()],
            unfinished.folder,
            columns=facts.columns,
            fingerprints=facts.fingerprints,
            parts=facts.parts,
        )
    return report


def check_room(
    folder: Path, examples: Examples, encoder: Encoder[Any, Any, Any], section: Section, *, shares: int = 1
) -> None:
    """Say how large the encodings will be, if they are large; raises DataError if the disk has no room for a share."""
    sizes = [examples.count(name) * encoder.row_bytes(islice(examples.of(name), SAMPLE), section) for name in SPLITS]
    needed, free = sum(sizes) // shares, shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(
            f"{folder}: the encodings of {examples.count(*SPLITS) // shares:,} examples take about "
            f"{format_size(needed)}, but {format_size(free)} are free; make room, or let encode cache less (see "
            "encode.cache, encode.views)"
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
