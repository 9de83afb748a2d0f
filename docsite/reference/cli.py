"""docs/reference/cli.md: every command with its usage, options and examples, as typer has them."""

import re
from collections.abc import Iterator
from itertools import groupby
from typing import Any

import typer

from docsite.reference.tables import COMMENT, code, join, table

EXIT_CODES = [
    ("0", "Done."),
    ("1", "An error, in one line on stderr; with several inputs, one of them could not be read."),
    ("2", "A wrong command line."),
    ("130", "Interrupted (Ctrl-C); the same command resumes."),
]
MARKUP = re.compile(r"\[/?[a-z]*\]")  # of rich, in epilogs
EXTRA = re.compile(r"\s*\[(required|default: [^\]]*|[^\]]*[<>]=?[^\]]*)\]$")


def page() -> str:
    """Return the page."""
    from flowerml.cli.app import DEBUG, app

    group: Any = typer.main.get_command(app)
    commands = dict(walk(group, "flowerml"))
    summary = table(
        ["command", "what it does"],
        [[f"[`{name}`](#{name.replace(' ', '-')})", _first_line(command.help)] for name, command in commands.items()],
    )
    intro = (
        f"`-h` or `--help` after a command prints what is said here. `{DEBUG}` anywhere shows the stack trace of an "
        "error. Underscores are accepted for hyphens (`--top_k`)."
    )
    return join(
        COMMENT,
        "# Command line",
        intro,
        summary,
        "## Exit codes",
        table(["code", "meaning"], [[code(number), meaning] for number, meaning in EXIT_CODES]),
        *(_section(name, command) for name, command in commands.items()),
    )


def walk(group: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield each command that is not hidden with its full name, those of groups included."""
    for part, command in group.commands.items():
        if not command.hidden:
            if hasattr(command, "commands"):
                yield from walk(command, f"{name} {part}")
            else:
                yield f"{name} {part}", command


def _section(name: str, command: Any) -> str:
    context = command.context_class(command, info_name=name)
    usage = " ".join(re.sub(r"[{}]", "", command.get_usage(context).removeprefix("Usage: ")).split())
    arguments: list[tuple[str, str]] = []
    options: list[tuple[str, str]] = []
    for parameter in command.params:
        record = parameter.get_help_record(context)
        if record and "--help" not in parameter.opts:
            (arguments if parameter.param_type_name == "argument" else options).append(record)
    return join(
        f"## {name}",
        _prose(command.help or ""),
        f"```text\n{usage}\n```",
        table(["argument", "meaning"], map(_row, arguments)) if arguments else "",
        table(["option", "meaning", "default"], (_option_row(*record) for record in options)) if options else "",
        _examples(command.epilog or ""),
    )


def _row(record: tuple[str, str]) -> list[str]:
    return [code(record[0].split(" <")[0]), EXTRA.sub("", record[1])]


def _option_row(names: str, text: str) -> list[str]:
    """Return an option with its meaning and default, which typer writes behind it in brackets."""
    match = re.search(r"\s*\[([^\[\]]*)\]$", text)
    extra = match[1] if match else ""
    meaning = text[: match.start()] if match else text
    default, limits = "", []
    for part in extra.split("; ") if extra else []:
        if part.startswith("default: "):
            default = code(part.removeprefix("default: "))
        elif part != "required":
            limits.append(part)
    meaning, said = _said_default(meaning)
    limit = f" ({code(', '.join(limits))})" if limits else ""
    return [code(names), meaning + limit, default or said]


def _said_default(meaning: str) -> tuple[str, str]:
    """Return a meaning without the sentence "Default: …", and what it says."""
    before, marker, after = meaning.partition("Default: ")
    said, dot, rest = after.partition(". ")
    if not marker:
        return meaning, ""
    return f"{before.strip()} {rest}".strip(), said.rstrip(".") if dot or after.endswith(".") else after


def _examples(epilog: str) -> str:
    """Return an epilog in Markdown: its indented lines as fences, in the language that the line above them names."""
    parts, above = [], ""
    lines = MARKUP.sub("", epilog).strip("\n").splitlines()
    for indented, group in groupby((line for line in lines if line.strip()), key=lambda line: line.startswith("  ")):
        block = "\n".join(line.strip() for line in group)
        if not indented:
            above = block.removeprefix("Examples").strip()
            parts.append(above)
        else:
            language = "python" if "Python" in above else "text" if "JavaScript" in above else "sh"
            parts.append(f"```{language}\n{block}\n```")
    return join(*parts)


def _prose(text: str) -> str:
    return MARKUP.sub("", text)


def _first_line(text: str | None) -> str:
    return _prose(text or "").split("\n\n")[0]
