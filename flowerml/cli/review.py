"""`flowerml review`: go through likely label errors on a page, and write a corrected table of labels."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flowerml.cli import options, output
from flowerml.cli.train import WORK_DIR, name_of, work_folder

if TYPE_CHECKING:
    from flowerml.pipeline.review import Subject
    from flowerml.review.session import Session

NAME = "review"
EXAMPLES = """[bold]Examples[/]

  flowerml review my_pictures/
  flowerml review reviews.csv --set data.text_column=review
  flowerml review flowers --finding label_error --margin 0.3
  flowerml review .flowerml --out labels.csv

[bold]Keys[/]  k keep, t take the suggested class, / another class, d drop, u undo, arrows move.

[bold]Go on[/]  flowerml train my_pictures/ --set data.split.table=my_pictures_labels.csv
"""
MAX_CARDS = 2000


def main(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="A pipeline, data as for train (folder, archive, table, URL), an examples.parquet, or a work folder.",
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The table to write or go on with. Default: NAME_labels.csv.")
    ] = None,
    finding: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Show only this finding, or mistake. Repeatable.")
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Show label errors whose other class is more probable by this; 0.3 finds more. Default: 0.7.",
        ),
    ] = None,
    mistakes: Annotated[int, typer.Option(min=0, help="How many of the model's worst mistakes to show.")] = 30,
    most: Annotated[int, typer.Option(min=1, max=MAX_CARDS, help="The largest number of cards.")] = MAX_CARDS,
    kind: Annotated[options.Kind | None, typer.Option(help="Kind of the data. Default: inferred from it.")] = None,
    category_names: options.CategoryNames = None,
    changes: options.Changes = None,
    host: Annotated[str, typer.Option(help="0.0.0.0 allows other machines, which need the whole link.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 7861,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A name by which others reach the page, with or without :PORT. Repeatable."),
    ] = None,
    work_dir: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Folder of checks and encodings, where there are none yet.")
    ] = WORK_DIR,
    open_: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
) -> None:
    """Correct labels: the examples that look wrong as cards, one key for each decision.

    The cards are likely label errors, conflicting labels, copies across splits, and the worst mistakes of the model
    that was trained last (reports/NAME/predictions.csv). Your data are not changed. Each decision is saved at once in a
    table of all examples, which data.split.table reads: it gives every example its split and label, and leaves out
    those that are dropped (split = drop). Examples added to the data later are not in it, and left out.
    Rows of a CSV or Parquet file are known by their number: review it again when rows were inserted or removed.
    """
    from flowerml.review.cards import REVIEWED

    wanted = _wanted(finding, REVIEWED)
    if not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")  # progress bars clutter a log file
    from flowerml.pipeline import review

    subject = _subject(data, kind, category_names, changes, work_dir)
    path = out or Path(f"{subject.name}_labels.csv")
    with review.open_session(
        subject, path, findings=wanted, margin=margin, most_mistakes=mistakes, most_cards=most, say=output.say
    ) as session:
        if not session.cards:
            output.print_text(f"{data}: nothing to review: no {', '.join(wanted)}")
            return
        _serve(session, host=host, port=port, allowed_hosts=allowed_host or [], opens=open_)
        _print(session)


def _subject(
    data: str,
    kind: "options.Kind | None",
    category_names: Path | None,
    changes: list[str] | None,
    work_dir: Path,
) -> "Subject":
    from flowerml.pipeline import review

    values = options.parsed(changes)
    if category_names is not None:
        values["data.category_names"] = str(category_names)
    pipeline, table = review.pipeline_named(data), review.examples_in(Path(data))
    if (pipeline or table) and (values or kind):
        raise typer.BadParameter(f"{data} has its own parameters; leave out --kind, --category-names and --set")
    if pipeline:
        return review.of_pipeline(pipeline, work_folder(work_dir), output.say)
    if table:
        return review.of_examples(table)
    given = [part for change in changes or [] for part in ("--set", change)]
    given += ["--category-names", str(category_names)] if category_names else []
    given += ["--kind", kind.value] if kind else []
    return review.of_data(
        data,
        kind and kind.value,
        values,
        given,
        name=name_of(data),
        work=work_folder(work_dir),
        say=output.say,
    )


def _wanted(findings: list[str] | None, known: tuple[str, ...]) -> tuple[str, ...]:
    from flowerml.core.display import did_you_mean

    for name in findings or ():
        if name not in known:
            hint = did_you_mean(name, known) or f"known are {', '.join(known)}"
            raise typer.BadParameter(f"no cards are called {name!r}; {hint}", param_hint="--finding")
    return tuple(name for name in known if name in findings) if findings else known


def _serve(session: "Session", *, host: str, port: int, allowed_hosts: list[str], opens: bool) -> None:
    import webbrowser

    from flowerml.review import server
    from flowerml.web.listening import wait

    counts = session.progress()["counts"]
    with server.Server(session, host=host, port=port, allowed_hosts=allowed_hosts) as running:
        going_on = f", {counts['all'] - counts['left']:,} of them done" if counts["left"] < counts["all"] else ""
        output.print_text(f"{counts['all']:,} cards{going_on}; decisions are saved in {session.table.path}")
        output.print_text(f"the page is at {running.link} (Ctrl-C stops it)")
        sys.stdout.flush()
        if opens:
            webbrowser.open(running.link)
        wait()


def _print(session: "Session") -> None:
    """Print what was decided, and how to go on."""
    if not session.table.decisions:
        output.print_text("\nno decision was made; nothing was written")
        return
    output.print_text(f"\n{session.summary()}\ntable: {session.table.path}\n  {session.texts.command}")
    for warning in session.progress()["warnings"]:
        output.say(f"warning: {warning}")
