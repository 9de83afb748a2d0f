"""`flowerml init`: a new project."""

import importlib.util
import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flowerml.cli import extras, options, output
from flowerml.core.errors import DataError, FlowermlError
from flowerml.core.urls import without_password

if TYPE_CHECKING:
    from flowerml.project.templated import Project

NAME = "init"
EXAMPLES = """[bold]Examples[/]

  flowerml init flowers --image
  flowerml init birds --source my_pictures/
  flowerml init tickets --source tickets.csv -S data.text_column=Document -S data.label_column=Topic
  flowerml init --upgrade
"""


def main(
    folder: Annotated[
        str | None, typer.Argument(metavar="DIR", help="The project's folder: a new one, or one without such files.")
    ] = None,
    image: Annotated[bool, typer.Option("--image", help="Pictures. Default: inferred from the source.")] = False,
    text: Annotated[bool, typer.Option("--text", help="Texts. Default: inferred from the source.")] = False,
    kind: Annotated[options.Kind | None, typer.Option(hidden=True)] = None,
    source: Annotated[
        str | None,
        typer.Option(metavar="SOURCE", help="Folder, archive, table, URL or published name. Default: drawn samples."),
    ] = None,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Name of pipeline and registered model. Default: that of DIR.")
    ] = None,
    values: options.Changes = None,
    upgrade: Annotated[
        bool, typer.Option("--upgrade", help="Move the project in DIR, by default here, to the installed version.")
    ] = False,
) -> None:
    """Write a new project: stages for `dvc repro`, a short params.yaml, a Makefile and a git repository.

    Its stages call the installed flowerml, in the version that params.yaml names. A SOURCE outside of DIR is written as
    an absolute path, one inside relative to DIR.
    """
    chosen = [*(["image"] if image else []), *(["text"] if text else []), *([kind.value] if kind else [])]
    if len(set(chosen)) > 1:
        raise typer.BadParameter("a pipeline is of one kind; give one, and add another pipeline to params.yaml later")
    if upgrade:
        if chosen or source is not None or name is not None or values:
            raise typer.BadParameter(
                "moves a project that is there; leave out the other options", param_hint="--upgrade"
            )
        _upgrade(Path(folder or "."))
    elif "data.source" in (given := options.parsed(values)):
        raise typer.BadParameter("name the source with --source, which makes its path right", param_hint="--set")
    elif not folder:  # an empty one is a variable of a script that is not set, and not this folder
        raise typer.BadParameter("name the project's folder, such as `flowerml init flowers --image`", param_hint="DIR")
    else:
        _create(Path(folder), chosen[0] if chosen else None, source, name, given)


def _create(folder: Path, kind: str | None, source: str | None, name: str | None, values: dict[str, Any]) -> None:
    from flowerml.config import pin
    from flowerml.pipeline.download import SAMPLE
    from flowerml.project import changes, create, templated
    from flowerml.project.templated import Project

    title = folder.resolve().name
    name = _name(name, title)
    given = SAMPLE if source is None else _source(source, folder, name)
    version = pin.installed()
    if version is None:
        raise FlowermlError("this flowerml runs from a folder and has no version to pin; run: pip install flowerml")
    project = Project(output.safe(title), name, _kind(kind, source), given, version)
    changes.check(values, name=name, kind=project.kind, path=Path("options"))
    texts = templated.render(project)
    texts["params.yaml"] = changes.apply(texts["params.yaml"], values, name=name)
    committed = create.create(folder, texts)
    _print_created(folder, project, committed=committed)


def _name(given: str | None, title: str) -> str:
    from flowerml.project.scalars import RESERVED, is_name, name_from

    if given is not None and not is_name(given):
        raise typer.BadParameter(
            f"expected letters, digits, _ and - with a letter in front, and none of {', '.join(sorted(RESERVED))}; "
            f"found {given!r}, such as {name_from(given)!r}",
            param_hint="--name",
        )
    return given or name_from(title)


