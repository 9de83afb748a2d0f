"""The pipelines of params.yaml, read with the types of their task."""

from pathlib import Path
from typing import Any

from flowerml.config.defaults import SHIPPED_PARAMS
from flowerml.config.params import PARAMS_FILE, Data, Evaluate, Export, Section, Train, checked_sections, read
from flowerml.config.pipeline import Pipeline
from flowerml.core.errors import ParamsError
from flowerml.tasks.registry import TASKS


def load_pipeline(name: str, path: Path | None = None) -> Pipeline:
    """Return the pipeline `name` of params.yaml, all of its sections checked; raises ParamsError."""
    path = path or PARAMS_FILE
    values = read(path)
    kinds = values["pipelines"]
    if name not in kinds:
        raise ParamsError(f"{path}: no pipeline {name!r} under pipelines:; there are {', '.join(map(str, kinds))}")
    kind = kinds[name]
    if not isinstance(kind, str) or kind not in TASKS:
        raise ParamsError(f"{path}: pipelines.{name}: expected one of {', '.join(TASKS)}, found {kind!r}")
    return checked_pipeline(name, kind, values.get(name), path=path)


def checked_pipeline(name: str, kind: str, values: Any, *, path: Path, root: Path = Path()) -> Pipeline:
    """Return the pipeline with these sections once they are checked; raises ParamsError, which names `path`."""
    own = TASKS[kind].section_types()
    types: dict[str, type[Section]] = {
        "data": own.data,
        "encode": own.encode,
        "train": own.train,
        "evaluate": Evaluate,
        "export": Export,
    }
    sections = checked_sections(types, values, name=name, path=path)
    data, train, evaluate, export = (sections[key] for key in ("data", "train", "evaluate", "export"))
    assert isinstance(data, Data) and isinstance(train, Train)
    assert isinstance(evaluate, Evaluate) and isinstance(export, Export)
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


def export_section_for(model: str | None) -> Export:
    """Return the section `export` of the pipeline that registers this model; the first pipeline's where none does.

    It is read from params.yaml here, or else as it was shipped. Raises ParamsError.
    """
    path = PARAMS_FILE if PARAMS_FILE.exists() else SHIPPED_PARAMS
    sections = [load_pipeline(pipeline, path).export for pipeline in read(path)["pipelines"]]
    return next((section for section in sections if section.registered_model == model), sections[0])
