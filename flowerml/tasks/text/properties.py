"""What may make a text harder than others, in numbers and words."""

import re

from flowerml.tasks.text.preview import TAG

_WORD = re.compile(r"\w+(?:['’]\w+)*")
_NEGATION = re.compile(r"\b(?:not?|nor|never|none|nothing|nobody|neither|nowhere|cannot|\w+n['’]t)\b", re.IGNORECASE)


def properties(raw: str) -> dict[str, float | str]:
    """How many words a text has, whether it negates (not, no, n't, never, …), and how often."""
    text = TAG.sub(" ", raw)
    words = sum(1 for _ in _WORD.finditer(text))
    negations = sum(1 for _ in _NEGATION.finditer(text))
    return {
        "words": float(words),
        "negation": "yes" if negations else "no",
        "negations in 100 words": 100 * negations / max(words, 1),
    }
