"""params.yaml: read, checked against typed sections, and spoken of by dotted names."""

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
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

from flowerml.core.errors import ParamsError
from flowerml.data import archives, findings

PARAMS_FILE = Path("params.yaml")

Fraction = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=1)]

NOT_SEARCHED = ("search", "seed", "threads", "acceptance")  # of `train`: these change no network, or not for the better


class Section(BaseModel):
    """A part of params.yaml: every name known, every value of its type, and neither changes afterwards."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class Split(Section):
    """How examples are dealt into train, valid and test, or where it is written how they are."""

    valid: Fraction
    test: Fraction
    table: str | None

    @model_validator(mode="after")
    def _train_keeps_something(self) -> Self:
        if self.valid + self.test >= 1:
            raise ValueError("valid and test together must leave a share for train (below 1)")
        return self


class Limits(Section):
    """What a source may hold at most: a bomb, or a mistake, ends in a sentence and not in a full memory."""

    members: Count
    member_bytes: Count
    unpacked_bytes: Count

    def of_archives(self) -> archives.Limits:
        """Those that hold for every kind of data."""
        return archives.Limits(self.members, self.member_bytes, self.unpacked_bytes)


class Checks(Section):
    """From where on something about the data is told, and what stops `extract` and `encode`."""

    fail_on: list[str]
    tiny_class: Count
    imbalance: Annotated[float, Field(ge=1)]
    near_cosine: Fraction | None

    @field_validator("fail_on")
    @classmethod
    def _known(cls, names: list[str]) -> list[str]:
        return [findings.known(name) for name in names]


class Data(Section):
    """What `download` and `extract` read."""

    source: Annotated[str, Field(min_length=1)]
    sample_per_class: Count
    seed: int
    split: Split
    limit: Annotated[int, Field(ge=3)] | None
    category_names: str | None


class Range(Section):
    """A range of a search space, both ends included; `log` draws evenly over orders of magnitude."""

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
            raise ValueError(f"a log range starts above 0, not at {self.low}")
        return self


def _range_or_choices(value: Any) -> str:
    return "range" if isinstance(value, Mapping | Range) else "choices"


Candidates = Annotated[
    Annotated[Range, Tag("range")] | Annotated[list[Any], Tag("choices")], Discriminator(_range_or_choices)
]


class Search(Section):
    """How the search space is searched."""

    trials: Count
    prune: bool
    space: dict[str, Candidates]

    @field_validator("space")
    @classmethod
    def _choices_exist(cls, space: dict[str, Candidates]) -> dict[str, Candidates]:
        for name, candidates in space.items():
            if candidates == []:
                raise ValueError(f"{name} has no choices")
        return space


class Train(Section):
    """What every network that learns by gradient is trained with."""

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
    search: Search

    def gradient(self) -> dict[str, Any]:
        """The arguments of `flowerml.engine.fit.Fit`."""
        return {name: getattr(self, name) for name in Train.model_fields if name not in NOT_SEARCHED}

    def replaced(self, point: Mapping[str, Any]) -> Self:
        """This section with the values of a point of the search space in their places."""
        return type(self).model_validate({**self.model_dump(), **point})

    @model_validator(mode="after")
    def _space_names_parameters(self) -> Self:
        known = [name for name in type(self).model_fields if name not in NOT_SEARCHED]
        for name, candidates in self.search.space.items():
            if name not in known:
                raise ValueError(f"search.space: unknown parameter {name!r}{_nearest(name, known)}")
            self._check_candidates(name, candidates)
        return self

    def _check_candidates(self, name: str, candidates: Range | list[Any]) -> None:
        values = [candidates.low, candidates.high] if isinstance(candidates, Range) else candidates
        alone = {**self.model_dump(), "search": {"trials": 1, "prune": False, "space": {}}}
        for value in values:
            try:
                type(self).model_validate({**alone, name: value})
            except ValidationError as error:
                problem = error.errors()[0]
                raise ValueError(f"search.space.{name}: {_lower(problem['msg'])}, found {value!r}") from None


class Evaluate(Section):
    """How the test split is scored."""

    top_k: Count
    batch_size: Count
    resamples: Count
    gallery: Annotated[int, Field(ge=0)]


class Gate(Section):
    """What a version must hold to, to take the alias; None is no limit. See `flowerml.registry.gate`."""

    margin: Annotated[float, Field(ge=0, le=1)]
    max_recall_drop: Fraction | None
    max_ece: NotNegative | None
    max_bytes: Count | None


class Export(Section):
    """Where the finished classifier is registered, and what gives it the alias."""

    registered_model: Annotated[str, Field(pattern=r"^[^/:]+$")]
    alias: Annotated[str, Field(pattern=r"^[\w.-]+$")]
    gate: Gate

    @field_validator("alias")
    @classmethod
    def _not_reserved(cls, alias: str) -> str:
        if re.fullmatch(r"latest|v\d+", alias, re.IGNORECASE):
            raise ValueError(f"MLflow keeps {alias!r} for itself; choose another alias, such as champion")
        return alias


class Loader(yaml.SafeLoader):
    """YAML 1.2's floats, as DVC reads them: PyYAML alone takes 1e-3 for a string."""


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$"),
    list("-+.0123456789"),
)
# The resolver above would claim whole numbers too; those stay integers.
Loader.yaml_implicit_resolvers = {
    first: sorted(resolvers, key=lambda resolver: resolver[0] != "tag:yaml.org,2002:int")
    for first, resolvers in Loader.yaml_implicit_resolvers.items()
}


