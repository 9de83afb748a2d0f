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

Why = Annotated[str, typer.Option("--why", metavar="TEXT", help="Why, for the trace.")]


def main(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the registered model.")],
    version: Annotated[int, typer.Argument(metavar="VERSION", min=1, help="Its number.")],
    alias: Annotated[str | None, typer.Option(metavar="ALIAS", help="Default: that of params.yaml.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Whatever the gate says; the trace tells who did.")] = False,
    why: Why = "",
) -> None:
    """Give an alias, such as champion, to a registered version.

    The gate judges it again, by what was logged with it, against the version that has the alias, and with the limits of
    params.yaml. Each move stands in the registered model's tag `history`.
    """
    from flowerml.registry import promotion

    result = promotion.promote(name, str(version), alias=alias, forced=force, why=why)
    print(output.short(result, 1000))
