"""`flowerml promote`: give an alias to a registered version, through the gate or by force."""

from typing import Annotated

import typer

from flowerml.cli import output

NAME = "promote"
EXAMPLES = """[bold]Examples[/]

  flowerml promote flowers 3
  flowerml promote flowers 3 --force --why "judged by eye on last week's pictures"
  flowerml promote reviews 2 --alias candidate
"""

Why = Annotated[str, typer.Option("--why", metavar="TEXT", help="The reason, for the history.")]


def main(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The registered model.")],
    version: Annotated[int, typer.Argument(metavar="VERSION", min=1, help="The number of the version.")],
    alias: Annotated[str | None, typer.Option(metavar="ALIAS", help="Default: the alias in params.yaml.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Skip the gate; the history records who did.")] = False,
    why: Why = "",
) -> None:
    """Give an alias, such as champion, to a registered version.

    The gate compares what was logged with it against the version that has the alias, with the limits in params.yaml.
    If that one was measured on another test set, it is scored on the new test examples, which must be in this project.
    Each move is recorded in a tag `move.TIME-ID` of the registered model.
    """
    from flowerml.registry import promotion

    result = promotion.promote(name, str(version), alias=alias, forced=force, why=why)
    output.print_text(output.short(result, 1000))
