"""Presets: parameters that are chosen from the data, the time there is and this machine, in one word."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from flowerml.config.dotted import set_by_dotted_name
from flowerml.config.pipeline import Pipeline
from flowerml.core import files
from flowerml.data.examples import Examples, Raw
from flowerml.tasks.pipelines import checked_pipeline
from flowerml.tasks.records import Choice, Situation
from flowerml.tasks.registry import task_of

NAMES = ("fast", "balanced", "best")
FILE = "preset.json"
GIVEN = "given"
SAMPLE = 100  # training examples that a preset looks at
CHOSEN = ("encode.", "train.")


@dataclass(frozen=True)
class Preset:
    """A preset that a user wants, in so many minutes; `given` are the user's parameters, which win."""

    name: str
    given: Mapping[str, Any]
    minutes: float | None = None


def apply(pipeline: Pipeline, preset: Preset) -> tuple[Pipeline, list[Choice]]:
    """Return an extracted pipeline with the parameters of a preset, and these with their reasons.

    Raises ParamsError. The same preset on the same data gives the same parameters, also where they depend on how fast
    this machine was: an interrupted training resumes.
    """
    examples = Examples(pipeline.paths.examples)
    counts = {split: examples.count(split) for split in ("train", "valid", "test")}
    facts = {**asdict(preset), "counts": counts, "data": examples.digest()}
    path = pipeline.paths.examples.with_name(FILE)
    choices = _remembered(path, facts)
    if choices is None:
        situation = Situation(counts, preset.given, preset.minutes, _sample(examples))
        choices = task_of(pipeline).preset(preset.name, situation)
        files.write_json(path, {"facts": facts, "choices": [asdict(choice) for choice in choices]})
    sections = pipeline.sections()
    set_by_dotted_name(sections, {choice.name: choice.value for choice in choices})
    set_by_dotted_name(sections, {name: value for name, value in preset.given.items() if name.startswith(CHOSEN)})
    space = sections["train"]["search"]["space"]
    for name in preset.given.keys() - {"train.seed"}:  # which networks of an ensemble count on from
        space.pop(name.removeprefix("train."), None)  # a value given by the user is not searched
    changed = checked_pipeline(
        pipeline.name, pipeline.kind, sections, path=Path(f"preset {preset.name}"), root=pipeline.root
    )
    shown = [
        replace(choice, value=preset.given[choice.name], reason=GIVEN) if choice.name in preset.given else choice
        for choice in choices
    ]
    return replace(pipeline, encode=changed.encode, train=changed.train), shown


def _sample(examples: Examples) -> list[Raw]:
    """Return the raw inputs of at most SAMPLE training examples, evenly spaced."""
    keys = list(examples.keys("train"))
    wanted = {key.id for key in keys[:: max(1, len(keys) // SAMPLE)]}
    return [example.raw for example in examples.of("train", where=lambda key: key.id in wanted)]


def _remembered(path: Path, facts: Mapping[str, Any]) -> list[Choice] | None:
    """Return what was chosen before under the same facts; None if there is no such choice."""
    try:
        value = files.read_json(path)
        if value["facts"] == json.loads(json.dumps(facts)):
            return [Choice(**choice) for choice in value["choices"]]
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def described(preset: Preset, choices: Iterable[Choice]) -> str:
    """Return the parameters as YAML, as params.yaml may have them, each with its reason.

    >>> print(described(Preset("fast", {}), [Choice("train.search.trials", 1, "no search")]))
    preset fast, as parameters:
      train:
        search:
          trials: 1   # no search
    """
    within = f" in {preset.minutes:g} minutes" if preset.minutes is not None else ""
    lines = [f"preset {preset.name}{within}, as parameters:"]
    sections: list[str] = []
    for choice in choices:
        *parents, last = choice.name.split(".")
        common = 0
        while common < min(len(parents), len(sections)) and parents[common] == sections[common]:
            common += 1
        lines += [f"{'  ' * (level + 1)}{parents[level]}:" for level in range(common, len(parents))]
        sections = parents
        value = (
            yaml.safe_dump(choice.value, default_flow_style=True, width=1000).removesuffix("\n").removesuffix("\n...")
        )
        lines.append(f"{'  ' * (len(parents) + 1)}{last}: {value}   # {choice.reason}")
    return "\n".join(lines)