def read(path: Path = PARAMS_FILE) -> dict[str, Any]:
    """The whole of params.yaml; its `pipelines` (name -> kind) and one section for each are checked to exist."""
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader)
    except FileNotFoundError:
        raise ParamsError(f"{path}: not found; run this in the project's folder") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ParamsError(f"{path}: not valid YAML in UTF-8: {' '.join(str(error).split())}") from None
    pipelines = values.get("pipelines") if isinstance(values, dict) else None
    if not isinstance(pipelines, dict) or not pipelines:
        raise ParamsError(f"{path}: expected `pipelines:` with a name and its kind, such as `flowers: image`")
    for name in set(values) - {"pipelines", *pipelines}:
        raise ParamsError(f"{path}: unknown section {name!r}{_nearest(name, pipelines)}")
    return values


def sections(types: Mapping[str, type[Section]], values: Any, *, name: str, path: Path) -> dict[str, Any]:
    """The sections of the pipeline `name`; raises ParamsError with one line for each thing that is wrong."""
    whole = create_model(name, __base__=Section, **{key: (kind, ...) for key, kind in types.items()})  # type: ignore[call-overload]
    if not isinstance(values, dict):
        raise ParamsError(f"{path}: {name}: expected a section with {', '.join(types)}, found {json.dumps(values)}")
    try:
        checked = whole.model_validate(values)
    except ValidationError as error:
        lines = _explain(whole, error.errors(), name)
        raise ParamsError("\n".join(f"{path}: {line}" for line in lines)) from None
    return {key: getattr(checked, key) for key in types}


def dotted(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values as {"train.learning_rate": 0.001}; lists stay whole.

    >>> dotted({"train": {"epochs": 3, "hidden_units": []}})
    {'train.epochs': 3, 'train.hidden_units': []}
    """
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= dotted(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _explain(kind: type[Section], problems: list[Any], name: str) -> Iterator[str]:
    """One line for each problem; a name that is missing because it is misspelt is not told twice."""
    meant = {(*p["loc"][:-1], _close(p["loc"][-1], _siblings(kind, p))) for p in problems if _unknown(p)}
    for problem in problems:
        if not (problem["type"] == "missing" and problem["loc"] in meant):
            yield _line(kind, problem, name)


def _line(kind: type[Section], problem: Any, name: str) -> str:
    where = ".".join([name, *(str(part) for part in problem["loc"] if part not in ("range", "choices"))])
    if _unknown(problem):
        return f"{where}: unknown name{_nearest(problem['loc'][-1], _siblings(kind, problem))}"
    if problem["type"] == "missing":
        return f"{where}: missing; give it a value"
    if problem["type"] == "value_error":
        return f"{where}: {problem['msg'].removeprefix('Value error, ')}"
    message = _lower(problem["msg"]).replace("input should be", "expected")
    return f"{where}: {message}, found {json.dumps(problem['input'], default=str)}"


def _unknown(problem: Any) -> bool:
    return bool(problem["type"] == "extra_forbidden")


def _siblings(kind: type[BaseModel], problem: Any) -> list[str]:
    """The names that stand beside the one a problem is about."""
    if "range" in problem["loc"]:
        return list(Range.model_fields)
    return _fields(kind, [str(part) for part in problem["loc"][:-1]])


def _fields(kind: type[BaseModel], location: list[str]) -> list[str]:
    for part in location:
        inner = kind.model_fields[part].annotation if part in kind.model_fields else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return []
        kind = inner
    return list(kind.model_fields)


def _nearest(name: object, known: Iterable[object]) -> str:
    close = _close(name, known)
    return f"; did you mean {close!r}?" if close else f"; known are {', '.join(map(str, known))}"


def _close(name: object, known: Iterable[object]) -> str | None:
    return next(iter(difflib.get_close_matches(str(name), [str(one) for one in known], n=1, cutoff=0.5)), None)


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:]
