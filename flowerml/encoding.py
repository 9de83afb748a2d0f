"""From the example table to the encoded one: what is already encoded is taken over."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from flowerml import encoded
from flowerml.encoded import Former, Row
from flowerml.examples import Examples, Key
from flowerml.tasks import Encoder

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


def _merged(table: Examples, former: Former, fresh: Iterator[Row], report: Report) -> Iterator[tuple[Key, Row]]:
    for key in table.keys(*SPLITS):
        if key in former:
            report.unchanged += 1
            yield key, former[key]
        else:
            report.encoded += 1
            yield key, next(fresh)
