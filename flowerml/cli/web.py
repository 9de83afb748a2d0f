"""`flowerml web`: the page in the browser."""

from contextlib import ExitStack
from typing import Annotated

import typer

NAME = "web"
EXAMPLES = """[bold]Examples[/]

  flowerml web
  flowerml web --model models:/flowers@champion --port 8000
  flowerml web --endpoint http://127.0.0.1:5001 --host 0.0.0.0
"""


def main(
    model: Annotated[
        list[str] | None, typer.Option(metavar="MODEL", help="A folder, or models:/NAME@ALIAS; again for another.")
    ] = None,
    endpoint: Annotated[
        list[str] | None,
        typer.Option(metavar="URL", help="Of a served model, perhaps as image=URL; again for another."),
    ] = None,
    host: Annotated[str, typer.Option(help="0.0.0.0 lets other machines in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 7860,
    top_k: Annotated[int, typer.Option(min=1, help="So many classes are shown.")] = 5,
    unsure: Annotated[
        float | None, typer.Option(min=0, max=1, help='Below this probability the page says "not sure".')
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds that a served model has to answer.")] = 20.0,
) -> None:
    """Open a page that asks classifiers: here, or served ones (mlflow models serve).

    Without options it has those that the pipelines in this folder have made.
    """
    from flowerml import web
    from flowerml.registry.locate import default_models, resolve_model

    models = model or ([] if endpoint else default_models())
    with ExitStack() as stack:
        folders = [stack.enter_context(resolve_model(one)) for one in models]
        web.launch(
            models=folders,
            endpoints=endpoint or [],
            host=host,
            port=port,
            top_k=top_k,
            unsure=unsure,
            timeout=timeout,
        )
