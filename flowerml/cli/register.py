"""`flowerml register`: register a saved classifier as a version of a model."""

from pathlib import Path
from typing import Annotated

import typer

from flowerml.cli import output

NAME = "register"
EXAMPLES = """[bold]Examples[/]

  flowerml register models/my_pictures/classifier birds
  flowerml register ~/from_the_cluster/classifier birds
  flowerml register models:/birds/3 birds-mobile
"""
WORK_DIR = Path(".flowerml")  # of `flowerml train`


def main(
    model: Annotated[str, typer.Argument(metavar="FOLDER", help="A saved classifier, or an address like models:/A/3.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="The registered model.")],
    work_dir: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Folder in which `flowerml train` keeps its encodings.")
    ] = WORK_DIR,
) -> None:
    """Register a saved classifier as a new version of a model, through the gate.

    If the examples that it was trained on are still here, it is evaluated on their test split first, and takes the
    alias (champion, in params.yaml another one) if it passes. Otherwise it is registered with what is known of it.
    """
    from flowerml.classifier.classifier import Classifier
    from flowerml.pipeline import register_folder
    from flowerml.registry.locate import resolve_model
    from flowerml.registry.register import advice, check_name, summary
    from flowerml.tasks.pipelines import export_section_for
    from flowerml.tracking import connection

    check_name(name)
    connection.check()
    section = export_section_for(name).model_copy(update={"registered_model": name})
    with resolve_model(model) as folder:
        result = register_folder.run(Classifier.load(folder), section, work=work_dir)
    output.print_text(f"{summary(result)}\n{advice(result)}")
