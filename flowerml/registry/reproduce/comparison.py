"""Comparing reproduced results with what was recorded of a version."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from flowerml.config.paths import Paths
from flowerml.core import files
from flowerml.registry.reproduce.recorded import Recorded
from flowerml.registry.reproduce.rerun import LAST_STAGE
from flowerml.tracking import lineage

# Trials differ in their durations; classifier and report record where the data were, so their contents are compared.
NOT_COMPARED = ("/trials.csv", "/classifier", "/report.html")


@dataclass(frozen=True)
class Comparison:
    """The outcome of a reproduction: `identical`, `within` (the stored intervals) or `different`.

    `stage` is the first one with a different output, `details` has a line for each difference.

    >>> print(Comparison("different", stage="train"))
    different, first at stage train
    """

    outcome: str
    stage: str | None = None
    details: tuple[str, ...] = field(default=())

    @property
    def reproduced(self) -> bool:
        """Return whether the outcome is as good as promised: identical or within the intervals."""
        return self.outcome != "different"

    def __str__(self) -> str:
        if self.outcome == "identical":
            return "identical: the same data, the same weights bit for bit, the same metrics"
        if self.outcome == "within":
            return f"within the stored intervals, but not identical; first different at stage {self.stage}"
        return f"different, first at stage {self.stage}"


def compare(recorded: Recorded, copy: Path) -> Comparison:
    """Return how the results in a copy compare with what was recorded of the version."""
    from flowerml.data.examples import Examples

    paths = Paths(recorded.pipeline, copy)
    facts = recorded.facts
    metrics = files.read_json(paths.reports / "metrics.json")
    changed = {name: value for name, value in facts["metrics"].items() if metrics.get(name) != value}
    same_data = Examples(paths.examples).digest() == facts["data_digest"]
    same_weights = lineage.weights_digest(paths.classifier) == facts["weights_digest"]
    if same_data and same_weights and not changed:
        return Comparison("identical")
    details = [f"{name} {_number(metrics.get(name))}, was {_number(value)}" for name, value in changed.items()]
    stage, outs = _first_difference(recorded, copy, same_data=same_data, same_weights=same_weights)
    within = same_data and all(_within(metrics.get(name), facts["intervals"].get(name)) for name in changed)
    return Comparison("within" if within else "different", stage, (*outs, *details))


def _first_difference(
    recorded: Recorded, copy: Path, *, same_data: bool, same_weights: bool
) -> tuple[str, tuple[str, ...]]:
    """Return the first stage for whose outputs DVC locked different digests, and these outputs."""
    before = recorded.facts["stages"]
    after = lineage.locked_stages(recorded.pipeline, before="export", lock=copy / lineage.LOCK)
    for name in lineage.STAGES[: lineage.STAGES.index("export")]:
        earlier, later = (locked.get(name, {}).get("outs", {}) for locked in (before, after))
        outs = [path for path in earlier if not path.endswith(NOT_COMPARED) and later.get(path) != earlier[path]]
        if name == "train" and not same_weights:
            outs.insert(0, "the weights")  # not the classifier's files, which record where the data were
        if outs:
            return name, tuple(f"{name}: {path}" for path in outs)
    return ("extract" if not same_data else "train" if not same_weights else LAST_STAGE), ()


def _within(value: float | None, limits: Mapping[str, float] | None) -> bool:
    return value is not None and limits is not None and limits["low"] <= value <= limits["high"]


def _number(value: float | None) -> str:
    return "missing" if value is None else f"{value:.6f}"
