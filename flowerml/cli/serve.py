"""`flowerml serve`: classifiers over HTTP."""

import os
from pathlib import Path
from typing import Annotated

import typer

from flowerml.cli import output

NAME = "serve"
EXAMPLES = r"""[bold]Examples[/]

  flowerml serve models/flowers
  flowerml serve models:/flowers@champion --log predictions.jsonl
  flowerml serve flowers=models:/flowers@champion reviews=models/reviews --workers 2
  FLOWERML_TOKEN=$(openssl rand -hex 32) flowerml serve models:/flowers@champion --host 0.0.0.0

[bold]Ask from a shell[/] (with a token: -H "Authorization: Bearer $FLOWERML_TOKEN")

  curl -H 'Content-Type: image/jpeg' --data-binary @rose.jpg 'http://127.0.0.1:5001/predict?top_k=3'
  curl -H 'Content-Type: text/plain' --data-binary 'I loved it' http://127.0.0.1:5001/predict
  curl -F file=@rose.jpg -F file=@tulip.jpg http://127.0.0.1:5001/predict

[bold]Ask from Python[/]

  import requests
  url, headers = "http://127.0.0.1:5001/predict", {"Content-Type": "image/jpeg"}
  answer = requests.post(url, data=open("rose.jpg", "rb"), headers=headers).json()
  print(answer["top"][0]["label"], answer["top"][0]["probability"], answer["model"]["version"])

[bold]Ask from JavaScript[/] (in a page of another site: serve with --allow-origin https://shop.example)

  const url = "http://127.0.0.1:5001/predict";
  const answer = await (await fetch(url, {method: "POST", body: input.files[0]})).json();
  console.log(answer.top[0].label, answer.top[0].probability);

[bold]Paths[/]  POST /predict, POST /invocations (as mlflow models serve); GET /health, /ready, /metrics, /openapi.json.
With several models: /models/NAME/predict, or /predict?model=NAME.
"""


def main(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="[NAME=]MODEL...", help="A folder, models:/NAME@ALIAS (followed when it moves), or runs:/RUN/NAME."
        ),
    ],
    host: Annotated[str, typer.Option(help="0.0.0.0 allows other machines, and needs a token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 5001,
    token_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The token that requests must have. Default: $FLOWERML_TOKEN, if it is set."),
    ] = None,
    no_token: Annotated[bool, typer.Option("--no-token", help="Answer anyone, without a token.")] = False,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(metavar="SITE", help="A web site whose scripts may ask, https://shop.example or *. Repeatable."),
    ] = None,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A name by which others reach it, with or without :PORT. Repeatable."),
    ] = None,
    workers: Annotated[
        int, typer.Option(min=1, help="Processes. Each holds its own copy of the models: memory grows N-fold.")
    ] = 1,
    queue: Annotated[int, typer.Option(min=1, help="Requests of a worker that may wait; further ones get 429.")] = 256,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds until a request must be answered.")] = 60.0,
    grace: Annotated[float, typer.Option(min=0, help="Seconds that requests have to end after SIGTERM.")] = 30.0,
    max_bytes: Annotated[int, typer.Option(min=1024, help="The largest body.")] = 64 * 2**20,
    poll: Annotated[float, typer.Option(min=0.1, help="Seconds from one look at the registry to the next.")] = 15.0,
    wait: Annotated[
        bool, typer.Option("--wait", help="Start without models that cannot be loaded yet, and go on trying.")
    ] = False,
    access_log: Annotated[
        bool, typer.Option("--access-log/--no-access-log", help="A line of JSON on stdout for each request.")
    ] = True,
    log: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Log predictions, and numbers of their inputs, for `flowerml monitor`."),
    ] = None,
    keep_inputs: Annotated[
        float, typer.Option(min=0, max=1, metavar="SHARE", help="Keep this share of the inputs beside the log.")
    ] = 0.0,
    drift_window: Annotated[
        int,
        typer.Option(min=0, metavar="N", help="Compare the last N predictions with the model's reference; 0: never."),
    ] = 500,
) -> None:
    """Serve classifiers over HTTP: pictures and texts as they are, JSON, and all that mlflow models serve takes.

    A model of the registry is followed: when its alias moves, the new version is loaded, checked and swapped while
    requests are answered. SIGTERM and Ctrl-C let accepted requests end; a second one ends at once.
    """
    from flowerml.engine.parallel import thread_count
    from flowerml.server.run import serve
    from flowerml.server.settings import Settings, named_models, read_token

    settings = Settings(
        models=named_models(models),
        host=host,
        port=port,
        token=None if no_token else read_token(token_file, os.environ),
        no_token=no_token,
        origins=tuple(allow_origin or ()),
        allowed_hosts=tuple(allowed_host or ()),
        workers=workers,
        threads=max(1, thread_count() // workers),
        queue=queue,
        seconds=timeout,
        grace=grace,
        max_bytes=max_bytes,
        poll=poll,
        wait=wait,
        access_log=access_log,
        log=log,
        keep_inputs=keep_inputs,
        drift_window=drift_window,
    )
    code = serve(settings, announce=_announce)
    if code:
        raise typer.Exit(code)


def _announce(lines: list[str]) -> None:
    for line in lines:
        output.say(line)
