"""The model card: what a classifier is, what it was trained on, how good it is, and how to use it.

After Mitchell et al. (2019), "Model Cards for Model Reporting".
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from flowerml.classifier.saved import EXAMPLES
from flowerml.core import files
from flowerml.core.urls import without_secrets
from flowerml.data import download
from flowerml.evaluation.intervals import OF_REPEATS
from flowerml.registry.card import licences
from flowerml.registry.card.examples import examples
from flowerml.registry.card.markdown import escaped, fenced
from flowerml.tasks.registry import TASKS

if TYPE_CHECKING:
    import pandas as pd

    from flowerml.classifier.classifier import Classifier
    from flowerml.data.examples import Examples

FILE = "model_card.md"
TEMPLATE = Path(__file__).with_name("model_card.md.j2")
MAX_DESCRIPTION = 4900  # characters: a version's description in MLflow's tables has 5,000, and a title goes above it
SHORTENED = f"\n\nThe full card is `{FILE}` among the model's files.\n"
NAMED_CLASSES = 12
WEAKEST = 5


@dataclass(frozen=True)
class Facts:
    """What the card says of a registered version.

    `saved` is the description in the classifier's folder. `metrics`, `intervals` ({name: {"low", "high"}}), `weakest`
    and `slices` come from its evaluation, and are empty where its report lacks them; `search` has the scores of its
    search. `tags` are its lineage. `address` is what programs load it by. Without a `version` it is the card of a copy
    in a folder.
    """

    name: str
    version: str | None
    address: str
    saved: Mapping[str, Any]
    source: str | None
    counts: Mapping[str, int]
    smallest: int | None
    digest: str | None
    metrics: Mapping[str, float]
    confidence: float | None
    intervals: Mapping[str, Mapping[str, float]]
    weakest: tuple[Mapping[str, Any], ...]
    slices: tuple[Mapping[str, Any], ...]
    tags: Mapping[str, str]
    search: Mapping[str, float] = field(default_factory=dict)


def facts(
    classifier: "Classifier",
    examples: "Examples | None",
    *,
    source: str | None,
    reports: Path | None,
    name: str,
    version: str,
    tags: Mapping[str, str],
) -> Facts:
    """Return the facts of a classifier, from its files, its examples and its reports, if these exist."""
    bootstrap = _json(reports, "intervals.json")
    class_counts = Counter(key.label for key in examples.keys("train")) if examples else Counter()
    slices = _rows(reports, "slices.csv", lambda table: table[table["worse"]])
    weakest = _rows(reports, "per_class.csv", lambda table: table[table["support"] > 0].sort_values("recall"))
    return Facts(
        name=name,
        version=version,
        address=f"models:/{name}/{version}",
        saved=classifier.description,
        source=source,
        counts={split: examples.count(split) for split in ("train", "valid", "test")} if examples else {},
        smallest=min(class_counts.values(), default=None),
        digest=tags.get("data_digest"),
        metrics=_json(reports, "metrics.json"),
        confidence=bootstrap.get("confidence"),
        intervals=bootstrap.get("intervals", {}),
        weakest=weakest[:WEAKEST] if len(classifier.classes) > 2 else (),
        slices=slices[:WEAKEST],
        tags=tags,
        search=_json(reports, "search.json"),
    )


def full(facts: Facts) -> str:
    """Return the card in Markdown. Class names, which may come from anywhere, are escaped: never markup."""
    parameters = {
        name: value
        for name, value in facts.saved["parameters"].items()
        if name.startswith(("encode.", "train.")) and value is not None
    }
    return _rendered(facts, parameters)


def short(facts: Facts) -> str:
    """Return the card without the parameters, cut to the size of a description."""
    text = _rendered(facts, {})
    if len(text) <= MAX_DESCRIPTION:
        return text
    kept = text[: MAX_DESCRIPTION - len(SHORTENED)].rpartition("\n## ")[0]
    return kept.rstrip() + SHORTENED


def of_model(facts: Facts) -> str:
    """Return the description of a registered model, in Markdown: what all of its versions have in common."""
    task, classes = TASKS[facts.saved["task"]], facts.saved["classes"]
    names = _preview([facts.saved["names"].get(label, label) for label in classes])
    return (
        f"Classifiers of {task.NOUN}s into {len(classes)} classes: {names}. Each version has a model card in its "
        "description; the gate gives the alias to a version that is no worse than the one that has it."
    )


def describe_network(saved: Mapping[str, Any]) -> str:
    """Return what a classifier is made of, in a few words; `saved` is its description."""
    return TASKS[saved["task"]].describe_network(saved["encoder"], saved["parameters"])


def _rendered(facts: Facts, parameters: Mapping[str, Any]) -> str:
    from jinja2 import Environment, StrictUndefined

    # Markdown, so Jinja's escaping, which is HTML's, is off; the filter `md` escapes every value from outside.
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False)
    environment.filters |= {"md": escaped, "fenced": fenced, "number": lambda count: f"{count:,}"}
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    task = TASKS[facts.saved["task"]]
    text = template.render(
        facts=facts,
        source=_public_source(facts.source),
        classes=[facts.saved["names"].get(label, label) for label in facts.saved["classes"]],
        inputs=f"{task.NOUN}s",
        preview=_preview,
        network=escaped(describe_network(facts.saved)),
        metrics={name: value for name, value in facts.metrics.items() if name not in OF_REPEATS},
        combination=_combination(facts),
        travelling=EXAMPLES in facts.saved.get("digests", {}),
        refit=_refit(facts, f"{task.NOUN}s"),
        repeats=_repeats(facts),
        bound=lambda metric, end: _bound(facts, metric, end),
        calibration=_calibration(facts),
        limits=task.limitations(facts.saved["parameters"]),
        licences=_licences(facts),
        origin=_origin(facts),
        parameters=parameters,
        use=examples(task, facts.address),
    )
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def _combination(facts: Facts) -> str:
    """Return how several networks answer together, with gain and cost; nothing for a single one."""
    ensemble = facts.saved["trained"].get("ensemble")
    if not ensemble:
        return ""
    count = len(ensemble["members"])
    text = f"{count} trained networks answer together, by the weighted mean of their probabilities"
    if ensemble["by"] == "soup":
        text = f"Its weights are the mean of those of {count} trained networks"
    search = facts.search
    if "ensemble_megabytes" not in search:
        return f"{text}."
    return (
        f"{text}: {search['ensemble_valid_accuracy']:.4f} of the validation examples are classified correctly, by the "
        f"best one alone {search['alone_valid_accuracy']:.4f} (the choice was made on these). The graph has "
        f"{search['ensemble_megabytes']:.1f} MB, with the best one alone {search['alone_megabytes']:.1f} MB."
    )


def _refit(facts: Facts, inputs: str) -> str:
    """Return how a network was trained on valid, too; nothing where it was not."""
    if not facts.saved["trained"].get("refit"):
        return ""
    return (
        f"The network was trained once more on the {inputs} for training and for validation together. Its parameters "
        "were chosen, and its probabilities calibrated, with the network before that, which had not seen the latter."
    )


def _repeats(facts: Facts) -> str:
    """Return mean and spread of repeated trainings; nothing where there was one."""
    if not set(OF_REPEATS) <= set(facts.metrics):
        return ""
    mean, spread, count = (facts.metrics[name] for name in OF_REPEATS)
    return (
        f"Trained {count:.0f} times with different seeds, this recipe has a mean accuracy of {mean:.4f} on the test, "
        f"with a standard deviation of {spread:.4f}. The metrics above are those of this version."
    )


def _calibration(facts: Facts) -> str:
    calibration = facts.saved.get("calibration")
    if not calibration:
        return "They were not calibrated: of answers with a probability of 0.9, more or fewer than 90 % may be correct."
    temperature, threshold, acceptance = (calibration[key] for key in ("temperature", "known_above", "acceptance"))
    text = f"They were calibrated on the validation examples (temperature {temperature:.4g})"
    if {"ece", "ece_uncalibrated"} <= set(facts.metrics):
        before, after = facts.metrics["ece_uncalibrated"], facts.metrics["ece"]
        text += f"; the expected calibration error on test is {after:.4f}, and was {before:.4f} before"
    detects = calibration.get("strange_above") is not None
    if threshold <= 0 and not detects:
        return f"{text}. The classifier never abstains: every answer says `known: true`."
    unlike = ", or the input is unlike the training examples (`out_of_distribution` above 0.5)" if detects else ""
    return (
        f"{text}. Where the highest probability is below {threshold:.4f}{unlike}, the classifier abstains "
        f"(`known: false`); this was chosen to accept {100 * acceptance:.0f} % of the validation examples. It does "
        "not detect every input that belongs to no class."
    )


def _licences(facts: Facts) -> list[str]:
    backbone = facts.saved["encoder"].get("backbone")
    if isinstance(backbone, dict):  # with its own facts, as that of a text encoder
        of_weights = licences.of_encoder(backbone["name"], backbone["licence"])
    else:
        weights = facts.saved["parameters"].get("encode.weights")
        names = backbone if isinstance(backbone, list) else [backbone]
        of_weights = "; ".join(licences.of_weights(name, weights, shown=escaped(name)) for name in names)
    of_data = licences.of_data(facts.source, facts.saved["task"]) if facts.source else "not recorded"
    return [f"Data: {of_data}.", f"Weights: {of_weights}."]


def _origin(facts: Facts) -> str:
    """Return commit, threads and versions; the copy in a project has the same bytes at any commit, so it names none."""
    tags, commit = facts.tags, facts.tags.get("git_commit")
    changed = " with uncommitted changes" if tags.get("git_dirty") == "true" else ""
    code = f"Commit `{commit}`{changed}" if commit else "No git repository"
    if facts.version is None:
        code = "Commit: see the registered version"
    versions = [
        f"{name.removeprefix('version.')} {value}" for name, value in tags.items() if name.startswith("version.")
    ]
    return f"{code}; threads: {tags.get('threads', 'unknown')}; {escaped(', '.join(versions))}."


def _public_source(source: str | None) -> str:
    """Return a source as a card may show it: an address without secrets, of a path only the last part."""
    if source is None:
        return "not recorded"
    if source in licences.PUBLISHED or source == "sample" or download.is_url(source):
        return without_secrets(source)
    return PurePath(source).name or source


def _bound(facts: Facts, metric: str, end: str) -> str:
    bound = facts.intervals.get(metric, {}).get(end)
    return "" if bound is None else f"{bound:.4f}"


def _preview(names: list[str]) -> str:
    more = f" and {len(names) - NAMED_CLASSES:,} more" if len(names) > NAMED_CLASSES else ""
    return ", ".join(escaped(name) for name in names[:NAMED_CLASSES]) + more


def _json(reports: Path | None, name: str) -> dict[str, Any]:
    """Return a report's file; empty where the report lacks it."""
    if reports is None or not (reports / name).is_file():
        return {}
    content: dict[str, Any] = files.read_json(reports / name)
    return content


def _rows(
    reports: Path | None, name: str, select: "Callable[[pd.DataFrame], pd.DataFrame]"
) -> tuple[dict[str, Any], ...]:
    """Return the rows of a report's table that `select` keeps; none where the report lacks the table."""
    if reports is None or not (reports / name).is_file():
        return ()
    import pandas as pd

    texts = {"label": str, "name": str, "property": str, "slice": str}
    # A class may be called NA or nan, so only an empty cell of these columns is a missing number.
    numbers = {name: [""] for name in ("accuracy", "low", "high", "rest", "p")}
    table = select(pd.read_csv(reports / name, dtype=texts, keep_default_na=False, na_values=numbers))
    return tuple({str(name): value for name, value in row.items()} for row in table.to_dict("records"))
