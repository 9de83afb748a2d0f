"""The session of a review: its cards, and the table that goes on from an earlier review."""

import os
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from flowerml.core.display import printable
from flowerml.core.errors import DataError
from flowerml.core.locks import try_lock
from flowerml.data import split
from flowerml.data.examples import Examples
from flowerml.pipeline.review.subject import Say, Subject
from flowerml.review import cards
from flowerml.review.cards import MISTAKE, Card
from flowerml.review.contents import Contents
from flowerml.review.session import Session, Texts
from flowerml.review.table import Decision, Entry, Former, LabelTable
from flowerml.tasks.registry import TASKS


@contextmanager
def open_session(
    subject: Subject,
    path: Path,
    *,
    findings: Collection[str] = cards.REVIEWED,
    margin: float | None = None,
    most_mistakes: int,
    most_cards: int,
    say: Say,
) -> Iterator[Session]:
    """Hold the table at a path, and yield the session of its review; it goes on from the decisions in the table.

    With a `margin` label errors are looked for anew: those whose other class is more probable than the label by that.
    Raises DataError where another process holds the table, or it is of other data.
    """
    _check_writable(path)
    lock = path.with_name(f".{path.name}.lock")
    with try_lock(lock) as is_ours:
        if not is_ours:
            raise DataError(f"{path}: another `flowerml review` is writing it; stop that one, or choose another --out")
        try:
            chosen = _cards(subject, findings, margin, most_mistakes, say)
            if len(chosen) > most_cards:
                say(f"{len(chosen):,} cards; the first {most_cards:,} are shown (--most)")
            yield from _opened(subject, path, chosen[:most_cards], say)
        finally:
            # A third process may now get a lock of its own beside a second one: the table itself refuses to write then.
            lock.unlink(missing_ok=True)


def _check_writable(path: Path) -> None:
    """Raise DataError where no table can be written; a lock there would look like that of another process."""
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        raise DataError(f"{path}: is a folder; expected a file for --out")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise DataError(f"{path}: {path.parent} cannot be written to; choose another --out")


def _cards(subject: Subject, wanted: Collection[str], margin: float | None, most_mistakes: int, say: Say) -> list[Card]:
    mistakes = subject.mistakes(most_mistakes, say) if MISTAKE in wanted else []
    findings = subject.findings
    if margin is not None:
        findings = [finding for finding in findings if finding["name"] != "label_error"] + subject.label_errors(margin)
    return cards.build(subject.rows, findings, mistakes, subject.names, wanted)


def _opened(subject: Subject, path: Path, chosen: list[Card], say: Say) -> Iterator[Session]:
    table = LabelTable(path, *_with_former(subject, Former.read(path), path, say))
    wanted = {id for card in chosen for id in (card.id, *card.partners())}
    task = TASKS[subject.kind]
    examples = Examples(subject.examples).of(*split.SPLITS, where=lambda key: key.id in wanted)
    with closing(Contents(task, examples)) as contents:
        texts = Texts(subject.name, task.NOUN, subject.command(_shown(path)))
        yield Session(chosen, table, names=subject.names, texts=texts, view=contents.view)


def _with_former(subject: Subject, former: Former, path: Path, say: Say) -> tuple[list[Entry], dict[str, Decision]]:
    """Return the entries of a table and the decisions on them, with those of an earlier review.

    Where its table is in use, the data have the corrected labels, and lack what was dropped: the entries are then as
    they were before. Raises DataError where the labels in the data are others than then.
    """
    entries = {entry.file: entry for entry in subject.entries}
    if subject.table is not None and path.exists() and subject.table.resolve() == path.resolve():
        dropped = {file for file, decision in former.decisions.items() if decision.kind == "drop"}
        kept = {file: entry for file, entry in former.entries.items() if file in entries or file in dropped}
        return list((entries | kept).values()), former.decisions
    for file, entry in former.entries.items():
        now = entries.get(file, entry)
        if (now.source_label or now.label) != entry.source_label:
            raise DataError(
                f"{path}: {printable(file)} had the label {entry.source_label!r} when this table was written, and has "
                f"{now.source_label or now.label!r} now; the data have changed since, so choose another --out"
            )
    if lost := former.decisions.keys() - entries.keys():
        say(f"{path}: {len(lost):,} decisions are left out, as {subject.name} lacks {printable(min(lost))}, …")
    return subject.entries, former.decisions


def _shown(path: Path) -> str:
    """Return a path relative to this folder, or absolute where it is not below it."""
    return (
        str(path.resolve().relative_to(Path.cwd()))
        if path.resolve().is_relative_to(Path.cwd())
        else str(path.resolve())
    )
