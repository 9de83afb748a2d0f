"""Reading of texts: files in folders or rows of a table, and the decoding of their bytes."""

import codecs
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from flowerml.core.display import one_line
from flowerml.core.errors import DataError, InputError
from flowerml.data.layout import SPLITS, Listing, Row, list_files, read_files, to_nfc

if TYPE_CHECKING:
    import pandas as pd

    from flowerml.tasks.text.sections import Data

SUFFIXES = frozenset({".txt"})
TABLES: tuple[str, ...] = (".csv", ".tsv", ".jsonl", ".parquet")
UNLABELLED = "unsup"  # the folder of aclImdb with reviews of unknown sentiment
BYTE_ORDER_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


def listing(source: Path, section: "Data", *, labelled: bool = True) -> Listing:
    """List the texts of a table, or of a folder or archive with one folder per class. Raises DataError.

    If not `labelled`, the labels come from elsewhere and the files may be in any folders.
    """
    if _is_table(source):
        return _list_table(_read_table(source, section), section)
    listed = list_files(source, suffixes=SUFFIXES, labelled=labelled, limits=section.limits.of_archives())
    unlabelled = Counter(row.label for row in listed.rows)[UNLABELLED]
    if unlabelled:
        listed.skip(UNLABELLED, f"{unlabelled:,} texts without a label")
    return Listing([row for row in listed.rows if row.label != UNLABELLED], listed.skipped, listed.warnings)


def contents(source: Path, section: "Data", wanted: Collection[str]) -> Iterator[tuple[str, bytes]]:
    """Yield (id, bytes) of the wanted texts, in the order of the source."""
    if not _is_table(source):
        yield from read_files(source, wanted=wanted, limits=section.limits.of_archives())
        return
    for number, text in enumerate(_read_table(source, section)[section.text_column]):
        if _row_id(number) in wanted:
            yield _row_id(number), text.encode(errors="replace")


def read(raw: bytes, section: "Data") -> str:
    """Decode a text: UTF-8, UTF-16 with a byte order mark, Windows-1252, or the guess of charset-normalizer.

    Raises InputError: `not_a_text` for binary data or an unknown encoding, `empty_text`, and `text_too_long` above
    the section's limit.
    """
    limit = section.limits.characters
    text = decode(raw)
    if not text.strip():
        raise InputError("empty_text", "an empty text")
    if len(text) > limit:
        raise InputError("text_too_long", f"{len(text):,} characters; at most {limit:,} are read")
    return text


def decode(raw: bytes) -> str:
    """Decode a text of any length. Raises InputError `not_a_text`."""
    encoding = next((name for mark, name in BYTE_ORDER_MARKS.items() if raw.startswith(mark)), "utf-8")
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError:
        return _decode_legacy(raw)
    if "\0" in text:
        raise InputError("not_a_text", "binary data, not a text")
    return text


def _decode_legacy(raw: bytes) -> str:
    from charset_normalizer import from_bytes

    if b"\0" in raw:
        raise InputError("not_a_text", "binary data, not a text")
    # Try Western European first: a few accents do not distinguish it from similar encodings.
    best = from_bytes(raw[:100_000], cp_isolation=["cp1252"]).best() or from_bytes(raw[:100_000]).best()
    try:
        return raw.decode(best.encoding if best else "ascii")
    except UnicodeDecodeError:
        raise InputError("not_a_text", "expected a text, found an unknown encoding; save it as UTF-8") from None


def _is_table(source: Path) -> bool:
    return source.resolve().suffix.lower() in TABLES


def _read_table(source: Path, section: "Data") -> "pd.DataFrame":
    path = source.resolve()
    try:
        table = _READERS[path.suffix.lower()](path)
    except (ValueError, OSError, UnicodeError) as error:
        reason = one_line(error, 200)
        raise DataError(f"{path}: cannot be read as {path.suffix[1:]} in UTF-8 ({reason})") from None
    settings = {
        "text_column": section.text_column,
        "label_column": section.label_column,
        "split_column": section.split_column,
        "group_column": section.group_column,
    }
    wanted = {name: column for name, column in settings.items() if column is not None}
    for name, column in wanted.items():
        if column not in table.columns:
            available = ", ".join(map(str, table.columns[:8]))
            raise DataError(f"{path}: no column {column!r}; it has {available}: set data.{name} to one of these")
    table = table[list(dict.fromkeys(wanted.values()))]
    return table.astype(object).where(table.notna(), "").astype(str)


def _csv(path: Path, separator: str = ",") -> "pd.DataFrame":
    import pandas as pd

    return pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False)


def _jsonl(path: Path) -> "pd.DataFrame":
    import pandas as pd

    return pd.read_json(path, lines=True, dtype=False)


def _parquet(path: Path) -> "pd.DataFrame":
    import pandas as pd

    return pd.read_parquet(path)


_READERS: "dict[str, Callable[[Path], pd.DataFrame]]" = {
    ".csv": _csv,
    ".tsv": lambda path: _csv(path, "\t"),
    ".jsonl": _jsonl,
    ".parquet": _parquet,
}


def _list_table(table: "pd.DataFrame", section: "Data") -> Listing:
    listed = Listing()
    absent = [None] * len(table)
    splits = table[section.split_column] if section.split_column else absent
    groups = table[section.group_column] if section.group_column else absent
    for number, (label, split, group) in enumerate(zip(table[section.label_column], splits, groups, strict=True)):
        if not label:
            listed.skip(_row_id(number), "no label")
        elif split and split.lower() not in SPLITS:
            listed.skip(_row_id(number), f"split {split!r} is not one of {', '.join(SPLITS)}")
        else:
            listed.rows.append(
                Row(_row_id(number), to_nfc(label), SPLITS[split.lower()] if split else None, group or None)
            )
    if not listed.rows:
        raise DataError(
            f"no row has a label in column {section.label_column!r}; set data.label_column to another column"
        )
    return listed


def _row_id(number: int) -> str:
    """Return the id of a table's row, counted from 1."""
    return f"row {number + 1}"


def recognizes(content: bytes) -> bool:
    """Return whether bytes are UTF-8, as a text's mostly are."""
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True