def _kind(kind: str | None, source: str | None) -> str:
    """Return the kind of a project, by the user or by its source; raises FlowermlError where neither says."""
    from flowerml.data.catalogue import PUBLISHED
    from flowerml.data.download import is_url
    from flowerml.pipeline import adhoc
    from flowerml.pipeline.download import SAMPLE

    published = PUBLISHED.get(source or "")
    if published and kind not in (None, published.kind):
        raise DataError(f"{source}: is of kind {published.kind}, not {kind}; leave out --{kind}")
    if published:
        return published.kind
    if kind is not None:
        return kind
    if source is None or source == SAMPLE or is_url(source):
        raise typer.BadParameter("say which inputs it is for: --image or --text")
    return adhoc.kind_of(Path(source).expanduser())


def _source(source: str, folder: Path, name: str) -> str:
    """Return a source as params.yaml shall have it: a path relative to the project if inside, else absolute."""
    from flowerml.core.display import did_you_mean
    from flowerml.data.catalogue import PUBLISHED
    from flowerml.data.download import is_url
    from flowerml.pipeline.download import SAMPLE

    if source == SAMPLE or source in PUBLISHED or is_url(source):
        return source
    path, project = Path(source).expanduser(), folder.resolve()
    if not path.exists():
        hint = f" ({question})" if (question := did_you_mean(source, PUBLISHED)) else ""
        raise DataError(
            f"{source}: does not exist (relative to {Path.cwd()}); expected a folder, archive or table of labelled "
            f"examples, a URL, or one of {', '.join(PUBLISHED)}{hint}"
        )
    # A link itself is not resolved, as it may be meant to lead to other data later.
    absolute = path.resolve() if path.name in ("", "..") else path.parent.resolve() / path.name
    if absolute.is_relative_to(project / "data" / name):
        raise DataError(
            f"{source}: data/{name} is where the pipeline {name} keeps its own files; choose another --name"
        )
    if absolute == project or project.is_relative_to(absolute):
        raise DataError(f"{source}: the project would lie in its own data; choose a DIR outside of it")
    return str(absolute.relative_to(project) if absolute.is_relative_to(project) else absolute)


def _print_created(folder: Path, project: "Project", *, committed: bool) -> None:
    here = folder.resolve() == Path.cwd()
    source = output.safe(project.source)
    output.print_text(
        f"{folder.resolve()}: a project of kind {project.kind}; its pipeline {project.name} reads {source}\n"
    )
    lines = [] if here else [(f"cd {shlex.quote(str(folder))}", "")]
    lines += [
        *(
            []
            if committed
            else [('git add -A && git commit -m "A new project"', "results name the commit they are from")]
        ),
        ("dvc repro", "get the data, train, evaluate and register"),
        (f"flowerml serve models:/{project.name}@champion", "answer on http://127.0.0.1:5001/predict"),
        ("flowerml ui", "the runs and models in MLflow"),
        ("flowerml web", f"try the model on a page{extras.page_note('; ')}"),
    ]
    width = max(len(command) for command, purpose in lines if purpose)
    for command, purpose in lines:
        output.print_text(f"  {command:{width}}   # {purpose}" if purpose else f"  {command}")
    if without_password(project.source) != project.source:
        output.say("warning: params.yaml holds the password of the source now; do not publish it")
    if hint := _missing():
        output.say(hint)


def _missing() -> str | None:
    """Return what to do before `dvc repro` where it cannot run yet."""
    if importlib.util.find_spec("dvc") is None or importlib.util.find_spec("torch") is None:
        return "training needs more packages; run: pip install 'flowerml[train]'"
    if absent := [program for program in ("dvc", "flowerml") if shutil.which(program) is None]:
        return f"{' and '.join(absent)}: not on PATH; activate the environment, or run `make install` and `make repro`"
    return None


def _upgrade(folder: Path) -> None:
    from flowerml.project import upgrade

    result = upgrade.upgrade(folder)
    if not result.changed:
        output.print_text(f"flowerml {result.after} is what the project is pinned to already; nothing to change")
    else:
        output.print_text(
            f"{' and '.join(result.changed)}: flowerml {result.before} -> {result.after}\n"
            "next: `dvc repro` runs the stages again; a model is registered only if its results change"
        )
    if not result.has_new_stages:
        output.say(
            f"dvc.yaml is another one than flowerml {result.after} writes, which is no error; to compare: "
            "`flowerml init NEW_DIR --image` and a diff"
        )
