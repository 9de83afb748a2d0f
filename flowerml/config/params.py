"""params.yaml: its schema as typed sections, and its reading."""

import json
import re
from collections.abc import Mapping
from functools import reduce
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    create_model,
    field_validator,
    model_validator,
)

from flowerml.config.errors import explain, lower_first, suggest
from flowerml.core.display import closest, one_line
from flowerml.core.errors import ParamsError
from flowerml.core.regular import read_regular
from flowerml.data import archives, findings

PARAMS_FILE = Path("params.yaml")
MAX_BYTES = 2**24  # of params.yaml
VERSION = "flowerml"  # beside the pipelines, see flowerml.config.pin

Fraction = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=1)]

# Of `train`: tuning these makes no network better. Trials for an ensemble may differ in their seed.
NOT_SEARCHED = ("search", "seed", "threads", "acceptance", "ensemble", "ensemble_by", "repeats", "refit", "examples")


class Section(BaseModel):
    """An immutable part of params.yaml: unknown names and values of the wrong type are errors."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class Split(Section):
    """The shares of examples in valid and test, or the table that assigns examples to splits."""

    valid: Fraction
    test: Fraction
    table: str | None

    @model_validator(mode="after")
    def _train_keeps_something(self) -> Self:
        if self.valid + self.test >= 1:
            raise ValueError("valid and test together must leave a share for train (below 1)")
        return self


class Limits(Section):
    """Upper limits on a source, so that an archive bomb or a mistake is an error and does not exhaust the memory."""

    members: Count
    member_bytes: Count
    unpacked_bytes: Count

    def of_archives(self) -> archives.ArchiveLimits:
        """Return the limits on archives, which are the same for every kind of data."""
        return archives.ArchiveLimits(self.members, self.member_bytes, self.unpacked_bytes)


class Checks(Section):
    """The thresholds of the data checks, and the findings that stop `extract` and `encode`."""

    fail_on: list[str]
    tiny_class: Count
    imbalance: Annotated[float, Field(ge=1)]
    near_cosine: Fraction | None

    @field_validator("fail_on")
    @classmethod
    def _known(cls, names: list[str]) -> list[str]:
        return [findings.validate_name(name) for name in names]


class Data(Section):
    """The parameters of `download` and `extract`; each task adds checks and limits of its own."""

    source: Annotated[str, Field(min_length=1)]
    sample_per_class: Count
    seed: int
    split: Split
    limit: Annotated[int, Field(ge=3)] | None
    category_names: str | None
    checks: Checks
    limits: Limits


class Range(Section):
    """A range of a search space, both ends included; `log` samples it on a logarithmic scale."""

    # Any and a validator: for a union pydantic would report an error for each of its members.
    low: Any
    high: Any
    log: bool = False

    @field_validator("low", "high")
    @classmethod
    def _number(cls, value: Any) -> float | int:
        if isinstance(value, bool) or not isinstance(value, float | int):
            raise ValueError(f"expected a number, found {json.dumps(value, default=str)}")
        return value

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low ({self.low}) must be below high ({self.high})")
        if self.log and self.low <= 0:
            raise ValueError(f"a log range must start above 0, found {self.low}")
        return self


def _range_or_choices(value: Any) -> str:
    return "range" if isinstance(value, Mapping | Range) else "choices"


Candidates = Annotated[
    Annotated[Range, Tag("range")] | Annotated[list[Any], Tag("choices")], Discriminator(_range_or_choices)
]


class Search(Section):
    """The hyperparameter search: number of trials, pruning, and the space.

    The first `head_trials` train a head on frozen features; the others take the best head's choices and fine-tune.
    Trial n is chosen, and pruned, by the results of the trials 0 … n - `ahead`: so many may run at the same time.
    """

    trials: Count
    ahead: Count = 1  # a default, as older files lack it
    prune: bool
    head_trials: Annotated[int, Field(ge=0)] = 0  # a default, as older files lack it
    space: dict[str, Candidates]

    @field_validator("space")
    @classmethod
    def _choices_exist(cls, space: dict[str, Candidates]) -> dict[str, Candidates]:
        for name, candidates in space.items():
            if candidates == []:
                raise ValueError(f"{name} has no choices")
        return space


class Train(Section):
    """The training parameters that all networks share."""

    seed: int
    threads: Count | None
    learning_rate: Positive
    batch_size: Count
    epochs: Count
    optimizer: Literal["adamw", "adam", "sgd"]
    weight_decay: NotNegative
    schedule: Literal["constant", "cosine", "one_cycle"]
    label_smoothing: Fraction
    patience: Count | None
    class_weights: Literal["balanced"] | None
    acceptance: Share
    ensemble: Count = 1  # a default, as older files lack it; so are the next four
    ensemble_by: Literal["probabilities", "soup"] = "probabilities"
    repeats: Count = 1
    refit: bool = False
    examples: Annotated[int, Field(ge=0, le=24)] = 6
    search: Search

    def trainer_arguments(self) -> dict[str, Any]:
        """Return the keyword arguments of `flowerml.engine.fit.Trainer`."""
        return {name: getattr(self, name) for name in Train.model_fields if name not in NOT_SEARCHED}

    @property
    def planned_epochs(self) -> int:
        """The number of epochs of a training that is neither pruned nor stopped early."""
        return self.epochs

    def searched(self) -> dict[str, Candidates]:
        """Return the part of the search space that matters to the networks that may be trained."""
        return self.search.space

    def head_alone(self) -> Self | None:
        """Return the section of the head's own trials, with their search; None where only a head can be trained."""
        return None

    def head_choices(self) -> dict[str, Any]:
        """Return the values that a fine-tuned trial takes from the best trial of the head alone."""
        return {}

    def refitted(self, chosen: Mapping[str, float]) -> Self:
        """Return the section of a training on train and valid, after one on train that has `chosen` by itself."""
        return self

    def value(self, name: str) -> Any:
        """Return the value of a parameter; one of a part of this section has a dotted name."""
        return reduce(getattr, name.split("."), self)

    def with_values(self, point: Mapping[str, Any]) -> Self:
        """Return a copy of this section with the values of a point of the search space, by their dotted names."""
        return type(self).model_validate(_with_dotted(self.model_dump(), point))

    @classmethod
    def searchable(cls) -> dict[str, Any]:
        """Return the type of each parameter that may be searched, by its dotted name."""
        return {name: kind for name, kind in _types(cls).items() if name.partition(".")[0] not in NOT_SEARCHED}

    @model_validator(mode="after")
    def _head_trials_leave_some(self) -> Self:
        heads, trials = self.search.head_trials, self.search.trials
        if heads and heads >= trials:
            raise ValueError(f"search.head_trials ({heads}) must be below search.trials ({trials})")
        if heads and self.head_alone() is None:
            raise ValueError("search.head_trials: no part of these networks is frozen but for a head; set it to 0")
        return self

    @model_validator(mode="after")
    def _space_names_parameters(self) -> Self:
        known = [*self.searchable(), *(["seed"] if self.ensemble > 1 else [])]
        for name, candidates in self.search.space.items():
            if name not in known:
                raise ValueError(f"search.space: unknown parameter {name!r}{suggest(name, known)}")
            self._check_candidates(name, candidates)
        return self

    def _check_candidates(self, name: str, candidates: Range | list[Any]) -> None:
        values = [candidates.low, candidates.high] if isinstance(candidates, Range) else candidates
        without_space = {**self.model_dump(), "search": {"trials": 1, "prune": False, "space": {}}}
        for value in values:
            try:
                type(self).model_validate(_with_dotted(without_space, {name: value}))
            except ValidationError as error:
                problem = error.errors()[0]
                raise ValueError(f"search.space.{name}: {lower_first(problem['msg'])}, found {value!r}") from None


