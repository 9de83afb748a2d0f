"""Numbers as people read them, and what each means in one sentence."""

import math

from flowerml.classifier.calibration import Calibration
from flowerml.evaluation.intervals import Interval

PER_CENT = "\N{NO-BREAK SPACE}%"


def percent(value: float, places: int = 1) -> str:
    """A share; what is neither none nor all is not shown as such."""
    if math.isnan(value):
        return "–"
    text = f"{100 * value:.{places}f}"
    smallest = 10**-places
    if float(text) == 0 and value > 0:
        return f"below {smallest:g}{PER_CENT}"
    whole = float(text) == 100 and value < 1
    return f"above {100 - smallest:.{places}f}{PER_CENT}" if whole else f"{text}{PER_CENT}"


def is_share(name: str) -> bool:
    """Whether a number is a share of examples, and shown in per cent."""
    return name in ("accuracy", "known_share", "known_accuracy") or name.startswith("top_")


def number(name: str, value: float) -> str:
    """A headline number."""
    return percent(value) if is_share(name) else f"{value:.3f}"


def limits(name: str, one: Interval) -> str:
    """From where to where the truth lies."""
    if is_share(name):
        return f"{100 * one.low:.1f} to {percent(one.high)}"
    return f"{one.low:.3f} to {one.high:.3f}"


def title(name: str) -> str:
    """The name of a number."""
    known = {
        **{"macro_f1": "Macro F1", "roc_auc": "ROC AUC", "ece": "Calibration error", "loss": "Loss"},
        **{"ece_uncalibrated": "Calibration error before", "known_share": "Known", "known_accuracy": "Right if known"},
    }
    if name.startswith("top_"):
        return f"Top-{name.split('_')[1]} accuracy"
    return known.get(name, name.replace("_", " ").capitalize())


def meaning(name: str, *, classes: list[str], calibration: Calibration | None) -> str:
    """What a number means."""
    if name.startswith("top_"):
        return f"Examples whose right class is among the {name.split('_')[1]} most probable."
    guess = math.log(len(classes))
    own = calibration or Calibration()
    return {
        "accuracy": "Answers that are right.",
        "loss": f"Mean −log of the right class’s probability: 0 is perfect, even guessing has {guess:.2f}.",
        "macro_f1": "F1 (precision and recall in one) averaged over classes, so that rare ones count as much.",
        "roc_auc": f"How often an example of {classes[-1]} is scored above one of {classes[0]}: 0.5 is guessing.",
        "ece": "How far the stated probabilities are from the share that is right, on average.",
        "ece_uncalibrated": f"The same of the network’s own, before the temperature of {own.temperature:g}.",
        "known_share": f"Answers with a probability of {percent(own.known_above)} and more; the others are “unknown”.",
        "known_accuracy": "Answers that are right, of those that are known.",
    }.get(name, "")
