"""The app with all commands, and what they share: help, errors in one line, exit codes."""

import io
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from flowerml.cli import (
    backbones,
    check,
    compare,
    encode,
    environment,
    evaluate,
    extras,
    info,
    init,
    models,
    monitor,
    output,
    predict,
    promote,
    register,
    reproduce,
    review,
    rollback,
    run_stage,
    score,
    serve,
    streams,
    summary,
    train,
    ui,
    web,
)
from flowerml.core import os_errors
from flowerml.core.errors import FlowermlError
from flowerml.core.urls import scrub_output
from flowerml.engine.parallel import thread_count

DEBUG = "--debug"
INTERRUPTED = 130


class Commands(TyperGroup):
    """The group of commands; an error becomes one line on stderr and exit code 1."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Accept --debug anywhere before a `--`."""
        options = args[: args.index("--")] if "--" in args else args
        ctx.obj = DEBUG in options
        kept = [argument for argument in options if argument != DEBUG]
        return super().parse_args(ctx, kept + args[len(options) :])

    def invoke(self, ctx: Any) -> object:
        """Run the named command."""
        try:
            return super().invoke(ctx)
        except typer.TyperException as error:
            error.message = output.safe(error.message)
            raise
        except typer.Exit:
            raise
        except KeyboardInterrupt:
            output.say("interrupted")
            raise typer.Exit(INTERRUPTED) from None
        except Exception as error:  # a stack trace tells a user nothing
            if isinstance(error, BrokenPipeError) and streams.is_pipe_closed():
                streams.discard_stdout()
                raise typer.Exit(streams.PIPE_CLOSED) from None
            if ctx.obj:
                raise
            output.print_error(_message(error, ctx.invoked_subcommand))
            raise typer.Exit(1) from None


def _message(error: Exception, command: str | None) -> str:
    """Return the error of a command in words that a user understands."""
    if isinstance(error, FlowermlError):
        return str(error)
    if isinstance(error, ModuleNotFoundError) and error.name and not error.name.startswith("flowerml"):
        return extras.message(command, error.name.partition(".")[0])
    if line := os_errors.explain_os_error(error):
        return line
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    reason = output.short(f"{type(error).__name__}: {error}", 300)
    return f"unexpected error, probably a bug: {reason}; {DEBUG} shows the stack trace"


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={
        "help_option_names": ["-h", "--help"],
        # Also accept the spelling of the Udacity course: --learning_rate, --save_dir, --top_k.
        "token_normalize_func": lambda name: name.replace("_", "-"),
    },
    help="Train a classifier on labelled pictures or texts, evaluate it, and use it.",
    epilog="flowerml COMMAND --help shows options and examples.",
)


def _print_version(requested: bool) -> None:
    if requested:
        from importlib import metadata

        print(f"flowerml {metadata.version('flowerml')}")
        raise typer.Exit


@app.callback()
def start(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", callback=_print_version)] = False,
    debug: Annotated[bool, typer.Option(DEBUG, help="Show the stack trace of an error.")] = False,
) -> None:
    """Prepare the environment and the output streams for any command."""
    environment.prepare()
    scrub_output()
    # Printing a name that is not valid UTF-8 must not fail.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    thread_count()  # a wrong FLOWERML_THREADS fails here, and not when a training of hours saves its classifier


COMMANDS = (
    init,
    check,
    review,
    backbones,
    encode,
    train,
    predict,
    score,
    evaluate,
    compare,
    models,
    info,
    register,
    promote,
    rollback,
    reproduce,
    summary,
    serve,
    monitor,
    ui,
    web,
    run_stage,
)
for command in COMMANDS:
    app.command(command.NAME, epilog=command.EXAMPLES)(command.main)