def _types(section: type[Section], prefix: str = "") -> dict[str, Any]:
    """Return the type of each parameter of a section and of its parts, by its dotted name."""
    types: dict[str, Any] = {}
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            types |= _types(field.annotation, f"{prefix}{name}.")
        else:
            types[f"{prefix}{name}"] = field.annotation
    return types


def _with_dotted(values: Mapping[str, Any], point: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of nested values with others by their dotted names; what is unknown is left to the schema."""
    changed = dict(values)
    for name, value in point.items():
        first, _, rest = name.partition(".")
        part = changed.get(first)
        changed[first] = _with_dotted(part if isinstance(part, Mapping) else {}, {rest: value}) if rest else value
    return changed


class Evaluate(Section):
    """How the test split is scored."""

    top_k: Count
    batch_size: Count
    resamples: Count
    gallery: Annotated[int, Field(ge=0)]


class Gate(Section):
    """The conditions for a version to take the alias; None is no limit. See `flowerml.registry.gate`."""

    margin: Annotated[float, Field(ge=0, le=1)]
    max_recall_drop: Fraction | None
    max_ece: NotNegative | None
    max_bytes: Count | None


class Export(Section):
    """The registered model, its alias, and the gate that a version must pass to take the alias.

    `promote` is when a version that passes takes the alias from one on real data: by `dvc repro` only, by experiments
    (`dvc exp run`) as well, or never by the stage `export`.
    """

    registered_model: Annotated[str, Field(pattern=r"^[^/:]+$")]
    alias: Annotated[str, Field(pattern=r"^[\w.-]+$")]
    promote: Literal["repro", "always", "never"] = "repro"  # a default, as older files lack it
    gate: Gate

    @field_validator("alias")
    @classmethod
    def _not_reserved(cls, alias: str) -> str:
        if re.fullmatch(r"latest|v\d+", alias, re.IGNORECASE):
            raise ValueError(f"MLflow reserves the alias {alias!r}; choose another one, such as champion")
        return alias


class Loader(yaml.SafeLoader):
    """A YAML loader that reads floats as YAML 1.2 and DVC do; plain PyYAML reads 1e-3 as a string.

    >>> yaml.load("1e-3", Loader), yaml.safe_load("1e-3")
    (0.001, '1e-3')
    """


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$"),
    list("-+.0123456789"),
)
# The resolver above also matches whole numbers: try the resolver of integers first.
Loader.yaml_implicit_resolvers = {
    first: sorted(resolvers, key=lambda resolver: resolver[0] != "tag:yaml.org,2002:int")
    for first, resolvers in Loader.yaml_implicit_resolvers.items()
}


def read(path: Path = PARAMS_FILE) -> dict[str, Any]:
    """Return the contents of params.yaml; raises ParamsError unless its sections are those of `pipelines`."""
    try:
        values = yaml.load(read_regular(path, limit=MAX_BYTES).decode("utf-8"), Loader)
    except FileNotFoundError:
        raise ParamsError(f"{path}: not found; run this in the project's folder") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ParamsError(f"{path}: not valid YAML in UTF-8: {one_line(error)}") from None
    pipelines = values.get("pipelines") if isinstance(values, dict) else None
    if not isinstance(pipelines, dict) or not pipelines:
        misspelt = closest("pipelines", values) if isinstance(values, dict) and "pipelines" not in values else []
        hint = "".join(f"; did you mean it by {name!r}?" for name in misspelt)
        raise ParamsError(f"{path}: expected `pipelines:` with a name and its kind, such as `flowers: image`{hint}")
    for name in set(values) - {"pipelines", VERSION, *pipelines}:
        raise ParamsError(f"{path}: unknown section {name!r}{suggest(name, ['pipelines', VERSION, *pipelines])}")
    return values


def checked_sections(
    types: Mapping[str, type[Section]], values: Any, *, name: str, path: Path, where: str | None = None
) -> dict[str, Section]:
    """Return the checked sections of the pipeline `name`; raises ParamsError with one line for each problem.

    `where` is the dotted name that the lines begin with, by default `name`.
    """
    where = where or name
    whole = create_model(name, __base__=Section, **{key: (kind, ...) for key, kind in types.items()})  # type: ignore[call-overload]
    if not isinstance(values, dict):
        raise ParamsError(f"{path}: {where}: expected a section with {', '.join(types)}, found {json.dumps(values)}")
    try:
        checked = whole.model_validate(values)
    except ValidationError as error:
        lines = explain(whole, error.errors(), where)
        raise ParamsError("\n".join(f"{path}: {line}" for line in lines)) from None
    return {key: getattr(checked, key) for key in types}
