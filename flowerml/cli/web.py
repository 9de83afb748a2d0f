"""`flowerml web`: a page to try classifiers in the browser."""

from contextlib import ExitStack
from typing import Annotated

import typer

NAME = "web"
EXAMPLES = """[bold]Examples[/]

  flowerml web
  flowerml web --model models:/flowers@champion --port 8000
  flowerml web --endpoint http://127.0.0.1:5001 --host 0.0.0.0 --allowed-host models.example.org
"""


def main(
    model: Annotated[
        list[str] | None, typer.Option(metavar="MODEL", help="A folder, or models:/NAME@ALIAS. Repeatable.")
    ] = None,
    endpoint: Annotated[
        list[str] | None,
        typer.Option(metavar="URL", help="A served model; image=URL also gives its kind. Repeatable."),
    ] = None,
    host: Annotated[str, typer.Option(help="0.0.0.0 allows other machines.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 7860,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="A name under which others reach the page, with or without :PORT. Repeatable."
        ),
    ] = None,
    top_k: Annotated[int, typer.Option(min=1, help="The number of classes to show.")] = 5,
    unsure: Annotated[float | None, typer.Option(min=0, max=1, help='Show "not sure" below this probability.')] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to wait for a served model.")] = 20.0,
) -> None:
    """Open a page to try classifiers, loaded here or served (mlflow models serve).

    Without options it has those trained by the pipelines in this folder.
    """
    from flowerml import web
    from flowerml.registry.locate import default_models, resolve_model

    models = model or ([] if endpoint else default_models())
    with ExitStack() as stack:
        folders = [stack.enter_context(resolve_model(name)) for name in models]
        web.launch(
            models=folders,
            endpoints=endpoint or [],
            host=host,
            port=port,
            top_k=top_k,
            unsure=unsure,
            timeout=timeout,
            allowed_hosts=allowed_host or [],
        )
