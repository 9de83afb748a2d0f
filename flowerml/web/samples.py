"""Inputs to try, drawn and composed by the project itself, and none that a model was trained on."""

import base64
from dataclasses import dataclass
from html import escape
from pathlib import Path
from random import Random

SEED = 2026  # of no training data
SPECIES = ("sunflower", "tulip", "poppy", "daisy", "bluebell")
CANDIDATES = 40


@dataclass(frozen=True)
class Sample:
    """One input, as the page's input field takes it (the path of a picture, or a text), and how it is offered."""

    value: str
    offer: str


def pictures(folder: Path) -> list[Sample]:
    """Drawn flowers, written to the folder. They are not named: what they show is for the model to say."""
    from flowerml.tasks.image.sample import jpeg

    found = []
    for number, species in enumerate(SPECIES, start=1):
        path = folder / f"sample_{number}.jpg"
        path.write_bytes(drawn := jpeg(species, number, SEED))
        source = f"data:image/jpeg;base64,{base64.b64encode(drawn).decode()}"
        found.append(Sample(str(path), f'<img src="{source}" alt="Drawn flower {number}">'))
    return found


def reviews() -> list[Sample]:
    """Short reviews of invented films, two of each mood, in turns."""
    from flowerml.tasks.text.sample import compose

    found: dict[str, list[str]] = {}
    for mood in ("pos", "neg"):
        composed = [compose(mood, rng=Random(f"{SEED}/{mood}/{index}")) for index in range(CANDIDATES)]
        found[mood] = sorted((text for text in composed if "<" not in text), key=len)[:2]
    turns = [text for pair in zip(*found.values(), strict=True) for text in pair]
    return [Sample(text, f"<span>{escape(text)}</span>") for text in turns]


def as_html(samples: list[Sample], *, kind: str) -> str:
    """A row of buttons; a click on one is told with its index."""
    buttons = "".join(
        f'<li><button type="button" data-index="{index}">{sample.offer}</button></li>'
        for index, sample in enumerate(samples)
    )
    return f'<p class="hint">Or try one of these:</p><ul class="samples {kind}">{buttons}</ul>'
