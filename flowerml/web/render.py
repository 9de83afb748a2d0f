"""Answers as HTML. All that comes from a model or a person is escaped here, and only here."""

import base64
from collections.abc import Iterator
from html import escape

from flowerml.classifier.prediction import ClassProbability
from flowerml.serving.answer import Answer

MIN_STRENGTH = 0.08  # relative to the strongest word; weaker words are not marked
MAX_CHARACTERS = 10_000  # of a text that is shown


def waiting(hint: str) -> str:
    """Return what stands in the place of an answer before there is one."""
    return _frame(f'<p class="hint">{escape(hint)}</p>')


def demo(data: str) -> str:
    """Return the notice about a model that was trained on embedded data, such as drawn flowers."""
    return (
        f'<p class="demo"><b>A demonstration.</b> This model was trained on {escape(data)}: '
        "do not expect it to be right about real ones.</p>"
    )


def problem(message: str) -> str:
    """Return the reason why there is no answer."""
    sentence = message[:1].upper() + message[1:] + ("" if message.endswith((".", "!", "?")) else ".")
    return _frame(f'<div class="problem"><h3>No answer</h3><p>{escape(sentence)}</p></div>')


def answer(answer: Answer, *, poles: bool, seconds: float, unsure: float | None, note: str = "") -> str:
    """Return the verdict, the best classes, the explanation or a note about it, the model's name and the time.

    `poles`: two classes are the ends of one scale; `unsure`: see `Answer.is_unsure`.
    """
    ends = answer.poles() if poles else None
    parts = [
        _verdict(answer, sure=not answer.is_unsure(unsure)),
        _scale(*ends) if ends else _bars(answer),
        _heat_map(answer),
        _words(answer),
        f'<p class="note">{escape(note)}</p>' if note else "",
        _signature(answer, seconds),
    ]
    return _frame("".join(parts))


def percent(probability: float) -> str:
    """Return a percentage with one decimal; only 0 and 1 themselves are shown as 0 % and 100 %.

    >>> percent(0.1234), percent(0.0002)
    ('12.3 %', '&lt; 0.1 %')
    """
    text = f"{100 * probability:.1f}"
    if text == "0.0" and probability > 0:
        return "&lt; 0.1 %"
    return "&gt; 99.9 %" if text == "100.0" and probability < 1 else f"{text} %"


def _frame(content: str) -> str:
    return f'<div class="answer">{content}</div>'  # page.js reads it to screen readers, once


def _verdict(answer: Answer, *, sure: bool) -> str:
    best = answer.top[0]
    name, share = escape(best.name), percent(best.probability)
    if sure:
        return f'<h3 class="verdict">{name} <span class="share">{share}</span></h3>'
    reason = escape(f"{answer.reason[:1].upper()}{answer.reason[1:]}. ") if answer.reason else ""
    return (
        '<h3 class="verdict unsure">Not sure</h3>'
        f'<p class="guess">{reason}The best guess is <b>{name}</b>, with {share}.</p>'
    )


def _bars(answer: Answer) -> str:
    return f'<ol class="bars" aria-label="The most probable classes">{"".join(map(_bar, answer.top))}</ol>'


def _bar(candidate: ClassProbability) -> str:
    width = f"{100 * candidate.probability:.2f}%"
    return (
        f'<li><span class="name">{escape(candidate.name)}</span><span class="number">{percent(candidate.probability)}'
        f'</span><span class="track" aria-hidden="true"><span style="width: {width}"></span></span></li>'
    )


def _scale(left: ClassProbability, right: ClassProbability) -> str:
    """Return two classes as the ends of one line, with a mark between them."""
    position = f"{100 * right.probability:.2f}"
    name, share = escape(right.name), percent(right.probability)
    return (
        '<div class="scale"><div class="line" role="meter" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{position}" aria-label="{name}" aria-valuetext="{name} {share}">'
        f'<span class="mark" style="left: {position}%"></span></div>'
        f'<p class="ends">{_end(left, "left")}{_end(right, "right")}</p></div>'
    )


def _end(pole: ClassProbability, side: str) -> str:
    return (
        f'<span class="end {side}"><span class="name">{escape(pole.name)}</span> '
        f'<span class="number">{percent(pole.probability)}</span></span>'
    )


def _heat_map(answer: Answer) -> str:
    if not answer.heat_map:
        return ""
    name = escape(_explained_name(answer))
    source = f"data:image/png;base64,{base64.b64encode(answer.heat_map).decode()}"
    return (
        f'<figure class="heat"><img src="{source}" alt="Heat map: which parts of the picture spoke for {name}">'
        f"<figcaption>What spoke for <b>{name}</b>: the warmer, the more.</figcaption></figure>"
    )


def _words(answer: Answer) -> str:
    """Return the words in their order, each marked in the color of the class it speaks for."""
    if not answer.words:
        return ""
    highest = max(abs(weight) for _, weight in answer.words) or 1.0
    poles = answer.poles()
    explains_left = poles is not None and answer.explained_label == poles[0].label
    sign = -1 if explains_left else 1  # positive weights are marked for the right
    marked = "".join(_word(text, sign * weight / highest) for text, weight in _beginning(answer.words))
    left, right = (escape(pole.name) for pole in poles) if poles else ("", "")
    name = escape(_explained_name(answer))
    legend = (
        f'<span class="right">speaks for {right if poles else name}</span> '
        f'<span class="left">{f"speaks for {left}" if poles else f"speaks against {name}"}</span>'
    )
    is_cut = sum(len(text) for text, _ in answer.words) > MAX_CHARACTERS
    rest = '<p class="hint">The rest of the text is not shown.</p>' if is_cut else ""
    return f'<div class="words"><p class="legend">{legend}</p><p class="passage">{marked}</p>{rest}</div>'


def _beginning(words: tuple[tuple[str, float], ...]) -> Iterator[tuple[str, float]]:
    remaining = MAX_CHARACTERS
    for text, weight in words:
        yield text[:remaining], weight
        remaining -= len(text)
        if remaining <= 0:
            return


def _word(text: str, weight: float) -> str:
    side, strength = ("right" if weight > 0 else "left"), abs(weight)
    if strength < MIN_STRENGTH or not text.strip():
        return escape(text)
    return f'<span class="{side}" style="--strength: {strength:.2f}">{escape(text)}</span>'


def _explained_name(answer: Answer) -> str:
    """Return the name of the class that is explained."""
    label = answer.explained_label or ""
    return answer.names.get(label, label)


def _signature(answer: Answer, seconds: float) -> str:
    version = f"version {escape(answer.version)}" if answer.version else "loaded from a folder"
    duration = f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
    return f'<p class="signature">Answered by {escape(answer.model)}, {version}, in {duration}</p>'
