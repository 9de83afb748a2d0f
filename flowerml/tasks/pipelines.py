"""Read the pipelines of params.yaml, each with the section types of its task."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flowerml.config.defaults import SHIPPED_PARAMS
from flowerml.config.params import PARAMS_FILE, Data, Evaluate, Export, Section, Train, checked_sections, read
from flowerml.config.pipeline import Pipeline
from flowerml.core.errors import ParamsError
from flowerml.tasks.registry import TASKS


def load_pipeline(name: str, path: Path | None = None) -> Pipeline:
    """Return the pipeline `name` of params.yaml with checked sections; raises ParamsError."""
    path = path or PARAMS_FILE
    values = read(path)
    kinds = values["pipelines"]
    if name not in kinds:
        raise ParamsError(f"{path}: no pipeline {name!r} under `pipelines:`; known are {', '.join(map(str, kinds))}")
    kind = kinds[name]
    if not isinstance(kind, str) or kind not in TASKS:
        raise ParamsError(f"{path}: pipelines.{name}: expected one of {', '.join(TASKS)}, found {kind!r}")
    return checked_pipeline(name, kind, values.get(name), path=path)


def checked_pipeline(
    name: str, kind: str, values: Any, *, path: Path, root: Path = Path(), complete: bool = True
) -> Pipeline:
    """Return a pipeline with these sections, checked; raises ParamsError, which names `path`.

    Whether they fit together is left unchecked unless they are `complete`.
    """
    own_types = TASKS[kind].section_types()
    types: dict[str, type[Section]] = {
        "data": own_types.data,
        "encode": own_types.encode,
        "train": own_types.train,
        "evaluate": Evaluate,
        "export": Export,
    }
    sections = checked_sections(types, values, name=name, path=path)
    data, train, evaluate, export = (sections[key] for key in ("data", "train", "evaluate", "export"))
    assert isinstance(data, Data) and isinstance(train, Train)
    assert isinstance(evaluate, Evaluate) and isinstance(export, Export)
    problems = [*_problems(train), *own_types.problems(sections["encode"], train)]
    if problems and complete:
        raise ParamsError("\n".join(f"{path}: {name}.{problem}" for problem in problems))
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
