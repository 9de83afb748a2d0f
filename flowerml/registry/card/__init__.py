"""The model card: what a classifier is, how good, for what, and how to use it, told from what is known of it.

After Mitchell et al. (2019), "Model Cards for Model Reporting".
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from flowerml.core import files
from flowerml.core.urls import without_secrets
from flowerml.data import download
from flowerml.registry.card import licences
from flowerml.registry.card.examples import examples
from flowerml.registry.card.markdown import escaped, fenced
from flowerml.tasks.registry import TASKS

if TYPE_CHECKING:
    from flowerml.classifier.classifier import Classifier
    from flowerml.data.examples import Examples

FILE = "model_card.md"
TEMPLATE = Path(__file__).with_name("model_card.md.j2")
LONGEST_DESCRIPTION = 5000  # characters: what MLflow's tables keep of a version's description
SHORTENED = f"\n\nThe whole card is `{FILE}` among the model's files.\n"
FEW = 12  # classes that are named
WEAKEST = 5


@dataclass(frozen=True)
class Facts:
    """What is known of a registered version.

    `saved` is what the classifier tells of itself; metrics, intervals ({name: {"low", "high"}}), `weakest` and
    `slices` are from its evaluation, and empty where that did not tell them; `tags` are those of its lineage.
    """

    name: str
    version: str
    saved: Mapping[str, Any]
    source: str
    counts: Mapping[str, int]
    smallest: int | None
    digest: str
    metrics: Mapping[str, float]
    confidence: float | None
    intervals: Mapping[str, Mapping[str, float]]
    weakest: tuple[Mapping[str, Any], ...]
    slices: tuple[Mapping[str, Any], ...]
    tags: Mapping[str, str]


def facts(
    classifier: "Classifier",
    examples: "Examples",
    *,
    source: str,
    reports: Path,
    name: str,
    version: str,
    tags: Mapping[str, str],
) -> Facts:
    """What is known of a pipeline's classifier, from its files and its reports."""
    limits = files.read_json(reports / "intervals.json") if (reports / "intervals.json").is_file() else {}
    labels = Counter(key.label for key in examples.keys("train"))
    worse = _rows(reports / "slices.csv", lambda table: table[table["worse"]])
    weakest = _rows(reports / "per_class.csv", lambda table: table[table["support"] > 0].sort_values("recall"))
    return Facts(
        name=name,
        version=version,
        saved=classifier.description,
        source=source,
        counts={split: examples.count(split) for split in ("train", "valid", "test")},
        smallest=min(labels.values(), default=None),
        digest=tags["data_digest"],
        metrics=files.read_json(reports / "metrics.json"),
        confidence=limits.get("confidence"),
        intervals=limits.get("intervals", {}),
        weakest=weakest[:WEAKEST] if len(classifier.classes) > 2 else (),
        slices=worse[:WEAKEST],
        tags=tags,
    )


def whole(known: Facts) -> str:
    """The card in Markdown. Names of classes, which may come from anywhere, are shown as they are, never as markup."""
    parameters = {
        name: value
        for name, value in known.saved["parameters"].items()
        if name.startswith(("encode.", "train.")) and value is not None
    }
    return _rendered(known, parameters)


def short(known: Facts) -> str:
    """The same without the parameters, cut to what a description may hold."""
    text = _rendered(known, {})
    if len(text) <= LONGEST_DESCRIPTION:
        return text
    kept = text[: LONGEST_DESCRIPTION - len(SHORTENED)].rpartition("\n## ")[0]
    return kept.rstrip() + SHORTENED


def describe_network(saved: Mapping[str, Any]) -> str:
    """Return what a classifier is made of, in a few words; `saved` is its description."""
    return TASKS[saved["task"]].describe_network(saved["encoder"], saved["parameters"])


def _rendered(known: Facts, parameters: Mapping[str, Any]) -> str:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False)
    environment.filters |= {"md": escaped, "fenced": fenced, "number": lambda count: f"{count:,}"}
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    saved, kind = known.saved, known.saved["task"]
    task = TASKS[kind]
    text = template.render(
        **{name: getattr(known, name) for name in Facts.__dataclass_fields__ if name != "source"},
        source=_source(known.source),
        classes=[saved["names"].get(label, label) for label in saved["classes"]],
        things=f"{task.NOUN}s",
        few=_few,
        made_of=f"It is made of: {escaped(describe_network(saved))}.",
        limit=lambda measure, end: _limit(known, measure, end),
        calibration=_calibration(known),
        limits=task.limitations(saved["parameters"]),
        licences=_licences(known),
        origin=_origin(known.tags),
        parameters=parameters,
        use=examples(task, known.name, known.version),
    )
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def _calibration(known: Facts) -> str:
    found = known.saved.get("calibration")
    if not found:
        return "They were not calibrated, so a probability of 0.9 need not be right nine times of ten."
    temperature, above, acceptance = (found[name] for name in ("temperature", "known_above", "acceptance"))
    told = f"They were calibrated on the validation examples (temperature {temperature:.4g})"
    if {"ece", "ece_uncalibrated"} <= set(known.metrics):
        before, after = known.metrics["ece_uncalibrated"], known.metrics["ece"]
        told += f"; the expected calibration error on test is {after:.4f}, and was {before:.4f} before"
    if above <= 0:
        return f"{told}. Every answer counts as known."
    return (
        f"{told}. An answer whose best probability is below {above:.4f} says `known: false`: of the validation "
        f"examples {100 * acceptance:.0f} % are above it. That does not find everything that belongs to no class."
    )


def _licences(known: Facts) -> list[str]:
    backbone = known.saved["encoder"].get("backbone")
    weights = known.saved["parameters"].get("encode.weights")
    return [
        f"Data: {licences.of_data(known.source, known.saved['task'])}.",
        f"Weights: {licences.of_weights(backbone, weights, shown=escaped(backbone))}.",
    ]


def _origin(tags: Mapping[str, str]) -> str:
    commit = tags.get("git_commit")
    changed = " with changes that were not committed" if tags.get("git_dirty") == "true" else ""
    made = f"Commit `{commit}`{changed}" if commit else "No git repository"
    versions = [
        f"{name.removeprefix('version.')} {value}" for name, value in tags.items() if name.startswith("version.")
    ]
    return f"{made}; threads: {tags.get('threads', 'unknown')}; {escaped(', '.join(versions))}."


def _source(source: str) -> str:
    """A source as a card may show it: of a path only its last part, which says nothing of whose it is."""
    if source in licences.PUBLISHED or source == "sample" or download.is_url(source):
        return without_secrets(source)
    return PurePath(source).name or source


def _limit(known: Facts, measure: str, end: str) -> str:
    found = known.intervals.get(measure, {}).get(end)
    return "" if found is None else f"{found:.4f}"


def _few(names: list[str]) -> str:
    more = f" and {len(names) - FEW:,} more" if len(names) > FEW else ""
    return ", ".join(escaped(name) for name in names[:FEW]) + more


def _rows(path: Path, chosen: Any) -> tuple[dict[str, Any], ...]:
    """The rows of a report's table that `chosen` keeps; none where there is no such report."""
    if not path.is_file():
        return ()
    import pandas as pd

    texts = {"label": str, "name": str, "property": str, "slice": str}
    # A class may be called NA, or nan: only in these columns is nothing a number.
    numbers = {name: [""] for name in ("accuracy", "low", "high", "rest", "p")}
    table = chosen(pd.read_csv(path, dtype=texts, keep_default_na=False, na_values=numbers))
    return tuple({str(name): value for name, value in row.items()} for row in table.to_dict("records"))
