"""Answers as HTML. Whatever comes from a model or from a person is escaped here, and nowhere else."""

import base64
from collections.abc import Iterator
from html import escape

from flowerml.classifier.classifier import ClassProbability
from flowerml.serving.answer import Answer

FAINT = 0.08  # of the strongest word; what is weaker is not marked
SHOWN = 10_000  # characters of a text


def waiting(hint: str) -> str:
    """What stands in the place of an answer before there is any."""
    return _frame(f'<p class="hint">{escape(hint)}</p>')


def problem(message: str) -> str:
    """Why there is no answer."""
    sentence = message[:1].upper() + message[1:] + ("" if message.endswith((".", "!", "?")) else ".")
    return _frame(f'<div class="problem" role="alert"><h3>No answer</h3><p>{escape(sentence)}</p></div>')


def answer(found: Answer, *, poles: bool, seconds: float, unsure: float | None, note: str = "") -> str:
    """The verdict, the best classes, what spoke for it (or a note of it), who said so, and how long it took."""
    ends = found.poles() if poles else None
    parts = [
        _verdict(found, sure=not found.is_unsure(unsure)),
        _scale(*ends) if ends else _bars(found),
        _heat_map(found),
        _words(found),
        f'<p class="note">{escape(note)}</p>' if note else "",
        _signature(found, seconds),
    ]
    return _frame("".join(parts))


def percent(probability: float) -> str:
    """One place behind the point; what is neither 0 nor 1 is not shown as such."""
    shown = f"{100 * probability:.1f}"
    if shown == "0.0" and probability > 0:
        return "&lt; 0.1 %"
    return "&gt; 99.9 %" if shown == "100.0" and probability < 1 else f"{shown} %"


def _frame(content: str) -> str:
    return f'<div class="answer" role="status" aria-live="polite">{content}</div>'


def _verdict(found: Answer, *, sure: bool) -> str:
    best = found.top[0]
    name, share = escape(best.name), percent(best.probability)
    if sure:
        return f'<h3 class="verdict">{name} <span class="share">{share}</span></h3>'
    return (
        f'<h3 class="verdict unsure">Not sure</h3><p class="guess">The best guess is <b>{name}</b>, with {share}.</p>'
    )


def _bars(found: Answer) -> str:
    return f'<ol class="bars" aria-label="The most probable classes">{"".join(map(_bar, found.top))}</ol>'


def _bar(candidate: ClassProbability) -> str:
    width = f"{100 * candidate.probability:.2f}%"
    return (
        f'<li><span class="name">{escape(candidate.name)}</span><span class="number">{percent(candidate.probability)}'
        f'</span><span class="track" aria-hidden="true"><span style="width: {width}"></span></span></li>'
    )


def _scale(left: ClassProbability, right: ClassProbability) -> str:
    """Two classes as the ends of one line, with a mark between them."""
    at = f"{100 * right.probability:.2f}"
    return (
        f'<div class="scale"><div class="line" role="meter" aria-valuemin="0" aria-valuemax="100" aria-valuenow="{at}" '
        f'aria-label="{escape(right.name)}" aria-valuetext="{escape(right.name)} {percent(right.probability)}">'
        f'<span class="mark" style="left: {at}%"></span></div>'
        f'<p class="ends">{_end(left, "left")}{_end(right, "right")}</p></div>'
    )


def _end(pole: ClassProbability, side: str) -> str:
    return (
        f'<span class="end {side}"><span class="name">{escape(pole.name)}</span> '
        f'<span class="number">{percent(pole.probability)}</span></span>'
    )


def _heat_map(found: Answer) -> str:
    if not found.heat_map:
        return ""
    name = escape(_explained(found))
    source = f"data:image/png;base64,{base64.b64encode(found.heat_map).decode()}"
    return (
        f'<figure class="heat"><img src="{source}" alt="Heat map: which parts of the picture spoke for {name}">'
        f"<figcaption>What spoke for <b>{name}</b>: the warmer, the more.</figcaption></figure>"
    )


def _words(found: Answer) -> str:
    """The words in their order, each on the colour of the class it speaks for."""
    if not found.words:
        return ""
    most = max(abs(weight) for _, weight in found.words) or 1.0
    poles = found.poles()
    turned = poles is not None and found.explained == poles[0].label  # then what speaks for it speaks for the left
    marked = "".join(_word(text, (-weight if turned else weight) / most) for text, weight in _beginning(found.words))
    left, right = (escape(pole.name) for pole in poles) if poles else ("", "")
    name = escape(_explained(found))
    legend = (
        f'<span class="right">speaks for {right if poles else name}</span> '
        f'<span class="left">{f"speaks for {left}" if poles else f"speaks against {name}"}</span>'
    )
    long = sum(len(text) for text, _ in found.words) > SHOWN
    more = '<p class="hint">The rest of the text is not shown.</p>' if long else ""
    return f'<div class="words"><p class="legend">{legend}</p><p class="passage">{marked}</p>{more}</div>'


def _beginning(words: tuple[tuple[str, float], ...]) -> Iterator[tuple[str, float]]:
    left = SHOWN
    for text, weight in words:
        yield text[:left], weight
        left -= len(text)
        if left <= 0:
            return


def _word(text: str, weight: float) -> str:
    side, strength = ("right" if weight > 0 else "left"), abs(weight)
    if strength < FAINT or not text.strip():
        return escape(text)
    return f'<span class="{side}" style="--strength: {strength:.2f}">{escape(text)}</span>'


def _explained(found: Answer) -> str:
    """The name of the class that the explanation is of."""
    return next((one.name for one in found.top if one.label == found.explained), found.explained or "")


def _signature(found: Answer, seconds: float) -> str:
    version = f"version {escape(found.version)}" if found.version else "loaded from a folder"
    took = f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
    return f'<p class="signature">Answered by {escape(found.model)}, {version}, in {took}</p>'
