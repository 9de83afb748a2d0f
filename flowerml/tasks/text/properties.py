"""Properties that may make a text hard to classify, for slices of the evaluation."""

import re

from flowerml.tasks.text.preview import TAG

_WORD = re.compile(r"\w+(?:['’]\w+)*")
_NEGATION = re.compile(r"\b(?:not?|nor|never|none|nothing|nobody|neither|nowhere|cannot|\w+n['’]t)\b", re.IGNORECASE)


def properties(raw: str) -> dict[str, float | str]:
    """Return the number of words, whether and how often the text negates (not, no, n't, never, …), and its capitals.

    >>> properties("Not a good film.")
    {'words': 4.0, 'negation': 'yes', 'negations in 100 words': 25.0, 'capitals in 100 letters': 8.333333333333334}
    """
    text = TAG.sub(" ", raw)
    words = sum(1 for _ in _WORD.finditer(text))
    negations = sum(1 for _ in _NEGATION.finditer(text))
    letters = sum(map(str.isalpha, text))
    capitals = sum(map(str.isupper, text))
    return {
        "words": float(words),
        "negation": "yes" if negations else "no",
        "negations in 100 words": 100 * negations / max(words, 1),
        "capitals in 100 letters": 100 * capitals / max(letters, 1),
    }
