"""The page of a monitored model: what changed, since when, and examples; it loads nothing, not even a script."""

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from flowerml.core import files
from flowerml.core.errors import InputError
from flowerml.data.examples import Raw
from flowerml.evaluation.report import gallery, page, wording
from flowerml.monitoring import profile
from flowerml.monitoring.drift import Comparison, Drift, Floats, columns_of
from flowerml.monitoring.history import History
from flowerml.monitoring.labels import Labelled, Period
from flowerml.monitoring.record import Record
from flowerml.monitoring.reference import Reference, Value
from flowerml.tasks.base import Task

HERE = Path(__file__).parent
CARDS = 12  # changes that are drawn
BINS = 28
TAIL = 0.005  # on either side of a histogram, which would else be one bar and an outlier
CATEGORIES = 6
EXAMPLES = 8
WIDTH, HEIGHT, BASE = 340, 150, 126  # of a histogram, in pixels; its bars stand on BASE
TIMELINE = 640
FEW_WINDOWS = 8  # for so many there is room
HIGHEST = 12.0  # -log10 of the smallest p that the timeline tells apart
COHEN = {"Cohen's d": (0.2, 0.5, 0.8), "Cramér's V": (0.1, 0.3, 0.5)}  # Cohen (1988): small, medium, large

Kept = Callable[[str], bytes | None]
"""Returns the input with a digest where it was kept."""


@dataclass(frozen=True)
class Subject:
    """What the page is about: `facts` are printed as they are, `names` are those of classes by label."""

    title: str
    task: Task
    names: Mapping[str, str]
    facts: Mapping[str, str]


def write(
    path: Path,
    subject: Subject,
    history: History,
    reference: Reference,
    records: Sequence[Record],
    labelled: Labelled | None,
    *,
    kept: Kept,
) -> None:
    """Write the page as one HTML file, atomically. `records` [N] are those of the last window, each input once."""
    latest = history.latest
    changed = [comparison for comparison in latest.comparisons if comparison.drifted]
    window = columns_of(records, reference.features)
    drawable = [comparison for comparison in changed if comparison.name in reference.columns]
    drawn = sorted(drawable, key=lambda comparison: comparison.name in reference.features)[:CARDS]
    context = {
        "title": subject.title,
        "history": history,
        "latest": latest,
        "changed": [comparison.name for comparison in changed],
        "since": None if history.since is None else time_text(history.since),
        "period": _span(latest.since, latest.until),
        "cards": [_card(comparison, reference.columns, window, subject.names) for comparison in drawn],
        "undrawn": len(drawable) - len(drawn),
        "tests": [_row(comparison, subject.names) for comparison in latest.comparisons],
        "features": set(reference.features),
        "timeline": _timeline(history.windows, latest.level),
        "examples": _examples(changed, reference, records, subject, kept),
        "accuracy": None if labelled is None else _accuracy(labelled),
        "labelled": labelled,
        "facts": subject.facts,
        "noun": subject.task.NOUN,
        "svg": {"width": WIDTH, "height": HEIGHT, "base": BASE},
    }
    html = page.environment(HERE).get_template("monitor.html").render(context)
    with files.replacing(path) as temporary:
        temporary.write_text(html, encoding="utf-8", errors="backslashreplace")


def time_text(seconds: float) -> str:
    """Return a time, which is in seconds since 1970, in the zone of this machine."""
    return f"{datetime.fromtimestamp(seconds, UTC).astimezone():%Y-%m-%d %H:%M}"


def strength(comparison: Comparison) -> str:
    """Return how large a change is, by Cohen's conventions; empty where there are none.

    >>> strength(Comparison(name="words", test="", statistic=0.2, p=0.01, corrected=0.01, effect=-0.6,
    ...                     measure="Cohen's d", drifted=True))
    'medium'
    """
    limits = COHEN.get(comparison.measure)
    if limits is None:
        return ""
    return ("negligible", "small", "medium", "large")[sum(abs(comparison.effect) >= limit for limit in limits)]


def _span(since: float, until: float) -> str:
    return f"{time_text(since)} to {time_text(until)}"


