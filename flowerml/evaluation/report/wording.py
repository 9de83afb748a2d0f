"""Metrics as people read them: their titles, formats and meanings."""

import math

from flowerml.classifier.calibration import Calibration
from flowerml.evaluation.intervals import Interval
from flowerml.evaluation.reliability import BINS

PER_CENT = "\N{NO-BREAK SPACE}%"

TITLES = {
    "macro_f1": "Macro F1",
    "roc_auc": "ROC AUC",
    "ece": "Calibration error (ECE)",
    "ece_uncalibrated": "ECE before calibration",
    "known_share": "Coverage",
    "known_accuracy": "Selective accuracy",
}


def percent(value: float, places: int = 1) -> str:
    """Return a share in per cent; only exactly 0 and 1 are shown as 0 % and 100 %.

    >>> [percent(value).replace(PER_CENT, " %") for value in (0.123, 0.00001, 0.99999, 1)]
    ['12.3 %', 'below 0.1 %', 'above 99.9 %', '100.0 %']
    """
    if math.isnan(value):
        return "–"
    text = f"{100 * value:.{places}f}"
    smallest = 10**-places
    if float(text) == 0 and value > 0:
        return f"below {smallest:g}{PER_CENT}"
    if float(text) == 100 and value < 1:
        return f"above {100 - smallest:.{places}f}{PER_CENT}"
    return f"{text}{PER_CENT}"


def is_share(name: str) -> bool:
    """Return whether a metric is a share of examples, shown in per cent."""
    return name in ("accuracy", "known_share", "known_accuracy") or name.startswith("top_")


def number(name: str, value: float) -> str:
    """Return the value of a metric as it is shown."""
    return percent(value) if is_share(name) else f"{value:.3f}"


def limits(name: str, interval: Interval) -> str:
    """Return the limits of a metric as they are shown."""
    if is_share(name):
        return f"{100 * interval.low:.1f} to {percent(interval.high)}"
    return f"{interval.low:.3f} to {interval.high:.3f}"


def title(name: str) -> str:
    """Return the title of a metric."""
    if name.startswith("top_"):
        return f"Top-{name.split('_')[1]} accuracy"
    return TITLES.get(name, name.replace("_", " ").capitalize())


def meaning(name: str, *, classes: list[str], calibration: Calibration | None) -> str:
    """Return what a metric means, in one sentence."""
    if name.startswith("top_"):
        return f"Share of examples whose correct class is among the {name.split('_')[1]} most probable."
    guessing = math.log(len(classes))
    scaling, answered = "temperature scaling", "where it is confident"
    if calibration is not None:  # a served classifier does not send it
        scaling += f" (temperature {calibration.temperature:.3g})"
        answered = f"with a confidence of at least {percent(calibration.known_above)}"
        answered += "" if calibration.strange_above is None else ", on inputs like the training examples"
    return {
        "accuracy": "Share of examples that were classified correctly.",
        "loss": f"Cross-entropy: mean −log of the correct class’s probability. 0 is perfect, chance is {guessing:.2f}.",
        "macro_f1": "F1 (harmonic mean of precision and recall), averaged over classes, whether rare or common.",
        "roc_auc": f"Probability that an example of {classes[-1]} is scored above one of {classes[0]}. Chance is 0.5.",
        "ece": f"Expected calibration error: mean gap between confidence and accuracy, over {BINS} bins.",
        "ece_uncalibrated": f"The expected calibration error without {scaling}.",
        "known_share": f"Share of examples that the classifier answers, {answered}. It abstains on the rest.",
        "known_accuracy": "Accuracy on the examples where the classifier does not abstain.",
    }.get(name, "")
