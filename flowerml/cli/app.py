"""The commands together, and what they share: help, errors in a line, exit codes."""

import io
import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from flowerml.cli import check, evaluate, info, models, output, predict, promote, reproduce, rollback, train, web
from flowerml.core import os_errors
from flowerml.core.errors import FlowermlError

DEBUG = "--debug"
INTERRUPTED = 130
# Nothing phones home, and MLflow tells of errors only.
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
}


class Commands(TyperGroup):
    """The commands; an error that is meant for a person is told in a line, and ends with exit code 1."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """--debug is understood wherever it stands, up to a `--`."""
        options = args[: args.index("--")] if "--" in args else args
        ctx.obj = DEBUG in options
        kept = [one for one in options if one != DEBUG]
        return super().parse_args(ctx, kept + args[len(options) :])

    def invoke(self, ctx: Any) -> object:
        """Run the command that was named."""
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.TyperException, BrokenPipeError):
            raise
        except KeyboardInterrupt:
            output.say("interrupted")
            raise typer.Exit(INTERRUPTED) from None
        except Exception as error:  # whatever it is, its trace says nothing to a person who only wants to use this
            if ctx.obj:
                raise
            output.tell_error(_explained(error))
            raise typer.Exit(1) from None


def _explained(error: Exception) -> str:
    """What a person can make of an error."""
    if isinstance(error, FlowermlError):
        return str(error)
    if isinstance(error, ModuleNotFoundError) and error.name and not error.name.startswith("flowerml"):
        return f"this needs {error.name}, which is not installed; say: pip install {error.name}"
    if line := os_errors.explain_os_error(error):
        return line
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    reason = output.short(f"{type(error).__name__}: {error}", 300)
    return f"this should not have happened: {reason}; {DEBUG} shows where"


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={
        "help_option_names": ["-h", "--help"],
        # The course's spelling: --learning_rate, --save_dir, --top_k.
        "token_normalize_func": lambda name: name.replace("_", "-"),
    },
    help="From a folder of pictures or a pile of texts to a classifier, and its answers.",
    epilog="flowerml COMMAND --help tells more, with examples.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"flowerml {version('flowerml')}")
        raise typer.Exit


@app.callback()
def start(
    shown: Annotated[bool, typer.Option("--version", help="Print the version.", callback=_print_version)] = False,
    debug: Annotated[bool, typer.Option(DEBUG, help="Show the stack trace of an error.")] = False,
) -> None:
    """What every command begins with."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    # What is printed must not fail for a name that is no UTF-8.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


for command in (check, train, predict, evaluate, models, info, promote, rollback, reproduce, web):
    app.command(command.NAME, epilog=command.EXAMPLES)(command.main)
