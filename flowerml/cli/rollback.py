"""`flowerml rollback`: return an alias to the version that had it before."""

from typing import Annotated

import typer

from flowerml.cli import output, promote

NAME = "rollback"
EXAMPLES = """[bold]Examples[/]

  flowerml rollback flowers
  flowerml rollback flowers --why "mistakes daisies for buttercups"
"""


def main(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The registered model.")],
    alias: Annotated[str | None, typer.Option(metavar="ALIAS", help="Default: the alias in params.yaml.")] = None,
    why: promote.Why = "",
) -> None:
    """Return an alias to the version that had it before. Repeat it to go further back.

    The registered model's tags `move.TIME-ID` record which version had the alias when, and this move too.
    """
    from flowerml.registry import promotion

    origin, target, alias = promotion.rollback(name, alias=alias, why=why)
    output.print_text(f"{name}@{alias} is version {target} again, was version {origin}")
