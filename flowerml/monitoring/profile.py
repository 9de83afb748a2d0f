"""The numbers of an input and its answer that are watched for drift: the same for the reference and for the log."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flowerml.monitoring.record import Record

TOP, CLASS, KNOWN, STRANGE = "top probability", "class", "known", "out of distribution"
ANSWER = (TOP, CLASS, KNOWN, STRANGE)
"""The columns of an answer; the others are the properties of the input, and the classifier's features."""

DIGITS = 4  # that numbers are rounded to: a reference holds no more, and a test sees a step where only one side has
DECIMALS = 2  # of features, whose deviation is about 1

Row = Mapping[str, float | str]


def row(record: "Record", features: Sequence[str]) -> Row:
    """Return the watched numbers and words of an answered input by name, rounded; none of one that was not read.

    `features` are the names of the record's features, `Classifier.features`. What the record lacks is left out:
    properties while a log is behind, features of a classifier that was saved without or has others.

    >>> from flowerml.monitoring.record import Record
    >>> record = Record(time=0.0, request="", model="m", version="1", digest="", top=(("rose", 0.9),), known=True)
    >>> row(record, ())
    {'top probability': 0.9, 'class': 'rose', 'known': 'yes'}
    """
    if not record.top:
        return {}
    label, probability = record.top[0]
    known = "yes" if record.known else "no"
    strange = {} if record.out_of_distribution is None else {STRANGE: record.out_of_distribution}
    numbers: Row = {**record.properties, TOP: probability, CLASS: label, KNOWN: known, **strange}
    named = zip(features, record.features, strict=True) if len(features) == len(record.features) else ()
    return {
        **{name: _rounded(value) for name, value in numbers.items()},
        **{name: round(value, DECIMALS) for name, value in named},
    }


def _rounded(value: float | str) -> float | str:
    return value if isinstance(value, str) else float(f"{value:.{DIGITS}g}")