def _row(comparison: Comparison, names: Mapping[str, str]) -> dict[str, Any]:
    return {
        "comparison": comparison,
        "strength": strength(comparison),
        "category": comparison.category and names.get(comparison.category, comparison.category),
        "reference": _value(comparison, comparison.reference),
        "window": _value(comparison, comparison.window),
    }


def _value(comparison: Comparison, value: float | None) -> str:
    if value is None:
        return ""
    return wording.percent(value) if comparison.category is not None else _number(value)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _card(
    comparison: Comparison,
    before: Mapping[str, Sequence[Value]],
    after: Mapping[str, Sequence[Value]],
    names: Mapping[str, str],
) -> dict[str, Any]:
    """Return a change with its drawing: a histogram of a number, or bars of the categories that changed most."""
    card = _row(comparison, names)
    first, second = ([value for value in columns[comparison.name] if value is not None] for columns in (before, after))
    if comparison.category is None:
        return {**card, "histogram": _histogram(np.array(first, np.float64), np.array(second, np.float64))}
    return {
        **card,
        "histogram": None,
        "bars": _bars([str(value) for value in first], [str(value) for value in second], names),
    }


def _histogram(before: Floats, after: Floats) -> dict[str, Any]:
    """Return the outlines of two histograms over the same bins, as points of polygons, and three ticks."""
    low, high = np.quantile(before, [TAIL, 1 - TAIL]), np.quantile(after, [TAIL, 1 - TAIL])
    start, end = float(min(low[0], high[0])), float(max(low[1], high[1]))
    if start == end:
        start, end = start - 0.5, end + 0.5
    edges = np.linspace(start, end, BINS + 1)
    shares = [np.histogram(side.clip(start, end), edges)[0] / len(side) for side in (before, after)]
    highest = max(float(share.max()) for share in shares)
    places = np.linspace(0, WIDTH, BINS + 1)

    def outline(share: Floats) -> str:
        heights = BASE - (BASE - 6) * share / highest
        steps = [
            f"{x:.1f},{y:.1f}"
            for left, right, y in zip(places, places[1:], heights, strict=False)
            for x in (left, right)
        ]
        return " ".join([f"0,{BASE}", *steps, f"{WIDTH},{BASE}"])

    ticks = [
        {"x": place, "text": _number(value), "anchor": anchor}
        for place, value, anchor in ((0, start, "start"), (WIDTH / 2, (start + end) / 2, "middle"), (WIDTH, end, "end"))
    ]
    return {"before": outline(shares[0]), "after": outline(shares[1]), "ticks": ticks}


