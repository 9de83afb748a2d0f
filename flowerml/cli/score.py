"""`flowerml score`: the answers to a whole source, in a file, a folder or a bucket."""

import hashlib
import tempfile
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flowerml.cli import options, output
from flowerml.config.paths import DESCRIPTION
from flowerml.core.errors import DataError, FlowermlError
from flowerml.registry.locate import default_model, resolve_model

if TYPE_CHECKING:
    from flowerml.classifier.classifier import Classifier
    from flowerml.engine.executors import Place
    from flowerml.pipeline.score import Shard, Written
    from flowerml.pipeline.score.sources import TableColumns

NAME = "score"
EXAMPLES = """[bold]Examples[/]

  flowerml score pictures/ --out answers.parquet
  flowerml score reviews.parquet --column review --keep stars --out answers.csv
  flowerml score s3://shop/photos --model models:/flowers@champion --out s3://shop/answers/
  flowerml score flowers.tar.gz --top-k 3 --workers 4 --out answers.jsonl
  flowerml score reviews.parquet --shard 3/16 --out answers/   # 1/16 to 16/16, on as many machines
  flowerml score answers/ --join --out answers.parquet         # once all have finished
"""


def main(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE", help="A table, a folder or archive of pictures or texts, or its address (s3://…)."
        ),
    ],
    out: Annotated[
        str | None,
        typer.Option(
            metavar="OUT",
            help="A file (.csv, .jsonl, .parquet), a folder of parts (a name ending in /), or s3://…",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="A folder, or models:/NAME@ALIAS. Default: the matching one in models/."),
    ] = None,
    top_k: Annotated[int, typer.Option(min=1, help="The number of classes for each input.")] = 1,
    column: Annotated[
        str | None,
        typer.Option(
            "--column",
            "--text-column",
            metavar="NAME",
            help="Column of inputs in a table, or its number from 0. Default: as in training.",
        ),
    ] = None,
    id_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Column that names the rows. Default: their numbers.")
    ] = None,
    keep: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Carry a column of the table along, as text. Repeatable.")
    ] = None,
    category_names: options.CategoryNames = None,
    shard: Annotated[
        str | None,
        typer.Option(metavar="I/N", help="Write every N-th part of a folder, from the I-th: for N commands at once."),
    ] = None,
    join: Annotated[
        bool, typer.Option("--join", help="SOURCE is a folder that shards have written: check it, and write OUT.")
    ] = False,
    engine: options.EngineOption = None,
    address: options.Address = None,
    workers: options.Workers = None,
) -> None:
    """Write the answers to a whole source: a row for each input.

    The same command resumes after a kill, and writes the same bytes whatever the number of workers. Inputs that cannot
    be read get a row with the error, and the exit code is 1.
    """
    from flowerml.classifier.classifier import Classifier
    from flowerml.pipeline.score import Shard, check_out

    place = options.use_workers(engine, address, workers)
    if join:
        _join(source, out, {"--shard": shard, "--model": model, "--keep": keep})
        return
    if out is None:
        raise typer.BadParameter("expected a file, a folder/ or s3://…", param_hint="--out")
    chosen = None if shard is None else Shard.parse(shard)
    check_out(out, chosen)
    with ExitStack() as stack:
        folder = stack.enter_context(resolve_model(model or default_model(_kind(source))))
        temporary = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flowerml-")))
        classifier = Classifier.load(folder)
        options.rename(classifier, category_names)
        columns = table_columns(classifier, column, id_column, keep or [])
        written = _score(source, out, classifier, columns, temporary, top_k=top_k, shard=chosen, place=place)
    report(written, out)


def _score(
    source: str,
    out: str,
    classifier: "Classifier",
    columns: "TableColumns",
    temporary: Path,
    *,
    top_k: int,
    shard: "Shard | None",
    place: "Place",
) -> "Written":
    from tqdm import tqdm

    from flowerml.data.download import is_url
    from flowerml.pipeline.score import score
    from flowerml.pipeline.score.sources import open_source

    _refuse_inside(source, out)
    opened = open_source(source, classifier.task, columns, temporary)
    local = None if is_url(source) or not opened.read_by_workers else Path(source).expanduser()
    with tqdm(total=opened.rows, unit="row", disable=None) as bar:
        return score(
            classifier,
            lambda: opened.stretches(output.say),
            out,
            identity={
                **identity(classifier),
                "source": opened.state,
                "columns": [columns.text, columns.id, list(columns.keep)],
            },
            place=place,
            top_k=top_k,
            keep=tuple(map(str, columns.keep)),
            sight=local,
            rows=opened.rows,
            shard=shard,
            progress=bar.update,
        )


def identity(classifier: "Classifier") -> dict[str, Any]:
    """Return what answers depend on besides their inputs, as plain data."""
    return {
        "classifier": [_digest(classifier.folder / name) for name in (DESCRIPTION, "network.onnx")],
        "names": classifier.names,
    }


def report(written: "Written", out: str) -> None:
    """Say how many answers were written; the exit code is 1 where an input cannot be read."""
    if written.resumed:
        output.say(f"resumed after {written.resumed:,} rows of {out}")
    unreadable = f", of which {written.unreadable:,} could not be read (column error)" if written.unreadable else ""
    output.print_text(f"{out}: {written.rows:,} rows{unreadable}")
    if written.unreadable:
        raise typer.Exit(1)


def table_columns(
    classifier: "Classifier", text: str | None, id: str | None, keep: list[str], *, option: str = "--column"
) -> "TableColumns":
    """Return the columns of tables: the given ones, or those that the classifier was trained on."""
    from flowerml.pipeline.score.sources import TableColumns

    trained = classifier.description.get("parameters", {})
    return TableColumns(
        trained.get("data.text_column") if text is None else _column(text),
        None if id is None else _column(id),
        trained.get("data.label_column"),
        tuple(map(_column, keep)),
        option,
        given=text is not None,
    )


def _column(given: str) -> str | int:
    return int(given) if given.isdecimal() else given


def _join(folder: str, out: str | None, given: dict[str, object]) -> None:
    from flowerml.pipeline.score import join

    if wrong := [name for name, value in given.items() if value]:
        raise typer.BadParameter(f"takes the answers as they are; leave out {', '.join(wrong)}", param_hint="--join")
    rows = join(folder, out)
    output.print_text(f"{out or folder}: {rows:,} rows")


def _kind(source: str) -> str | None:
    """Return the kind of a source's inputs, inferred from their names; None where that takes asking a bucket."""
    from flowerml.data.download import is_url
    from flowerml.pipeline.adhoc import kind_of

    if is_url(source):
        return None
    try:
        return kind_of(Path(source).expanduser())
    except DataError:  # which is reported in better words when it is opened
        return None


def _refuse_inside(source: str, out: str) -> None:
    """Raise FlowermlError for a folder of answers inside the source: it would be read as one of its tables."""
    from flowerml.data.download import is_url

    if is_url(source) and is_url(out):
        inside = PurePosixPath(source) in PurePosixPath(out).parents or source.rstrip("/") == out.rstrip("/")
    elif is_url(source) or is_url(out):
        return
    else:
        above, below = Path(source).expanduser().resolve(), Path(out).expanduser().resolve()
        inside = below.is_relative_to(above) and (out.endswith("/") or above == below)
    if inside:
        raise FlowermlError(f"{out}: lies in the source {source}, whose inputs would change; choose another --out")


def _digest(path: Path) -> str:
    with path.open("rb") as file:  # not its time: a registered version is fetched anew by each command
        return hashlib.file_digest(file, "sha256").hexdigest()
