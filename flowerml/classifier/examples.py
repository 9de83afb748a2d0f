"""Test examples that travel with a saved classifier, small: what the page offers to those who have only the folder.

Whoever gets the classifier gets them, so data that must stay where it is needs `train.examples: 0`.
"""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowerml.classifier import saved
from flowerml.classifier.classifier import Classifier
from flowerml.config.paths import Paths
from flowerml.core import schema
from flowerml.core.errors import InputError, ModelError
from flowerml.tasks.base import Task

if TYPE_CHECKING:  # needs pyarrow; reading what is in the folder does not
    from flowerml.data.examples import Examples, Key, Raw

FORMAT = 1
SPLIT = "test"
PARAMETER = "train.examples"
DEFAULT = 6  # of classifiers that were saved before the parameter existed
MOST = 24  # the highest value of the parameter
MAX_BYTES = 150_000  # of the file, since every registered version and every download of one has it
SPARE = 3  # candidates for each example, as some may be unreadable
MAX_CHARACTERS = 10_000  # of a text; ours have 2,000

ROW = schema.record({"label": schema.text(), "input": schema.text(saved.EXTRAS[saved.EXAMPLES])})
SCHEMA = schema.record({"format": schema.whole(FORMAT, FORMAT), "examples": schema.items(ROW, 0, MOST)})


@dataclass(frozen=True)
class SavedExample:
    """A test example in a small copy: its class, and a raw input as the classifier takes it."""

    label: str
    raw: "Raw"


def choose(classifier: Classifier, examples: "Examples", count: int) -> list[SavedExample]:
    """Return about `count` small copies of test examples, of different classes as far as there are so many.

    The digests of the examples decide, not the answers: what the classifier gets wrong is offered, too. There are fewer
    where there are not as many readable ones, or where they would take more than MAX_BYTES.
    """
    candidates = _in_turn(examples)[: SPARE * count]
    wanted, copies = {key.id for key in candidates}, {}
    for example in examples.of(SPLIT, where=lambda key: key.id in wanted):
        copies[example.id] = _small(classifier, example.raw)
    chosen: list[SavedExample] = []
    for key in candidates:
        raw = copies[key.id]
        if raw is not None and len(chosen) < count:
            more = [*chosen, SavedExample(key.label, raw)]
            chosen = more if len(to_bytes(classifier.task, more)) <= MAX_BYTES else chosen
    return chosen


def to_bytes(task: Task, examples: Sequence[SavedExample]) -> bytes:
    """Return the file: the same examples give the same bytes."""
    rows = [{"label": example.label, "input": task.to_json(example.raw)} for example in examples]
    return json.dumps({"format": FORMAT, "examples": rows}, ensure_ascii=False, indent=1).encode("utf-8")


def read_examples(classifier: Classifier) -> list[SavedExample]:
    """Return the examples that travel with a classifier; none where it was saved without.

    Raises ModelError for a file that is not the one that was saved, or that nobody should have written.
    """
    content = saved.read_extra(classifier.folder, classifier.description, saved.EXAMPLES)
    return [] if content is None else from_bytes(content, classifier)


def own_examples(classifier: Classifier) -> list[SavedExample]:
    """Return the examples that travel with a classifier or, for one of an earlier version, some of its project's data.

    There are none where that is not what it was trained with. Raises ModelError as `read_examples`.
    """
    is_earlier = PARAMETER not in classifier.description["parameters"]
    return read_examples(classifier) or (_of_project(classifier) if is_earlier else [])


def from_bytes(content: bytes, classifier: Classifier) -> list[SavedExample]:
    """Return the examples in a file, which may come from a stranger; raises ModelError."""
    try:
        value = schema.parse(content)
        SCHEMA(value, "")
        return [_example(row, classifier) for row in value["examples"]]
    except ValueError as error:  # ModelError and InputError, too
        raise ModelError(f"{saved.EXAMPLES}: {error}; copy the whole folder again") from None


def _example(row: Mapping[str, Any], classifier: Classifier) -> SavedExample:
    raw = classifier.task.from_json(row["input"])
    if row["label"] not in classifier.classes:
        raise ModelError("expected labels of the classifier's classes, found another one")
    if isinstance(raw, str) and len(raw) > MAX_CHARACTERS:
        raise ModelError(f"expected texts of at most {MAX_CHARACTERS:,} characters, found {len(raw):,}")
    return SavedExample(row["label"], raw)


def _in_turn(examples: "Examples") -> "list[Key]":
    """Return the first example of each class, then the second of each, and so on, by digest; no content twice."""
    of_class: dict[str, dict[str, Key]] = defaultdict(dict)
    for key in examples.keys(SPLIT):
        keys = of_class[key.label]
        keys.setdefault(key.digest, key)
        if len(keys) > 4 * SPARE * MOST:  # so that memory does not grow with the split
            of_class[key.label] = {digest: keys[digest] for digest in nsmallest(SPARE * MOST, keys)}
    places = {
        (rank, digest, label): keys[digest]
        for label, keys in of_class.items()
        for rank, digest in enumerate(nsmallest(SPARE * MOST, keys))
    }
    unique: dict[str, Key] = {}
    for place in sorted(places):
        unique.setdefault(places[place].digest, places[place])
    return list(unique.values())


def _small(classifier: Classifier, raw: "Raw") -> "Raw | None":
    """Return a small copy that the classifier can read; None where there is none."""
    try:
        small: Raw = classifier.task.excerpt(raw)
    except InputError:
        return None
    (answer,) = classifier.predict_each([small], top_k=1)
    return None if isinstance(answer, InputError) else small


def _of_project(classifier: Classifier) -> list[SavedExample]:
    """Return examples of the data beside a classifier in models/NAME/classifier; none where it was trained on other."""
    folder: Path = classifier.folder.resolve()
    paths = Paths(folder.parent.name, root=folder.parents[2]) if len(folder.parents) > 2 else None
    if paths is None or paths.classifier != folder:
        return []
    from flowerml.data.examples import Examples, is_examples

    if not is_examples(paths.examples):
        return []
    examples = Examples(paths.examples)
    if examples.digest() != classifier.description["trained"].get("data_digest"):
        return []
    return choose(classifier, examples, DEFAULT)
