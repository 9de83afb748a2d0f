"""Read the pipelines of params.yaml, each with the section types of its task."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flowerml.config.defaults import SHIPPED_PARAMS, shipped
from flowerml.config.entries import entry
from flowerml.config.inherit import gives_all, inherit
from flowerml.config.params import PARAMS_FILE, Data, Evaluate, Export, Section, Train, checked_sections, read
from flowerml.config.pin import pinned
from flowerml.config.pipeline import Pipeline
from flowerml.core.display import did_you_mean
from flowerml.core.errors import ParamsError
from flowerml.tasks.registry import TASKS


def load_pipeline(name: str, path: Path | None = None) -> Pipeline:
    """Return the pipeline `name` of params.yaml with checked sections; raises ParamsError.

    Parameters that it does not give are the defaults of its kind.
    """
    path = path or PARAMS_FILE
    values = read(path)
    given = entry(values, name, path)
    kind = given.kind
    if not isinstance(kind, str) or kind not in TASKS:
        hint = f"; {question}" if (question := did_you_mean(kind, TASKS)) else ""
        raise ParamsError(f"{path}: pipelines.{name}: expected one of {', '.join(TASKS)}, found {kind!r}{hint}")
    # An older file keeps its meaning; in a project that is pinned to a version, all defaults are those of the version.
    is_older = pinned(values, path) is None and gives_all(_types(kind), given.sections)
    sections = given.sections if is_older else inherit(given.sections, shipped(kind), name=name)
    return checked_pipeline(name, kind, sections, path=path, where=given.where)


def _types(kind: str) -> dict[str, type[Section]]:
    """Return the types of the sections of a pipeline of this kind."""
    own = TASKS[kind].section_types()
    return {"data": own.data, "encode": own.encode, "train": own.train, "evaluate": Evaluate, "export": Export}


def checked_pipeline(
    name: str,
    kind: str,
    values: Any,
    *,
    path: Path,
    root: Path = Path(),
    complete: bool = True,
    where: str | None = None,
) -> Pipeline:
    """Return a pipeline with these sections, checked; raises ParamsError, which names `path`.

    Whether they fit together is left unchecked unless they are `complete`. `where` is the dotted name of what holds
    the sections, by default `name`.
    """
    where = where or name
    sections = checked_sections(_types(kind), values, name=name, path=path, where=where)
    data, train, evaluate, export = (sections[key] for key in ("data", "train", "evaluate", "export"))
    assert isinstance(data, Data) and isinstance(train, Train)
    assert isinstance(evaluate, Evaluate) and isinstance(export, Export)
    problems = [*_problems(train), *TASKS[kind].section_types().problems(sections["encode"], train)]
    if problems and complete:
        raise ParamsError("\n".join(f"{path}: {where}.{problem}" for problem in problems))
    return Pipeline(
        name=name,
        kind=kind,
        data=data,
        encode=sections["encode"],
        train=train,
        evaluate=evaluate,
        export=export,
        root=root,
    )


def _problems(train: Train) -> Iterator[str]:
    """Yield what is wrong within the section train of any kind."""
    if train.ensemble > train.search.trials:
        yield (
            f"train.ensemble: expected at most as many networks as train.search.trials ({train.search.trials}), found "
            f"{train.ensemble}"
        )


def export_section_for(model: str | None) -> Export:
    """Return the section `export` of the pipeline that registers this model, or else of the first pipeline.

    It is read from params.yaml here, or as shipped if there is none. Raises ParamsError.
    """
    path = PARAMS_FILE if PARAMS_FILE.exists() else SHIPPED_PARAMS
    sections = [load_pipeline(pipeline, path).export for pipeline in read(path)["pipelines"]]
    return next((section for section in sections if section.registered_model == model), sections[0])
