"""`flowerml rollback`: give an alias back to the version that had it before."""

from typing import Annotated

import typer

from flowerml.cli import promote

NAME = "rollback"
EXAMPLES = """[bold]Examples[/]

  flowerml rollback flowers
  flowerml rollback flowers --why "mistakes daisies for buttercups"
"""


def main(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the registered model.")],
    alias: Annotated[str | None, typer.Option(metavar="ALIAS", help="Default: that of params.yaml.")] = None,
    why: promote.Why = "",
) -> None:
    """Give an alias back to the version that had it before; again, to the one before that.

    What had it when is told by the registered model's tag `history`, which this adds to.
    """
    from flowerml.registry import promotion

    origin, target, alias = promotion.rollback(name, alias=alias, why=why)
    print(f"{name}@{alias} is version {target} again, was version {origin}")
