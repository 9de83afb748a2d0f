"""`flowerml reproduce`: run a registered version again and compare the results."""

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from flowerml.cli import output

NAME = "reproduce"
EXAMPLES = """[bold]Examples[/]

  flowerml reproduce
  flowerml reproduce 3 --name reviews
  flowerml reproduce 3 --keep /tmp/version-3
"""


def main(
    version: Annotated[
        str | None, typer.Argument(metavar="[VERSION]", help="A number or an alias. Default: the alias in params.yaml.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="The registered model. Default: that of the first pipeline.")
    ] = None,
    keep: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Keep the copy in this new folder.")] = None,
    force: Annotated[bool, typer.Option(help="Run even if uncommitted changes of its code are lost.")] = False,
) -> None:
    """Run the pipeline of a registered version in a clean copy, and compare.

    The copy has the version's commit and parameters, the current Python environment, and no cached results.
    Nothing is registered.
    Exit code 0: identical, or within the stored intervals. Exit code 1: different, with the first stage that differs.
    """
    from flowerml.core.errors import FlowermlError
    from flowerml.registry import reproduce
    from flowerml.tasks.pipelines import export_section_for

    export = export_section_for(name)
    model = name or export.registered_model
    recorded = reproduce.load_recorded(model, version or export.alias)
    output.say(f"{recorded.title}, {reproduce.origin(recorded)}")
    if lost := reproduce.lost_changes(recorded):
        if not force:
            raise FlowermlError(f"{recorded.title}: {lost}; --force leaves them out")
        output.say(f"warning: {lost}")
    for remark in reproduce.remarks(recorded):
        output.say(f"note: {remark}")
    with ExitStack() as block:
        scratch = (
            _new_folder(keep) if keep else Path(block.enter_context(tempfile.TemporaryDirectory(prefix="flowerml-")))
        )
        copy = reproduce.clean_copy(recorded, Path.cwd(), scratch)
        reproduce.run(recorded, copy, scratch, on_stage=lambda stage: output.say(f"running {stage} …"))
        comparison = reproduce.compare(recorded, copy)
    if keep:
        output.say(f"kept in {copy}")
    for detail in comparison.details:
        output.say(f"  {output.short(detail, 200)}")
    output.print_text(f"{recorded.title}: {comparison}")
    if not comparison.reproduced:
        raise typer.Exit(1)


def _new_folder(folder: Path) -> Path:
    from flowerml.core.errors import FlowermlError

    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise FlowermlError(f"{folder}: already exists; --keep needs a new folder") from None
    return folder.resolve()