def _bars(before: Sequence[str], after: Sequence[str], names: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the shares of the categories that changed most, with the widths of their bars in per cent."""
    categories = sorted({*before, *after})
    rows = [(name, before.count(name) / len(before), after.count(name) / len(after)) for name in categories]
    rows = sorted(rows, key=lambda row: -abs(row[2] - row[1]))[:CATEGORIES]
    highest = max(max(row[1:]) for row in rows)
    return [
        {
            "name": names.get(name, name),
            "before": wording.percent(first),
            "after": wording.percent(second),
            "width_before": round(100 * first / highest, 1),
            "width_after": round(100 * second / highest, 1),
        }
        for name, first, second in rows
    ]


def _timeline(windows: Sequence[Drift], level: float) -> dict[str, Any]:
    """Return a bar for each window, whose height is that of -log10 p, and where the level is."""

    def height(p: float) -> float:
        return round((BASE - 6) * min(-math.log10(max(p, 1e-300)), HIGHEST) / HIGHEST, 1)

    step = TIMELINE / max(len(windows), FEW_WINDOWS)
    return {
        "start": time_text(windows[0].since),
        "end": time_text(windows[-1].until),
        "width": round(100 * step * len(windows) / TIMELINE, 1),
        "level": BASE - height(level),
        "bars": [
            {
                "x": round(number * step + 2, 1),
                "width": round(step - 4, 1),
                "height": max(height(window.smallest_p), 2),
                "drifted": window.drifted,
                "text": f"{_span(window.since, window.until)}: smallest p {window.smallest_p:.2g}",
            }
            for number, window in enumerate(windows)
        ],
        "rows": [
            {
                "period": _span(window.since, window.until),
                "inputs": window.distinct,
                "unreadable": window.errors,
                "p": f"{window.smallest_p:.2g}",
                "drifted": window.drifted,
                "changed": [comparison.name for comparison in window.comparisons if comparison.drifted],
            }
            for window in reversed(windows)
        ],
    }


def _accuracy(labelled: Labelled) -> dict[str, Any]:
    """Return the periods with the positions of their intervals, in per cent of the cell."""
    periods: tuple[Period, ...] = labelled.periods
    expected = labelled.expected.share if labelled.expected is not None else labelled.overall.interval.estimate
    lowest = min(expected, *(period.interval.low for period in periods))
    highest = max(expected, *(period.interval.high for period in periods))

    def position(value: float) -> float:
        return round(100 * (value - lowest) / max(highest - lowest, 1e-9), 2)

    rows = [
        {
            "period": _span(period.since, period.until),
            "count": period.count,
            "interval": period.interval,
            "left": position(period.interval.low),
            "width": round(position(period.interval.high) - position(period.interval.low), 2),
            "middle": position(period.interval.estimate),
            "below": period.interval.high < expected,
        }
        for period in periods
    ]
    return {"rows": rows, "expected": position(expected), "interval": labelled.overall.interval}


def _examples(
    changed: Sequence[Comparison], reference: Reference, records: Sequence[Record], subject: Subject, kept: Kept
) -> list[dict[str, Any]]:
    """Return the kept inputs that show the most significant change, the clearest first."""
    if not changed:
        return []
    comparison = next((each for each in changed if each.name in reference.columns), None)
    ordered = _clearest(comparison, reference, records)
    raws: dict[str, Raw] = {}
    for digest, raw in islice(_read(ordered, subject.task, kept), EXAMPLES):
        raws[digest] = raw

    def read(ids: Collection[str]) -> Iterator[tuple[str, Raw]]:
        return ((id, raws[id]) for id in ids)

    items = gallery.load(raws, {}, raws=read, task=subject.task, explain=None)
    by_digest = {record.digest: record for record in records}
    return [_example(by_digest[digest], item, comparison, reference, subject) for digest, item in items.items()]


def _clearest(comparison: Comparison | None, reference: Reference, records: Sequence[Record]) -> list[Record]:
    """Return the records, those first that are farthest in the direction of the change."""
    answered = [record for record in records if record.top]
    if comparison is None:
        return sorted(answered, key=lambda record: -(record.out_of_distribution or 0))
    rows = [profile.row(record, reference.features) for record in answered]
    values = [row.get(comparison.name) for row in rows]
    if comparison.category is not None:
        grew = (comparison.window or 0) > (comparison.reference or 0)
        return [
            record for record, value in zip(answered, values, strict=True) if (value == comparison.category) == grew
        ]
    sign = 1 if comparison.effect >= 0 else -1
    placed = [(value, record) for value, record in zip(values, answered, strict=True) if isinstance(value, float)]
    return [record for _, record in sorted(placed, key=lambda pair: -sign * pair[0])]


def _read(records: Sequence[Record], task: Task, kept: Kept) -> Iterator[tuple[str, Raw]]:
    for record in records:
        content = kept(record.digest)
        if content is None:
            continue
        try:
            yield record.digest, task.from_bytes(content)
        except InputError:
            continue


def _example(
    record: Record,
    item: gallery.GalleryItem,
    comparison: Comparison | None,
    reference: Reference,
    subject: Subject,
) -> dict[str, Any]:
    label, probability = record.top[0]
    value = None if comparison is None else profile.row(record, reference.features).get(comparison.name)
    return {
        "item": item,
        "answer": subject.names.get(label, label),
        "probability": probability,
        "known": record.known,
        "time": time_text(record.time),
        "digest": record.digest[:12],
        "measured": None if comparison is None else comparison.name,
        "value": _number(value) if isinstance(value, float) else value,
    }
